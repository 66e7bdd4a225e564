"""The table in a workbook of Excel (.xlsx), as cells of text."""

import io
import warnings
import zipfile
from pathlib import Path

import pandas as pd

from rsrl_lib.files import InputError, Note, needing, reading

AS_CSV = "save its table as CSV in UTF-8"
MOST_BYTES = 500_000_000
"""Of a workbook, unpacked: a small file may hold any number of them."""
MOST_COLUMNS = 2000


def is_workbook(content: bytes) -> bool:
    """Whether bytes are a workbook of Excel 2007 or later, and not another zip archive."""
    if not content.startswith(b"PK\x03\x04"):
        return False
    try:
        names = zipfile.ZipFile(io.BytesIO(content)).namelist()
    except Exception:  # damaged, for which zipfile raises anything
        return False
    return "xl/workbook.xml" in names


def cells_of_workbook(path: Path, content: bytes) -> pd.DataFrame:
    """All cells of the only sheet that holds any, as strings, by position.

    A `Note` names the sheet. Raises `InputError` without the package openpyxl, for a workbook that
    is damaged, and where several sheets hold something.
    """
    with needing(f"The Excel table {path}", "excel"):
        import openpyxl
    with reading(path, "Excel table", AS_CSV), warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # of what openpyxl passes over, such as drawings
        _check_size(content)
        workbook = openpyxl.load_workbook(
            io.BytesIO(content), read_only=True, data_only=True
        )
        sheets = {}
        for sheet in workbook.worksheets:
            rows = _rows(sheet)
            if rows:
                sheets[sheet.title] = rows
        _check_only_one(path, sheets)
    title, rows = next(iter(sheets.items()))
    warnings.warn(f"{path} is an Excel table; its sheet {title!r} is read.", Note, 3)
    width = max(map(len, rows))
    padded = [row + [""] * (width - len(row)) for row in rows]
    return pd.DataFrame(padded, dtype=str)


def _check_size(content: bytes) -> None:
    unpacked = zipfile.ZipFile(io.BytesIO(content)).infolist()
    if sum(part.file_size for part in unpacked) > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES / 1e6:g} MB unpacked")


def _rows(sheet) -> list[list[str]]:
    """Rows of a sheet down to the last one that holds something."""
    sheet.reset_dimensions()  # some programs write wrong ones
    rows = []
    last = 0
    for row in sheet.iter_rows(values_only=True):
        cells = [_as_text(value) for value in row]
        if len(cells) > MOST_COLUMNS:
            raise ValueError(f"more than {MOST_COLUMNS} columns")
        rows.append(cells)
        if any(cells):
            last = len(rows)
    return rows[:last]


def _as_text(value: object) -> str:
    """What a cell holds, a whole number without a fraction."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def _check_only_one(path: Path, sheets: dict[str, list]) -> None:
    """`InputError` where none or several sheets hold something."""
    if not sheets:
        raise InputError(f"{path} cannot be read (it is empty); give a table.")
    if len(sheets) > 1:
        titles = " or ".join(map(repr, sheets))
        raise InputError(
            f"{path} has {len(sheets)} sheets that hold something (did you mean {titles}?); keep "
            f"the one with the table, or {AS_CSV}."
        )
