"""Tables of text: columns by header or position, and numbers with the line they stand in.

Traded away: tables larger than memory.
"""

import io
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from rsrl_lib.files import File, InputError
from rsrl_lib.reading.texts import read_text

NAMES = ("photo", "path", "reason", "digest", "cell", "dataset", "labels", "arm")
NAMES += ("fingerprint", "scores_fingerprint")


def read_ours(path: File) -> pd.DataFrame:
    """A CSV that this library wrote: `NAMES` as they were given, since a photo or an arm may be
    called `NA`, `None`, `007` or `1e5`; elsewhere a number is missing where nothing stands."""
    names = dict.fromkeys(NAMES, str)
    return pd.read_csv(path, dtype=names, keep_default_na=False, na_values=[""])


def read_table(
    path: Path,
    columns: dict[str, str | int],
    separator: str = "",
    *,
    options: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Columns of a table as strings, index "file line n"; `columns`: name -> header or position.

    `options` are those of the command line that say which header has a name.
    """
    text = read_text(path, "a UTF-8 table")
    try:
        head = re.match(r"[^\r\n]*", text)[0]
        separator = separator or max(",;\t", key=head.count)
        if len(re.split(separator, head, maxsplit=2000)) > 2000:
            raise ValueError("more than 2000 columns")
        how = {
            "dtype": str,
            "keep_default_na": False,
            "skip_blank_lines": False,
            "header": None,
        }
        cells = pd.read_csv(
            io.StringIO(text, newline=None), sep=separator, **how
        ).fillna("")
    except ValueError as error:  # pandas counts rows from 0, but lines from 1
        found = re.sub(
            r"row (\d+)", lambda n: f"line {int(n[1]) + 1}", str(error).strip()
        )
        needed = "a UTF-8 table, every row as long as the first, text with separators in quotes"
        raise InputError(f"{path} cannot be read ({found}); give {needed}.") from error
    lines = np.arange(1, len(cells) + 1)
    if '"' in text:  # quoted fields may hold line ends
        lines[1:] += (
            cells.apply(lambda c: c.str.count("\n"))
            .sum(axis=1)
            .cumsum()
            .to_numpy()[:-1]
        )
    cells.index = f"{path} line " + pd.Index(lines.astype(str))
    if any(isinstance(name, str) for name in columns.values()):
        names, cells = list(cells.iloc[0].str.strip()), cells.iloc[1:]
        _check_names(path, names, columns, options or {})
        columns = dict(zip(names, names, strict=True)) | columns
        columns = {ours: names.index(theirs) for ours, theirs in columns.items()}
    places = {name: cells.get(place, "") for name, place in columns.items()}
    table = pd.DataFrame(places, cells.index)
    table = table.apply(lambda column: column.str.strip())
    return table[(table != "").any(axis=1)]


def _check_names(
    path: Path,
    names: list[str],
    columns: dict[str, str | int],
    options: Mapping[str, str],
) -> None:
    """`InputError` where a header is not there once, with the options that choose another one."""
    wrong = {
        ours: theirs for ours, theirs in columns.items() if names.count(theirs) != 1
    }
    if not wrong:
        return
    needed = " and ".join(f"one column {theirs!r}" for theirs in wrong.values())
    counts = " and ".join(str(names.count(theirs)) for theirs in wrong.values())
    found = f"{path} line 1, the columns' names, needs {needed}, has {counts}"
    chosen_by = " and ".join(
        dict.fromkeys(options[ours] for ours in wrong if ours in options)
    )
    if not chosen_by:
        raise InputError(f"{found}; correct it: there are {', '.join(names)}.")
    raise InputError(
        f"{found}; correct it or choose among {', '.join(names)} by {chosen_by}."
    )


def numbers(
    table: pd.DataFrame, column: str, kind: str = "finite", least=-1e15, most=1e15
):
    values = pd.to_numeric(table[column], errors="coerce").to_numpy(float)
    bad = ~((least <= values) & (values <= most))  # NaN too
    bad |= (kind == "whole") & (np.floor(values) != values)
    if bad.any():
        value = table[column][bad].iloc[0]
        found = f"{table.index[bad][0]}: {column} '{value}' is not a {kind} number"
        if (least, most) != (-1e15, 1e15):
            found += f" in {least:g}..{most:g}"
        such = "4.5, with a point" if re.fullmatch(r"-?\d+,\d+", str(value)) else "4"
        raise InputError(f"{found}; write a number such as {such}.")
    return values.astype(np.int64) if kind == "whole" else values
