"""Tables as people have them: read where they can mean one thing alone, and that is told."""

import codecs
import io
import sys

import numpy as np
import pandas as pd
import pytest

from rsrl_lib import sources
from rsrl_lib.files import InputError, Note
from rsrl_lib.reading import names, sheets, tables
from rsrl_lib.sources import checked
from tests.test_photos import message, own, touch

E_ACUTE = "\N{LATIN SMALL LETTER E WITH ACUTE}"


@pytest.fixture
def folder(tmp_path):
    """Photos, some in a sub-folder; files beside them that are none."""
    folder = tmp_path / "my_photos"
    touch(
        folder,
        "a.jpg",
        "b.jpg",
        "2019/Cat.PNG",
        f"2019/caf{E_ACUTE}.jpg",
        "a.xmp",
        "2019/Cat.nef",
        "007.jpg",
    )
    return folder


def told(folder, text, **options):
    """The photos and scores of a table, and what is said of how it was read."""
    with pytest.warns(Note) as notes:
        scored = own(folder, text, **options)
    read = list(zip(scored.table.photo, scored.table.mean_score, strict=True))
    return read, [str(note.message) for note in notes]


def test_a_clean_table_is_read_without_a_word(folder, recwarn):
    own(folder, "photo,score\na.jpg,4.5\n2019/Cat.PNG,6\n")
    assert not recwarn.list


@pytest.mark.parametrize("first", ["sep=;\n", '"sep=;"\r\n', "\ufeffSEP=; \n"])
def test_a_line_that_tells_excel_the_separator_is_no_row(folder, recwarn, first):
    scored = own(folder, first + "photo;score\na.jpg;4.5\n\n2019/Cat.PNG;6\n")
    assert scored.table.mean_score.tolist() == [4.5, 6]
    assert not recwarn.list
    with pytest.raises(InputError, match=r"scores\.csv line 4: score 'good'"):
        own(folder, first + "photo;score\na.jpg;4.5\nb.jpg;good\n")
    with pytest.raises(InputError, match=r"scores\.csv line 2, the columns' names, needs one"):
        own(folder, first + "photo;note\na.jpg;4.5\n")


def test_names_that_begin_like_such_a_line_are_names(folder):
    scored = own(folder, "sep=1,photo,score\n1,a.jpg,4\n1,b.jpg,5\n")
    assert scored.table.photo.tolist() == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize(
    "text",
    [
        "photo;score\na.jpg;4,5\nb.jpg;6\n",
        'photo,score\na.jpg,"4,5"\nb.jpg,"6"\n',
        "photo\tscore\na.jpg\t4,5\nb.jpg\t6,000\n",
    ],
    ids=["semicolons", "quotes", "tabs"],
)
def test_decimal_commas_are_read_where_all_of_a_column_are(folder, text):
    read, said = told(folder, text)
    assert read == [("a.jpg", 4.5), ("b.jpg", 6)]
    assert len(said) == 1 and "line 2: score '4,5' is read as 4.5; cells" in said[0]


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        (["4,5", "1,234.5"], "line 2: score '4,5' is not a finite number (did you mean 4.5?)"),
        (
            ["1,234.5", "4,5"],
            "line 2: score '1,234.5' is not a finite number (did you mean 1234.5?",
        ),
        (["1.234,5", "5"], "score '1.234,5' is not a finite number (did you mean 1234.5?)"),
        (["1,234", "2,500"], "line 2: score '1,234' may have a decimal comma, or one between tho"),
        (["1,234", "5"], "(did you mean 1.234 or 1234?); write numbers with a point"),
        (["4,5", "4.5"], "'4,5' has a comma, and '4.5' in "),
        (["5", "1 234"], "line 3: score '1 234' is not a finite number (did you mean 1234?)"),
        (["5", "1'234"], "(did you mean 1234?)"),
        (["4,5", "good"], "line 3: score 'good' is not a finite number; write"),
    ],
)
@pytest.mark.filterwarnings("ignore::rsrl_lib.files.Note")
def test_commas_that_may_mean_two_things_are_refused_with_both(folder, cells, says):
    text = "photo;score\n" + "".join(
        f"{name};{cell}\n" for name, cell in zip(("a.jpg", "b.jpg"), cells, strict=True)
    )
    with pytest.raises(InputError, match=message(says)):
        own(folder, text)


