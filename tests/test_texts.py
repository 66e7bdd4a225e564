import codecs
import gzip
import io
import re
import zipfile

import pytest
from PIL import Image

from rsrl_lib.files import InputError
from rsrl_lib.reading.texts import read_text

TABLE = "photo,score\n\N{LATIN SMALL LETTER E WITH ACUTE}.jpg,4\n"


def zipped(name):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, "x")
    return stream.getvalue()


def picture(kind):
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, kind)
    return stream.getvalue()


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_text_is_read_with_a_mark_and_without(tmp_path, mark):
    (tmp_path / "t.csv").write_bytes(mark + TABLE.encode())
    assert read_text(tmp_path / "t.csv", "a table") == TABLE


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "it is empty); give a table."),
        (codecs.BOM_UTF8 + b" \n", "it is empty); give a table."),
        (zipped("xl/workbook.xml"), "a spreadsheet or another zip archive); give a table: save it"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Microsoft Office); give a table: save it"),
        (b"%PDF-1.7 ...", "a PDF"),
        (gzip.compress(TABLE.encode(), mtime=0), "a compressed file); give a table: unpack it"),
        (picture("JPEG"), "a picture"),
        (picture("PNG"), "a picture"),
        (b"\n <!DOCTYPE HTML><html>", "a web page); give a table: download the file itself"),
        (b"<html lang=en>", "a web page"),
        (b"<?xml version='1.0'?><Workbook/>", "an XML file); give a table: save it"),
        (TABLE.encode("utf-16"), "text in UTF-16); give a table: save it in UTF-8"),
        (TABLE.encode("utf-16-le"), "text in UTF-16"),
        (TABLE.encode("utf-16-be"), "text in UTF-16"),
        (TABLE.encode("latin-1"), "line 2 is not utf-8, it has the byte 0xe9); give a table: save"),
        (b"a,b\r\n1,2\r\n\xff", "line 3 is not utf-8, it has the byte 0xff"),
        (b"\0\1\2\3" * 99, "it is no text"),
    ],
)
def test_what_is_no_text_is_named_with_what_to_do(tmp_path, content, says):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(InputError, match=re.escape(says)) as caught:
        read_text(tmp_path / "t.csv", "a table")
    assert str(caught.value).startswith(f"{tmp_path / 't.csv'} cannot be read (")


def test_a_file_that_is_not_there_is_told_with_one_that_may_be_meant(tmp_path):
    (tmp_path / "scores.csv").write_text(TABLE, "utf-8")
    for given, says in (
        ("scors.csv", f"(No such file); give the name of a file that exists, such as {tmp_path}/"),
        ("zzz.toml", "(No such file); give the name of a file that exists."),
        ("no/scores.csv", f"(No such file: there is no folder {tmp_path / 'no'}); give the name"),
        ("x" * 300, "(File name too long); give the name of a file that exists."),
        (".", f"(it is a folder); give a file in it, such as {tmp_path / 'scores.csv'}."),
    ):
        with pytest.raises(InputError, match=re.escape(says)):
            read_text(tmp_path / given, "a table")
