"""How figures are said on the page of findings: numbers, intervals, tables, and checked words."""

import pandas as pd

from rsrl_lib.files import InputError


def signed(value: float) -> str:
    return f"{value:+.2f}"


def interval(low: float, high: float, digits: int = 2) -> str:
    return f"[{low:+.{digits}f}, {high:+.{digits}f}]"


def percent(share: float, digits: int = 0) -> str:
    return f"{100 * share:.{digits}f} %"


def markdown(table: pd.DataFrame) -> str:
    """A table of words, without its index."""
    rows = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)


def check(what: str, verdict: str, expected: str) -> None:
    if verdict != expected:
        raise InputError(
            f"The words say that this is {expected!r}, the tables say {verdict!r}: {what}; "
            "correct the words."
        )


def with_bounds(row: pd.Series, digits: int = 3) -> str:
    """A mean with its interval."""
    return f"{row['mean']:.{digits}f} [{row.low:.{digits}f}, {row.high:.{digits}f}]"