def test_a_decimal_comma_is_read_in_every_column_and_every_table(folder):
    (folder / "votes.csv").write_text("photo;score\na.jpg;4,0\nb.jpg;5\n")
    text = "photo;score;mean;sharp\na.jpg;4;4,25;0,5\nb.jpg;5;5,5;0,75\n"
    more = {"mean_column": "mean", "attribute_columns": ["sharp"]}
    with pytest.warns(Note) as notes:
        scored = own(folder, text, votes=folder / "votes.csv", **more)
    assert scored.table.mean_score.tolist() == [4.25, 5.5]
    assert scored.attributes["sharp"].tolist() == [0.5, 0.75]
    assert scored.votes.loc["a.jpg"].to_dict() == {4: 1, 5: 0}
    assert len(notes) == 3


@pytest.mark.parametrize(
    ("given", "file"),
    [
        ("a", "a.jpg"),
        ("A.JPG", "a.jpg"),
        ("cat", "2019/Cat.PNG"),
        ("Cat.PNG", "2019/Cat.PNG"),
        ("2019\\Cat.PNG", "2019/Cat.PNG"),
        (".\\2019\\cat", "2019/Cat.PNG"),
        ("2019/cat.png", "2019/Cat.PNG"),
        ("my_photos/2019/Cat.PNG", "2019/Cat.PNG"),
        ("C:\\Users\\me\\My_Photos\\2019\\Cat.PNG", "2019/Cat.PNG"),
        ("cafe\N{COMBINING ACUTE ACCENT}.jpg", f"2019/caf{E_ACUTE}.jpg"),
    ],
)
def test_a_name_that_one_photo_alone_can_have_is_that_photo(folder, given, file):
    read, said = told(folder, f"photo,score\n{given},4\nb.jpg,5\n")
    assert read == [(file, 4), ("b.jpg", 5)]
    assert len(said) == 1 and f"is read as {file}; names that differ" in said[0]
    assert "scores.csv line 2" in said[0] and said[0].endswith(": 1.")


@pytest.mark.parametrize(
    ("given", "more", "meant"),
    [
        ("b", "2019/b.jpg", "2019/b.jpg or b.jpg"),
        ("cat", "2020/cat.jpg", "2019/Cat.PNG or 2020/cat.jpg"),
        ("A.Jpg", "A.JPG", "A.JPG or a.jpg"),
        ("a", "a.png", "a.jpg or a.png"),
    ],
)
def test_a_name_that_two_photos_can_have_is_refused_with_both(folder, given, more, meant):
    touch(folder, more)
    with pytest.raises(InputError, match=message("line 2: the photo", "did you mean")) as caught:
        own(folder, f"photo,score\n{given},4\nb.jpg,5\n")
    said = str(caught.value).split("did you mean ")[1].split("?")[0]
    assert sorted(said.split(" or ")) == sorted(meant.split(" or "))


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("2020/Cat.PNG", "2019/Cat.PNG"),
        ("Cat.jpeg", "2019/Cat.PNG"),
        ("Catt.PNG", "2019/Cat.PNG"),
        ("7", "007.jpg"),
    ],
)
def test_a_name_of_no_photo_is_refused_with_the_nearest(folder, given, meant):
    with pytest.raises(InputError, match=message("scores.csv line 2", f"(did you mean {meant}?)")):
        own(folder, f"photo,score\n{given},4\nb.jpg,5\n")
    kept = own(folder, f"photo,score\n{given},4\na.jpg,4\nb.jpg,5\n", strict=False)
    assert kept.table.photo.tolist() == ["a.jpg", "b.jpg"]
    assert kept.left_out.photo.tolist() == [given]


def test_a_name_that_is_there_as_it_stands_is_never_another_photo(folder, recwarn):
    touch(folder, "cat", "2019\\Cat.PNG")
    scored = own(folder, "photo,score\ncat,4\n2019\\Cat.PNG,5\n2019/Cat.PNG,6\n")
    assert scored.table.photo.tolist() == ["cat", "2019\\Cat.PNG", "2019/Cat.PNG"]
    assert not recwarn.list


