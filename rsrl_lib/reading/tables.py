"""Tables of text: columns by header or position, and numbers with the line they stand in.

Traded away: tables larger than memory.
"""

import difflib
import io
import re
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from rsrl_lib.files import File, InputError, Note
from rsrl_lib.reading.sheets import cells_of_workbook, is_workbook
from rsrl_lib.reading.texts import read_content, text_of_table

NAMES = ("photo", "path", "reason", "digest", "cell", "dataset", "labels", "arm")
NAMES += ("fingerprint", "scores_fingerprint", "group", "attribute")
NEEDED = "a UTF-8 table"
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
SEPARATOR_LINE = r"\ufeff?\"?sep=(?P<separator>[,;\t])\"?[ \t]*(\r\n|\r|\n)"
"""By which a table tells Excel what stands between its cells, above the columns' names."""
DECIMAL_COMMA = r"[+-]?\d*,\d+"
DECIMAL_POINT = r"[+-]?\d*\.\d+"
THOUSANDS = r"[+-]?[1-9]\d{0,2},\d{3}"


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

    `options` are those of the command line that say which header has a name. What is read otherwise
    than it stands, such as a header in other letters, is told in a `Note`.
    """
    cells = _all_cells(path, separator)
    has_headers = any(isinstance(header, str) for header in columns.values())
    if has_headers:
        headers = [header.strip().strip("\ufeff").strip() for header in cells.iloc[0]]
        row = cells.index[0]
        cells = cells.iloc[1:]
        positions = _positions(row, headers, columns, options or {})
        under_own_names = {header: headers.index(header) for header in headers}
        columns = under_own_names | positions
    named = {name: cells.get(position, "") for name, position in columns.items()}
    table = pd.DataFrame(named, cells.index)
    table = table.apply(lambda column: column.str.strip())
    is_filled = (table != "").any(axis=1)
    return table[is_filled]


def _all_cells(path: Path, separator: str) -> pd.DataFrame:
    """All cells of a text or of an Excel table as strings, by position; index "file line n"."""
    content = read_content(path, NEEDED)
    if is_workbook(content):
        cells = cells_of_workbook(path, content)
        lines = np.arange(1, len(cells) + 1)
    else:
        text = text_of_table(path, content, NEEDED)
        declared = re.match(SEPARATOR_LINE, text, re.IGNORECASE)
        if declared:
            separator = separator or declared["separator"]
            text = text[declared.end() :]
        cells = _cells(path, text, separator)
        lines = _lines(cells, text) + bool(declared)
    cells.index = f"{path} line " + pd.Index(lines.astype(str))
    _check_one_separator(cells)
    return cells


def _check_one_separator(cells: pd.DataFrame) -> None:
    """`InputError` where every row stands in one cell and has separators of another kind."""
    rows = cells.iloc[1:]
    rows = rows[rows[0] != ""]
    if rows.empty or len(cells.columns) == 1 or (rows.iloc[:, 1:] != "").any(axis=None):
        return
    for separator, name in SEPARATORS.items():
        if rows[0].str.contains(separator, regex=False).all():
            raise InputError(
                f"{cells.index[0]}, the columns' names, has other separators than {rows.index[0]}, "
                f"which has {name}; separate all rows in one way."
            )


def _cells(path: Path, text: str, separator: str) -> pd.DataFrame:
    """All cells as strings, by position; without a separator, the one most frequent at the top."""
    try:
        head = re.match(r"[^\r\n]*", text)[0]
        separator = separator or max(SEPARATORS, key=head.count)
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


def _positions(
    row: str,
    headers: list[str],
    columns: dict[str, str | int],
    options: Mapping[str, str],
) -> dict[str, int]:
    """Position of each column by its header, as it stands or else in other letters (`Note`).

    Raises `InputError` where one is not there once.
    """
    positions = {}
    missing = []
    read_as = []
    for name, header in columns.items():
        places = _places(headers, header)
        if len(places) != 1:
            missing.append(name)
            continue
        positions[name] = places[0]
        found = headers[places[0]]
        if found != header:
            read_as.append(f"{found!r} is read as {header!r}")
    if missing:
        raise _no_column(row, headers, columns, missing, options)
    if read_as:
        told = ", ".join(dict.fromkeys(read_as))
        sentence = f"{row}, the columns' names: {told}."
        warnings.warn(sentence, Note, stacklevel=3)
    return positions


def _places(headers: list[str], header: str | int) -> list[int]:
    """Where a header stands; where it does not, where it does in other letters."""
    if isinstance(header, int):
        return [header]
    exact = [place for place, found in enumerate(headers) if found == header]
    if exact:
        return exact
    wanted = _folded(header)
    return [place for place, found in enumerate(headers) if _folded(found) == wanted]


def _folded(header: str) -> str:
    """A header without what the eye passes over: case, blanks, marks of no width."""
    visible = re.sub(r"[\s\ufeff\u200b]", "", header)
    return visible.casefold()


def _no_column(
    row: str,
    headers: list[str],
    columns: dict[str, str | int],
    missing: list[str],
    options: Mapping[str, str],
) -> InputError:
    """An error that tells which headers are not there once, and the options that choose others."""
    needed = []
    counts = []
    meant = []
    choices = []
    for name in missing:
        header = columns[name]
        count = headers.count(header)
        needed.append(f"one column {header!r}")
        counts.append(str(count))
        several = re.split(r"[,;\s]+", header)
        if len(several) > 1 and set(several) <= set(headers):
            meant.append(f"{' '.join(several)} with blanks between")
        elif not count:
            meant += map(repr, _meant(headers, header))
        if name in options and options[name] not in choices:
            choices.append(options[name])
    found = (
        f"{row}, the columns' names, "
        f"needs {' and '.join(needed)}, has {' and '.join(counts)}"
    )
    if meant:
        found += f" (did you mean {' or '.join(dict.fromkeys(meant))}?)"
    there = ", ".join(headers)
    if not choices:
        return InputError(f"{found}; correct it: there are {there}.")
    return InputError(
        f"{found}; correct it or choose among {there} by {' and '.join(choices)}."
    )


def _meant(headers: list[str], header: str) -> list[str]:
    """Headers that may be meant by one that is not there."""
    alike = [headers[place] for place in _places(headers, header)]
    if alike:
        return alike
    by_folded = {_folded(found): found for found in headers}
    near = difflib.get_close_matches(_folded(header), by_folded, 2)
    return [by_folded[name] for name in near]


def are_numbers(cells: pd.Series) -> bool:
    """Whether any of the cells is a number, with a point or a comma."""
    has_comma = cells.str.fullmatch(DECIMAL_COMMA)
    return bool(has_comma.any() or pd.to_numeric(cells, errors="coerce").notna().any())


def numbers(
    table: pd.DataFrame,
    column: str,
    kind: str = "finite",
    least: float = -1e15,
    most: float = 1e15,
) -> np.ndarray:
    """The column as float64 or, where `kind` is "whole", int64; `InputError` for the first cell
    that is no such number from `least` to `most`.

    Commas are read as decimal ones, with a `Note`, where all of the column can be nothing else.
    """
    cells = table[column]
    values = pd.to_numeric(cells, errors="coerce").to_numpy(float)
    if np.isnan(values).any() and not is_numeric_dtype(cells):
        cells = _with_points(cells, column)
        values = pd.to_numeric(cells, errors="coerce").to_numpy(float)
    is_within = (least <= values) & (values <= most)
    is_bad = ~is_within  # NaN too
    if kind == "whole":
        is_bad |= np.floor(values) != values
    if is_bad.any():
        cell = str(cells[is_bad].iloc[0])
        row = table.index[is_bad][0]
        bounds = ""
        if (least, most) != (-1e15, 1e15):
            bounds = f" in {least:g}..{most:g}"
        meant = _number_meant(cell)
        meant = f" (did you mean {meant}?)" if meant else ""
        example = "4.5, with a point" if "," in cell else "4"
        raise InputError(
            f"{row}: {column} '{cell}' is not a {kind} number{bounds}{meant}; "
            f"write a number such as {example}."
        )
    return values.astype(np.int64) if kind == "whole" else values


def _with_points(cells: pd.Series, column: str) -> pd.Series:
    """The cells with points for decimal commas, where every comma among them is one.

    Raises `InputError` where it may stand between thousands, or others have a point.
    """
    has_comma = cells.str.contains(",", regex=False)
    with_comma = cells[has_comma]
    if not len(with_comma) or not with_comma.str.fullmatch(DECIMAL_COMMA).all():
        return cells
    row = with_comma.index[0]
    cell = with_comma.iloc[0]
    with_point = cell.replace(",", ".")
    has_point = cells.str.fullmatch(DECIMAL_POINT)
    if has_point.any():
        other = cells[has_point]
        raise InputError(
            f"{row}: {column} '{cell}' has a comma, and '{other.iloc[0]}' in {other.index[0]} a "
            f"point (did you mean {with_point}?); write all numbers with a point, such as 4.5."
        )
    if with_comma.str.fullmatch(THOUSANDS).all():
        without = cell.replace(",", "")
        raise InputError(
            f"{row}: {column} '{cell}' may have a decimal comma, or one between thousands (did you "
            f"mean {with_point} or {without}?); write numbers with a point, such as 4.5."
        )
    warnings.warn(
        f"{row}: {column} '{cell}' is read as {with_point}; cells of the column with a decimal "
        f"comma: {len(with_comma)} of {len(cells)}.",
        Note,
        stacklevel=3,
    )
    return cells.str.replace(",", ".", regex=False)


def _number_meant(cell: str) -> str:
    """The number that a cell may mean, whose last sign is the decimal one; else nothing."""
    signs = re.findall(r"[.,]", cell)
    joined = re.sub(r"(?<=\d)[\s'\u2019](?=\d{3})", "", cell)
    if len(set(signs)) == 2:
        whole, fraction = re.split(r"[.,](?=[^.,]*$)", joined)
        joined = f"{re.sub('[.,]', '', whole)}.{fraction}"
    elif len(signs) == 1:
        joined = joined.replace(",", ".")
    is_another = joined != cell and re.fullmatch(r"[+-]?\d*\.?\d+", joined)
    return joined if is_another else ""
