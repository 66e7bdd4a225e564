"""A user's text file as text, or a sentence about what it is instead."""

import codecs
import difflib
import re
import warnings
from pathlib import Path

from rsrl_lib.files import File, InputError, Note

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
MARKS = {  # the longer one first, as it begins with the other
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
WESTERN = "cp1252"
"""Latin-1 as Windows writes it: Excel's plain "CSV" in Western Europe and America."""
LETTER_OF_UTF_8 = re.compile(
    rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}"
)
# Macintosh has its most frequent letters where Windows has rare ones, and signs that do not stand
# within a word.
OF_MACINTOSH = re.compile(
    rb"[\x83\x8a\x8c\x8e\x9a\x9c\x9e\x9f]"
    rb"|(?<=[A-Za-z])[\x80-\x91\x93-\x95\x98-\x9f](?=[A-Za-z])"
)
OTHER_ALPHABET = re.compile(rb"[\xc0-\xff]{4}|[\x80-\xff]{6}")
"""So many letters beyond ASCII in a row are Cyrillic, Greek or the like."""


def read_text(path: File, needed: str) -> str:
    """Text of a UTF-8 file, with a mark at its beginning or without.

    Raises `InputError` where it is missing, empty or something else; `needed` says what was to be
    given, such as "a UTF-8 table".
    """
    content = read_content(path, needed)
    check_kind(path, content, needed)
    if _is_of_two_bytes(content):
        kind, remedy = UTF_16
        raise _unreadable(path, f"it is {kind}", f"{needed}: {remedy}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = _not_utf_8(content, error.start)
        raise _unreadable(path, found, f"{needed}: {IN_UTF_8}") from error


def text_of_table(path: File, content: bytes, needed: str) -> str:
    """Text of a table's bytes: UTF-8 or, with a `Note` that says so, UTF-16 or Western letters.

    Raises `InputError` for anything else, and where the bytes may stand for other letters.
    """
    check_kind(path, content, needed)
    try:
        mark = next((mark for mark in MARKS if content.startswith(mark)), b"")
        if mark or _is_of_two_bytes(content):
            name, code = _code_of_two_bytes(content, mark)
            text = content.decode(code)
            _tell(path, name)
            return text
    except UnicodeDecodeError as error:
        found = f"it begins as text in {name} and is none: {error.reason}"
        raise _unreadable(path, found, f"{needed}: {IN_UTF_8}") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = _not_utf_8(content, error.start)
        reason = _why_not_western(content)
        if reason:
            found = f"{found}, and {reason}"
            raise _unreadable(path, found, f"{needed}: {IN_UTF_8}") from error
    text = content.decode(WESTERN)
    _tell(path, "the letters of Western Europe (Windows-1252, Latin-1)")
    return text


def _tell(path: File, letters: str) -> None:
    """Say that a table is read that is not in UTF-8."""
    warnings.warn(
        f"{path} is not in UTF-8 and is read as {letters}.", Note, stacklevel=4
    )


def _is_of_two_bytes(content: bytes) -> bool:
    """Whether a text is UTF-16: by its mark, or as every second byte of Latin letters is zero."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return True
    start = content[:2000]
    zeros = start.count(0) / max(1, len(start))
    return 0.4 < zeros <= 0.5


def _code_of_two_bytes(content: bytes, mark: bytes) -> tuple[str, str]:
    """What such a text is called, and the code that reads it, which takes its mark away."""
    if mark:
        name = MARKS[mark]
        return name, name.lower()
    start = content[:2000]
    low_first = start[1::2].count(0) > start[0::2].count(0)
    return "UTF-16", "utf-16-le" if low_first else "utf-16-be"


def _why_not_western(content: bytes) -> str:
    """Why bytes that are no UTF-8 cannot be told to be Western letters; empty where they can."""
    both = LETTER_OF_UTF_8.search(content)
    if both:
        line = _line_of(content, both.start())
        return f"line {line} is, so that two encodings are mixed"
    other = OF_MACINTOSH.search(content)
    if other:
        byte = content[other.start()]
        line = _line_of(content, other.start())
        return (
            f"the byte 0x{byte:02x} in line {line} is one letter on Windows and another on a "
            "Macintosh"
        )
    other = OTHER_ALPHABET.search(content)
    if other:
        line = _line_of(content, other.start())
        return (
            f"the letters in line {line} may be of another alphabet than the Latin one"
        )
    try:
        content.decode(WESTERN)
    except UnicodeDecodeError as error:
        return f"not Windows-1252 either (byte 0x{content[error.start]:02x})"
    return ""


def _not_utf_8(content: bytes, place: int) -> str:
    line = _line_of(content, place)
    return f"line {line} is not utf-8, it has the byte 0x{content[place]:02x}"


def _line_of(content: bytes, place: int) -> int:
    """The line, from 1, that a byte stands in."""
    return len(re.findall(rb"\r\n|\r|\n", content[:place])) + 1


def _unreadable(path: File, found: str, needed: str) -> InputError:
    return InputError(f"{path} cannot be read ({found}); give {needed}.")


def read_content(path: File, needed: str) -> bytes:
    """Bytes of a file; `InputError` where it is missing, with what may be meant, or empty."""
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
        raise _unreadable(path, reason, instead) from error
    if not content.removeprefix(codecs.BOM_UTF8).strip():
        raise _unreadable(path, "it is empty", needed)
    return content


def check_kind(path: File, content: bytes, needed: str) -> None:
    """`InputError` that says what a file is which is no text."""
    other = _something_else(content)
    if other:
        kind, remedy = other
        raise _unreadable(path, f"it is {kind}", f"{needed}: {remedy}")


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
    """What a file is that is no text, and what to do, by its first bytes."""
    for beginning, other in FIRST_BYTES.items():
        if content.startswith(beginning):
            return other
    if content.startswith(tuple(MARKS)) or _is_of_two_bytes(content):
        return None
    start = content[:2000].removeprefix(codecs.BOM_UTF8).lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return WEB_PAGE
    if start.startswith(b"<?xml"):
        return "an XML file", AS_CSV
    if start.count(0) / max(1, len(start)) > 0.1:
        return "no text", "name a text file"
    return None