def test_votes_and_parts_mean_the_same_photos_as_the_scores(folder):
    (folder / "votes.csv").write_text("photo,score\nCAT,4\nA,5\n2019\\cat.png,6\nb.jpg,5\n")
    (folder / "parts.csv").write_text("photo,part\nA.jpg,train\nA.jpg,train\nCat,test\nb,train\n")
    text = "photo,score\ncat.png,5\na.jpg,5\nb,4\n"
    with pytest.warns(Note):
        scored = own(folder, text, votes=folder / "votes.csv", parts=folder / "parts.csv")
    assert scored.table.photo.tolist() == ["2019/Cat.PNG", "a.jpg", "b.jpg"]
    assert scored.votes.sum(axis=1).tolist() == [2, 1, 1]
    assert scored.table.part.tolist() == ["test", "train", "train"]


def test_parts_of_a_public_set_may_leave_endings_out(tmp_path):
    rows = [f"{n} {50 + n} {n} 0 0 9 0 0 0 0 0 0 1 0 9" for n in range(3)]
    (tmp_path / "AVA.txt").write_text("\n".join(rows))
    touch(tmp_path, *(f"images/{50 + n}.jpg" for n in range(3)))
    (tmp_path / "parts.csv").write_text("photo,part\n50,train\n51,train\n52,test\n")
    with pytest.warns(Note, match="'50' is read as 50.jpg"):
        scored = sources.read_ava(tmp_path, parts=tmp_path / "parts.csv")
    assert scored.table.part.tolist() == ["train", "train", "test"]


def test_rows_that_are_there_twice_count_once_and_votes_each_time(folder):
    (folder / "votes.csv").write_text("photo,score\na.jpg,4\na.jpg,4\nb.jpg,5\n")
    text = "photo,score,kind\na.jpg,4,sea\nb.jpg,5,town\nA,4,sea\na.jpg,4,sea\n"
    more = {"attribute_columns": ["kind"], "votes": folder / "votes.csv"}
    read, said = told(folder, text, **more)
    assert read == [("a.jpg", 4), ("b.jpg", 5)]
    assert "line 4: the row of a.jpg is there a second time" in said[1] and said[1].endswith(": 2.")
    with pytest.warns(Note):
        scored = own(folder, text, **more)
    assert scored.votes.loc["a.jpg"].to_dict() == {4: 2, 5: 0}
    assert scored.attributes.index.tolist() == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize("again", ["a.jpg,5,sea", "a.jpg,4,town", "A,5,sea"])
@pytest.mark.filterwarnings("ignore::rsrl_lib.files.Note")
def test_two_rows_of_a_photo_that_differ_are_refused(folder, again):
    text = f"photo,score,kind\na.jpg,4,sea\nb.jpg,5,town\n{again}\n"
    with pytest.raises(InputError, match=message("line 2 and", "line 4 score the same photo")):
        own(folder, text)


CAFE = f"photo,score\ncaf{E_ACUTE}.jpg,4\nb.jpg,5\n"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (CAFE.encode("latin-1"), "is read as the letters of Western Europe (Windows-1252"),
        (CAFE.encode("utf-16"), "is read as UTF-16."),
        (codecs.BOM_UTF16_BE + CAFE.encode("utf-16-be"), "is read as UTF-16."),
        (CAFE.encode("utf-16-le"), "is read as UTF-16."),
        (CAFE.encode("utf-16-be"), "is read as UTF-16."),
        (CAFE.encode("utf-32"), "is read as UTF-32."),
        (CAFE.replace(",", "\t").encode("utf-16"), "is read as UTF-16."),
    ],
    ids=["latin-1", "utf-16", "big", "little without mark", "big without mark", "32", "tabs"],
)
def test_text_of_other_encodings_is_read_and_that_is_told(folder, content, says):
    read, said = told(folder, content)
    assert read == [(f"2019/caf{E_ACUTE}.jpg", 4), ("b.jpg", 5)]
    assert len(said) == 2 and f"scores.csv is not in UTF-8 and {says}" in said[0]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            CAFE.encode() + b"\xe9.jpg,4\n",
            "line 4 is not utf-8, it has the byte 0xe9, and line 2 is",
        ),
        (CAFE.encode("mac-roman"), "one letter on Windows and another on a Macintosh"),
        (b"photo,score\n\xd4\xee\xf2\xee.jpg,4\n", "may be of another alphabet"),
        ("photo,score\n写真.jpg,4\n".encode("shift_jis"), "scores.csv cannot be read (line 2"),
        (b"photo,score\n\x81\x8d.jpg,4\n", "scores.csv cannot be read (line 2"),
        (CAFE.encode("utf-16")[:-1], "it begins as text in UTF-16 and is none"),
    ],
    ids=["mixed", "Macintosh", "Cyrillic", "Japanese", "neither", "cut off"],
)
def test_bytes_that_may_be_other_letters_are_refused(folder, content, says):
    with pytest.raises(InputError, match=message(says, "give a UTF-8 table: save it in UTF-8")):
        own(folder, content)


