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
NAMES += ("fingerprint", "scores_fingerprint", "group", "attribute")


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
    cells = _cells(path, text, separator)
    lines = _lines(cells, text)
    cells.index = f"{path} line " + pd.Index(lines.astype(str))
    has_headers = any(isinstance(header, str) for header in columns.values())
    if has_headers:
        headers = list(cells.iloc[0].str.strip())
        cells = cells.iloc[1:]
        _check_headers(path, headers, columns, options or {})
        under_own_names = dict(zip(headers, headers, strict=True))
        columns = under_own_names | columns
        columns = {name: headers.index(header) for name, header in columns.items()}
    named = {name: cells.get(position, "") for name, position in columns.items()}
    table = pd.DataFrame(named, cells.index)
    table = table.apply(lambda column: column.str.strip())
    is_filled = (table != "").any(axis=1)
    return table[is_filled]


def _cells(path: Path, text: str, separator: str) -> pd.DataFrame:
    """All cells as strings, by position; without a separator, the one most frequent at the top."""
    try:
        head = re.match(r"[^\r\n]*", text)[0]
        separator = separator or max(",;\t", key=head.count)
        headers = re.split(separator, head, maxsplit=2000)
        if len(headers) > 2000:
            raise ValueError("more than 2000 columns")
        cells = pd.read_csv(
            io.StringIO(text, newline=None),
            sep=separator,
            dtype=str,
            keep_default_na=False,
            skip_blank_lines=False,
            header=None,
        )
        return cells.fillna("")
    except ValueError as error:
        found = re.sub(r"row (\d+)", _row_as_line, str(error).strip())
        needed = "a UTF-8 table, every row as long as the first, text with separators in quotes"
        raise InputError(f"{path} cannot be read ({found}); give {needed}.") from error


def _row_as_line(row: re.Match[str]) -> str:
    """Pandas counts rows from 0, but lines from 1."""
    return f"line {int(row[1]) + 1}"


def _lines(cells: pd.DataFrame, text: str) -> np.ndarray:
    """The line that each row begins in, from 1."""
    lines = np.arange(1, len(cells) + 1)
    if '"' in text:  # quoted fields may hold line ends
        inner_ends = cells.apply(lambda column: column.str.count("\n"))
        further_lines = inner_ends.sum(axis=1).cumsum().to_numpy()
        lines[1:] += further_lines[:-1]
    return lines


def _check_headers(
    path: Path,
    headers: list[str],
    columns: dict[str, str | int],
    options: Mapping[str, str],
) -> None:
    """`InputError` where a header is not there once, with the options that choose another one."""
    needed = []
    counts = []
    choices = []
    for name, header in columns.items():
        count = headers.count(header)
        if count == 1:
            continue
        needed.append(f"one column {header!r}")
        counts.append(str(count))
        if name in options and options[name] not in choices:
            choices.append(options[name])
    if not needed:
        return
    found = (
        f"{path} line 1, the columns' names, "
        f"needs {' and '.join(needed)}, has {' and '.join(counts)}"
    )
    there = ", ".join(headers)
    if not choices:
        raise InputError(f"{found}; correct it: there are {there}.")
    raise InputError(
        f"{found}; correct it or choose among {there} by {' and '.join(choices)}."
    )


def numbers(
    table: pd.DataFrame,
    column: str,
    kind: str = "finite",
    least: float = -1e15,
    most: float = 1e15,
) -> np.ndarray:
    """The column as float64 or, where `kind` is "whole", int64; `InputError` for the first cell
    that is no such number from `least` to `most`."""
    cells = table[column]
    values = pd.to_numeric(cells, errors="coerce").to_numpy(float)
    is_within = (least <= values) & (values <= most)
    is_bad = ~is_within  # NaN too
    if kind == "whole":
        is_bad |= np.floor(values) != values
    if is_bad.any():
        cell = cells[is_bad].iloc[0]
        row = table.index[is_bad][0]
        bounds = ""
        if (least, most) != (-1e15, 1e15):
            bounds = f" in {least:g}..{most:g}"
        has_comma = re.fullmatch(r"-?\d+,\d+", str(cell))
        example = "4.5, with a point" if has_comma else "4"
        raise InputError(
            f"{row}: {column} '{cell}' is not a {kind} number{bounds}; "
            f"write a number such as {example}."
        )
    return values.astype(np.int64) if kind == "whole" else values
