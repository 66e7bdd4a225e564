"""A user's text file as text, or a sentence about what it is instead."""

import codecs
import difflib
import re
from pathlib import Path

from rsrl_lib.files import File, InputError

AS_CSV = "save it from there as CSV in UTF-8"
FIRST_BYTES = {  # of what is given where a table or a grid is needed
    b"PK\x03\x04": ("a spreadsheet or another zip archive", f"{AS_CSV}, or unpack it"),
    b"\xd0\xcf\x11\xe0": ("a spreadsheet or document of Microsoft Office", AS_CSV),
    b"%PDF": ("a PDF", "take the table that it was made from"),
    b"{\\rtf": ("a formatted document (RTF)", "save it as plain text in UTF-8"),
    b"PAR1": ("a Parquet table", "write it as CSV"),
    b"SQLite": ("a database", "export the table as CSV"),
    b"\x1f\x8b": ("a compressed file", "unpack it"),
    b"\xff\xd8": ("a picture", "name the table of the pictures"),
    b"\x89PNG": ("a picture", "name the table of the pictures"),
}
IN_UTF_8 = "save it in UTF-8 (Excel: 'CSV UTF-8')"
UTF_16 = "text in UTF-16", IN_UTF_8
WEB_PAGE = "a web page", "download the file itself, not the page that shows it"


def read_text(path: File, needed: str) -> str:
    """Text of a UTF-8 file, with a mark at its beginning or without.

    Raises `InputError` where it is missing, empty or something else; `needed` says what was to be
    given, such as "a UTF-8 table".
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        try:
            reason = _why_not_there(path, error)
            instead = _instead(path)
        except OSError:  # nor can its folder be asked
            reason = error.strerror
            instead = "the name of a file that exists"
        raise InputError(
            f"{path} cannot be read ({reason}); give {instead}."
        ) from error
    other = _something_else(content)
    if other:
        kind, remedy = other
        raise InputError(
            f"{path} cannot be read (it is {kind}); give {needed}: {remedy}."
        )
    if not content.removeprefix(codecs.BOM_UTF8).strip():
        raise InputError(f"{path} cannot be read (it is empty); give {needed}.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line = len(re.findall(rb"\r\n|\r|\n", before)) + 1
        byte = content[error.start]
        reason = f"line {line} is not utf-8, it has the byte 0x{byte:02x}"
        raise InputError(
            f"{path} cannot be read ({reason}); give {needed}: {IN_UTF_8}."
        ) from error


def _why_not_there(path: Path, error: OSError) -> str:
    if path.is_dir():
        return "it is a folder"
    if not isinstance(error, FileNotFoundError):
        return error.strerror or str(error)
    if not path.parent.is_dir():
        return f"No such file: there is no folder {path.parent}"
    return "No such file"


def _instead(path: Path) -> str:
    """What may be meant by a path that is no file."""
    if path.is_dir():
        tables = sorted(file for file in path.iterdir() if file.suffix == ".csv")
        if not tables:
            return "the name of a file"
        return f"a file in it, such as {tables[0]}"
    if not path.parent.is_dir():
        return "the name of a file that exists"
    names = [file.name for file in path.parent.iterdir() if file.is_file()]
    near = difflib.get_close_matches(path.name, names, 1)
    if not near:
        return "the name of a file that exists"
    return f"the name of a file that exists, such as {path.with_name(near[0])}"


def _something_else(content: bytes) -> tuple[str, str] | None:
    """What a file is that is no UTF-8 text, and what to do, by its first bytes."""
    for beginning, other in FIRST_BYTES.items():
        if content.startswith(beginning):
            return other
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return UTF_16
    start = content[:2000].removeprefix(codecs.BOM_UTF8).lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return WEB_PAGE
    if start.startswith(b"<?xml"):
        return "an XML file", AS_CSV
    zeros = start.count(0) / max(1, len(start))
    if 0.4 < zeros <= 0.5:  # every second byte of Latin letters
        return UTF_16
    if zeros > 0.1:
        return "no text", "name a text file"
    return None