@pytest.mark.parametrize(
    "header", ["Photo;SCORE", "\ufeffphoto;\N{NO-BREAK SPACE}Score", "pho to;S core"]
)
def test_headers_may_differ_in_case_blanks_and_marks(folder, header):
    read, said = told(folder, f"{header}\na.jpg;4\nb.jpg;5\n")
    assert read == [("a.jpg", 4), ("b.jpg", 5)]
    assert len(said) == 1 and "' is read as 'score'" in said[0]


@pytest.mark.parametrize(
    ("header", "meant"),
    [
        ("Photo,PHOTO,score", "did you mean 'Photo' or 'PHOTO'?"),
        ("photos,score,x", "did you mean 'photos'?"),
        ("photo,x,scores", "did you mean 'scores'?"),
    ],
)
def test_a_header_that_may_be_two_or_is_near_is_refused_with_what_may_be_meant(
    folder, header, meant
):
    with pytest.raises(InputError, match=message("scores.csv line 1", meant, "by --")):
        own(folder, f"{header}\na.jpg,4,4\n")


def test_a_header_that_is_there_as_it_stands_is_taken_before_others(folder, recwarn):
    scored = own(folder, "Photo,photo,score\nx,a.jpg,4\ny,b.jpg,5\n")
    assert scored.table.photo.tolist() == ["a.jpg", "b.jpg"]
    assert not recwarn.list


def workbook(path, *rows, **others):
    """An Excel table of rows, and other sheets by their names."""
    openpyxl = pytest.importorskip("openpyxl", reason="openpyxl (extra 'excel') is not installed")
    book = openpyxl.Workbook()
    book.active.title = "Scores"
    for row in rows:
        book.active.append(row)
    for title, cells in others.items():
        sheet = book.create_sheet(title)
        for row in cells:
            sheet.append(row)
    book.save(path)
    return path


def test_an_excel_table_is_read_from_its_only_sheet(folder):
    rows = ["Photo", "score", "kind"], ["a", 4.5, "sea"], [None] * 3, ["2019\\cat", 6, None]
    path = workbook(folder / "s.xlsx", *rows, empty=[])
    with pytest.warns(Note) as notes:
        scored = sources.read_folder(folder, path, attribute_columns=["kind"])
    assert scored.table.photo.tolist() == ["a.jpg", "2019/Cat.PNG"]
    assert scored.table.mean_score.tolist() == [4.5, 6]
    assert scored.attributes["kind=sea"].fillna(-1).tolist() == [1, -1]
    assert f"{path} is an Excel table; its sheet 'Scores' is read." in str(notes[0].message)
    workbook(path, ["photo", "score"], [7, 4], ["a.jpg", "4,5"], ["b.jpg", "good"])
    with pytest.warns(Note), pytest.raises(InputError, match=r"xlsx line 4: score 'good' is not"):
        sources.read_folder(folder, path)


@pytest.mark.filterwarnings("ignore::rsrl_lib.files.Note")
def test_numbers_that_name_photos_in_an_excel_table_are_their_names(folder):
    touch(folder, "17.jpg", "1.5.jpg")
    path = workbook(folder / "s.xlsx", ["photo", "score"], [17, 4], [1.5, 5.0])
    assert sources.read_folder(folder, path).table.photo.tolist() == ["17.jpg", "1.5.jpg"]


def test_an_excel_table_that_cannot_be_read_for_sure_is_refused(folder, monkeypatch):
    path = workbook(folder / "s.xlsx", ["photo", "score"], more=[["photo", "score"]])
    with pytest.raises(InputError, match=message("2 sheets", "did you mean 'Scores' or 'more'?")):
        sources.read_folder(folder, path)
    whole = workbook(path, ["photo", "score"], ["a.jpg", 4]).read_bytes()
    monkeypatch.setattr(sheets, "MOST_BYTES", 100)
    with pytest.raises(InputError, match=message("no readable Excel table", "unpacked")):
        sources.read_folder(folder, path)
    monkeypatch.undo()
    damaged = io.BytesIO(whole.replace(b"<sheet", b"<shoot"))
    path.write_bytes(damaged.getvalue()[: len(whole) // 2] + whole[len(whole) // 2 :][::-1])
    with pytest.raises(InputError, match=message("s.xlsx", "a spreadsheet or another zip archive")):
        sources.read_folder(folder, path)
    workbook(path)
    with pytest.raises(InputError, match=message("s.xlsx cannot be read (it is empty)")):
        sources.read_folder(folder, path)


def test_an_excel_table_without_its_package_names_the_extra(folder, monkeypatch):
    path = workbook(folder / "s.xlsx", ["photo", "score"], ["a.jpg", 4])
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(InputError, match=r"extra 'excel' .*install rsrl-lib\[excel\]"):
        sources.read_folder(folder, path)


def test_a_folder_is_looked_through_once_and_only_where_a_name_is_not_there(folder, monkeypatch):
    looked = []
    real = names.files_below
    monkeypatch.setattr(names, "files_below", lambda f: looked.append(f) or real(f))
    own(folder, "photo,score\na.jpg,4\nb.jpg,5\n")
    assert looked == []
    (folder / "votes.csv").write_text("photo,score\nA,4\ncat,5\nb,6\n")
    with pytest.warns(Note):
        own(folder, "photo,score\nA,4\nB,5\ncat,4\n", votes=folder / "votes.csv")
    assert len(looked) == 1


def test_of_names_that_are_there_each_file_is_looked_at_once_and_nothing_compared(
    tmp_path, monkeypatch
):
    """A quarter of a million rows, as AVA has, take no longer than before."""
    count = 20_000
    photos = [f"{n}.jpg" for n in range(count)]
    table = pd.DataFrame({"photo": photos, "score": np.arange(count) % 7 + 0.5})
    table.to_csv(tmp_path / "s.csv", index=False)
    asked = []
    monkeypatch.setattr(names, "size_of", lambda path: asked.append(path) or 1)
    monkeypatch.setattr(checked, "size_of", None)
    monkeypatch.setattr(tables, "_with_points", None)
    monkeypatch.setattr(names, "as_meant", None)
    assert len(sources.read_folder(tmp_path, tmp_path / "s.csv")) == count
    assert len(asked) == count


def test_a_table_that_has_headers_alone_is_named(tmp_path):
    table = tmp_path / "scores.csv"
    table.write_text("photo,score\n")
    with pytest.raises(InputError, match=r"scores\.csv has no row below its headers"):
        sources.read_folder(tmp_path, table)


def test_several_names_in_one_word_are_told_apart(folder):
    text = "photo,score,sharp,sky\na.jpg,4,1,0\nb.jpg,5,0,1\n"
    with pytest.raises(InputError, match=r"\(did you mean sharp sky with blanks between\?\)"):
        own(folder, text, attribute_columns=["sharp,sky"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("photo,score\na.jpg;4\n\nb.jpg;5\n", "line 2, which has semicolons"),
        ("photo;score\na.jpg,4\nb.jpg,5\n", "line 2, which has commas"),
        ("sep=,\nphoto,score\na.jpg\t4\nb.jpg\t5\n", "line 3, which has tabs"),
    ],
)
def test_names_and_rows_that_are_separated_in_two_ways_are_told(folder, text, says):
    with pytest.raises(InputError, match=rf"other separators than .*{says}; separate all rows"):
        own(folder, text)
