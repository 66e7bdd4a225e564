import codecs
import hashlib
import http.server
import io
import re
import threading
import time
from typing import ClassVar
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.io import savemat

from rsrl_lib import photos, sources
from rsrl_lib.files import ROOT, InputError
from rsrl_lib.reading import tables
from rsrl_lib.sources import checked, public_sets


def touch(folder, *names):
    """Files with something in them: readers do not decode."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def own(folder, text, **options):
    (folder / "scores.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return sources.read_folder(folder, folder / "scores.csv", **options)


def message(*parts):
    return ".*".join(re.escape(part) for part in parts)


@pytest.fixture
def folder(tmp_path):
    touch(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    return tmp_path


def test_a_score_column_gives_classes_and_the_same_mean_scores(folder):
    scored = own(folder, "photo,score\na.jpg,4\nb.jpg,5\nc.jpg,4\n")
    assert scored.table.columns.tolist() == ["photo", "path", "score", "mean_score"]
    assert scored.table["score"].tolist() == [4, 5, 4] and scored.table["score"].dtype == np.int64
    assert scored.table["mean_score"].tolist() == [4, 5, 4]
    assert scored.table["mean_score"].dtype == np.float64
    assert scored.table["path"].tolist()[0] == str(folder / "a.jpg")
    assert (scored.strict, len(scored), len(scored.left_out)) == (True, 3, 0)
    assert scored.votes is None and scored.attributes is None
    assert scored.left_out.columns.tolist() == ["photo", "reason"]


def test_means_become_classes_by_rounding_half_up():
    assert photos.round_half_up([2.5, 3.49, 3.5, -0.5, 4.5 - 1e-12]).tolist() == [3, 3, 4, 0, 5]
    assert photos.round_half_up(pd.Series([4.499])).dtype == np.int64
    assert photos.round_half_up(2.5) == 3


def test_scores_that_are_means_are_kept_and_rounded(folder):
    scored = own(folder, "photo,score\na.jpg,4.37\nb.jpg,4.5\nc.jpg,4\n")
    assert scored.table["score"].tolist() == [4, 5, 4]
    assert scored.table["mean_score"].tolist() == [4.37, 4.5, 4]


@pytest.mark.parametrize(
    "text",
    [
        codecs.BOM_UTF8 + b"photo,score\na.jpg,4\nb.jpg,5\n",
        b"photo,score\ra.jpg,4\rb.jpg,5",
        b"photo,score\r\n\r\na.jpg,4\r\nb.jpg,5\r\n",
        b'"score";" photo "\n4;"a.jpg"\n5; b.jpg\n;\n',
        b"photo\tscore\na.jpg\t4\nb.jpg\t5\n",
    ],
    ids=["mark", "CR-only", "CRLF and a blank line", "semicolons", "tabs"],
)
def test_tables_of_any_editor_are_read_alike(folder, text):
    table = own(folder, text).table
    assert table["photo"].tolist() == ["a.jpg", "b.jpg"]
    assert table["score"].tolist() == [4, 5]


def test_columns_have_the_names_they_are_given(folder):
    text = "file,grade,mean,sharp,mask,mean_score\na.jpg,4,4.2,.5,m/a.png,9\nb.jpg,5,4.6,1,,9\n"
    columns = {"photo_column": "file", "score_column": "grade", "attribute_columns": ["sharp"]}
    scored = own(folder, text, mean_column="mean", **columns)
    assert scored.table["score"].tolist() == [4, 5]
    assert scored.table["mean_score"].tolist() == [4.2, 4.6]
    assert scored.table["mask"][0] == str(folder / "m/a.png") and pd.isna(scored.table["mask"][1])
    assert scored.attributes.loc["b.jpg"].to_dict() == {"sharp": 1.0}
    unnamed = own(folder, text, **columns)
    assert unnamed.table["mean_score"].tolist() == [4, 5]


def test_votes_are_counted_and_give_the_mean_unless_a_column_does(folder):
    (folder / "votes.csv").write_text(
        "rater,photo,score\n1,b.jpg,5\n2,b.jpg,6\n1,a.jpg,4\n2,zzz.jpg,1\n3,b.jpg,6\n"
    )
    text = "photo,score,mean\na.jpg,4,4.25\nb.jpg,6,5.75\n"
    scored = own(folder, text, votes=folder / "votes.csv")
    assert scored.table["mean_score"].tolist() == [4, 17 / 3]
    assert scored.votes.index.tolist() == ["a.jpg", "b.jpg"] and scored.votes.index.name == "photo"
    assert scored.votes.loc["b.jpg"].to_dict() == {1: 0, 4: 0, 5: 1, 6: 2}
    assert (scored.votes.dtypes == np.int64).all()
    named = own(folder, text, votes=folder / "votes.csv", mean_column="mean")
    assert named.table["mean_score"].tolist() == [4.25, 5.75]
    with pytest.raises(InputError, match=message("scores.csv line 4", "mean_score 'nan'")):
        own(folder, text + "c.jpg,4,4\n", votes=folder / "votes.csv")
    (folder / "votes.csv").write_text("photo,score\nx,5\ny,6\n")
    with pytest.raises(InputError, match=message("votes.csv names no photo of", "scores.csv")):
        own(folder, text, votes=folder / "votes.csv", mean_column="mean")


def test_selected_photos_keep_their_votes_and_attributes(folder):
    (folder / "votes.csv").write_text("photo,score\na.jpg,1\nb.jpg,2\nc.jpg,3\n")
    text = "photo,score,sharp\na.jpg,1,.1\nb.jpg,2,.2\nc.jpg,3,.3\n"
    scored = own(folder, text, votes=folder / "votes.csv", attribute_columns=["sharp"])
    for rows in ([2, 0], np.array([True, False, True]), pd.Series([True, False, True])):
        some = scored.select(rows)
        assert some.table.index.tolist() == [0, 1]
        assert some.votes.index.tolist() == some.table["photo"].tolist()
        assert some.attributes.index.tolist() == some.table["photo"].tolist()
    assert scored.select([2, 0]).table["score"].tolist() == [3, 1]
    assert len(scored.select([])) == 0


def test_photos_found_broken_later_are_dropped_and_recorded(folder):
    scored = own(folder, "photo,score\na.jpg,1\nb.jpg,2\nc.jpg,3\n")
    broken = pd.DataFrame({"photo": ["b.jpg"], "reason": ["truncated"]})
    kept = scored.without(broken)
    assert kept.table["photo"].tolist() == ["a.jpg", "c.jpg"] and kept.table.index[-1] == 1
    assert kept.left_out.to_dict("records") == [{"photo": "b.jpg", "reason": "truncated"}]
    assert len(scored) == 3
    with pytest.raises(InputError, match=r"Two scores or more .* \[3\] in 1 photos .*c.jpg.* add"):
        kept.without(pd.DataFrame({"photo": ["a.jpg"], "reason": ["truncated"]}))


HEAD = "photo,score\na.jpg,4\n"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("foto,score\na.jpg,4\n", ["scores.csv line 1", "'photo'", "choose among foto, score"]),
        ("photo,photo,score\na,b,4\n", ["scores.csv line 1", "has 2", "correct it"]),
        (HEAD + "b.jpg,good\n", ["scores.csv line 3: score 'good'", "write a number such as 4"]),
        (HEAD + "\nb.jpg,inf\n", ["scores.csv line 4: score 'inf' is not a finite", "write"]),
        (HEAD + "b.jpg,nan\n", ["scores.csv line 3: score 'nan' is not a finite", "write"]),
        (HEAD + "b.jpg,\n", ["scores.csv line 3: score ''", "write"]),
        (HEAD + "b.jpg\n", ["scores.csv line 3: score ''", "write"]),
        (HEAD + "b.jpg,5\na.jpg,5\n", ["scores.csv line 2", "scores.csv line 4", "keep one"]),
        (HEAD + "b.jpg,4\n", ["Two scores or more are needed", "[4] in 2 photos", "add others"]),
        ("photo,score\n", ["scores.csv has no row below its headers", "one for each photo"]),
        ("", ["scores.csv cannot be read", "give a UTF-8 table"]),
        (HEAD + "b,c.jpg,4\n", ["scores.csv cannot be read", "line 3, saw 3", "quotes"]),
        (HEAD + '"b.jpg,4\n', ["scores.csv cannot be read", "line 3", "quotes"]),
        (b"photo,score\n\x81.jpg,4\n", ["scores.csv cannot be read", "utf-8", "give a UTF-8"]),
        (
            '"photo","score"\n"a\n.jpg","4"\nb.jpg,x\n',
            ["scores.csv line 4: score 'x'", "write a number"],
        ),
    ],
)
def test_a_bad_table_is_named_with_its_line_and_the_remedy(folder, text, parts):
    with pytest.raises(InputError, match=message(*parts)) as caught:
        own(folder, text)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_a_column_of_words_becomes_an_attribute_for_each_and_blanks_stay_unknown(folder):
    text = "photo,score,kind,sharp\na.jpg,4,sea,.5\nb.jpg,5,old town,1\nc.jpg,5,,0\n"
    attributes = own(folder, text, attribute_columns=["kind", "sharp"]).attributes
    assert attributes.columns.tolist() == ["kind=old town", "kind=sea", "sharp"]
    assert attributes.loc["b.jpg"].tolist() == [1, 0, 1]
    assert attributes.loc["c.jpg"].isna().tolist() == [True, True, False]


def test_a_missing_table_is_named(folder):
    with pytest.raises(InputError, match=message("none.csv cannot be read", "No such file")):
        sources.read_folder(folder, folder / "none.csv")
    with pytest.raises(InputError, match=message("votes.csv cannot be read", "give")):
        own(folder, HEAD + "b.jpg,5\n", votes=folder / "votes.csv")


NAMED = {"photo_column": "Foto", "score_column": "Note"}


@pytest.mark.parametrize(
    ("columns", "lacking", "options"),
    [
        ({}, "'photo' and one column 'score', has 0 and 0", "--photo-column and --score-column"),
        ({"photo_column": "Foto"}, "'score', has 0", "--score-column"),
        (NAMED | {"mean_column": "mean"}, "'mean', has 0", "--mean-column"),
        (NAMED | {"attribute_columns": ["sharp"]}, "'sharp', has 0", "--attributes"),
    ],
)
def test_a_column_that_is_not_there_names_the_option_that_chooses_it(
    folder, columns, lacking, options
):
    choice = f"choose among Foto, Note by {options}."
    with pytest.raises(InputError, match=message("scores.csv line 1", lacking, choice)):
        own(folder, "Foto;Note\na.jpg;4\nb.jpg;5\n", **columns)


def test_votes_have_no_option_for_their_columns(folder):
    (folder / "votes.csv").write_text("name,score\na.jpg,4\n")
    with pytest.raises(InputError, match=message("votes.csv line 1", "there are name, score.")):
        own(folder, HEAD + "b.jpg,5\n", votes=folder / "votes.csv")


def test_a_decimal_comma_is_told_from_a_word(folder):
    with pytest.raises(InputError, match=message("score '4,5,1'", "such as 4.5, with a point.")):
        own(folder, "photo;score\na.jpg;4,5,1\nb.jpg;5\n")
    with pytest.raises(InputError, match=message("score 'good'", "such as 4.")):
        own(folder, HEAD + "b.jpg,good\n")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("nowhere", "there is no folder {}; 2 of 2 photos are missing: add them or correct the"),
        ("scores.csv", "{} is a file, a folder of photos is needed; 2 of 2 photos are missing"),
    ],
)
def test_a_folder_that_is_none_is_told_and_not_its_photos(folder, given, says):
    own(folder, HEAD + "b.jpg,5\n")
    with pytest.raises(InputError, match=message("line 2: " + says.format(folder / given))):
        sources.read_folder(folder / given, folder / "scores.csv")


@pytest.mark.parametrize("name", ["a.jpeg", "a.png", "a.jpg.jpg"])
def test_a_name_that_is_nearly_there_is_shown(folder, name):
    with pytest.raises(InputError, match=message(name, "(did you mean a.jpg", "?)")):
        own(folder, f"photo,score\n{name},4\nb.jpg,5\n")


def test_how_many_scores_were_rounded_is_said(folder):
    text = "photo,score\na.jpg,4.37\nb.jpg,4.5\nc.jpg,4\n"
    said = own(folder, text).rounding
    assert said.startswith("2 of 3 scores are not whole and were rounded")
    assert "1 of them lie halfway and went up" in said
    assert own(folder, "photo,score\na.jpg,4\nb.jpg,5.0\n").rounding == ""
    mean = own(folder, "photo,score,mean\na.jpg,4,4.2\nb.jpg,5,4.6\n", mean_column="mean")
    assert mean.rounding == ""  # the score is given; the mean is not rounded


def test_an_attribute_may_bear_the_name_of_a_column_read_for_something_else(folder):
    text = "photo,score,rating\na.jpg,1,8\nb.jpg,2,6\n"
    scored = own(folder, text, score_column="rating", attribute_columns=["score"])
    assert scored.table["score"].tolist() == [8, 6]
    assert scored.attributes["score"].tolist() == [1, 2]


def test_a_vote_or_attribute_that_is_no_number_is_named(folder):
    (folder / "votes.csv").write_text("photo,score\na.jpg,4\nb.jpg,4.5\n")
    with pytest.raises(InputError, match=message("votes.csv line 3: score '4.5'", "whole")):
        own(folder, HEAD + "b.jpg,5\n", votes=folder / "votes.csv")
    with pytest.raises(InputError, match=message("scores.csv line 2: dof 'x'", "write")):
        own(folder, "photo,score,dof\na.jpg,4,x\nb.jpg,5,1\n", attribute_columns=["dof"])
    with pytest.raises(InputError, match=message("scores.csv line 1", "'dof'", "photo, score")):
        own(folder, HEAD + "b.jpg,5\n", attribute_columns=["dof"])


def test_photos_without_a_file_are_errors_or_are_left_out(folder):
    (folder / "empty.jpg").touch()
    text = "photo,score\na.jpg,4\nb.jpg,5\nlost.jpg,5\nempty.jpg,4\n"
    parts = ["scores.csv line 4: no such file", "lost.jpg; 2 of 4 photos", "add", "--skip-broken"]
    with pytest.raises(InputError, match=message(*parts)):
        own(folder, text)
    scored = own(folder, text, strict=False)
    assert scored.table["photo"].tolist() == ["a.jpg", "b.jpg"] and not scored.strict
    assert scored.left_out["photo"].tolist() == ["lost.jpg", "empty.jpg"]
    assert scored.left_out["reason"].tolist() == [
        f"no such file: {folder / 'lost.jpg'}",
        f"0 bytes in {folder / 'empty.jpg'}",
    ]
    with pytest.raises(InputError, match=message("line 2", "2 of 2 photos", "correct the folder")):
        own(folder, "photo,score\nx.jpg,4\ny.jpg,5\n", strict=False)


def ava_row(number, image, *counts):
    return " ".join(map(str, [number, image, *counts, 1, 0, 99]))


def test_ava_tags_become_attributes_by_name_and_are_unknown_where_a_photo_has_none(tmp_path):
    tags = {50: (1, 24), 51: (0, 66), 52: (0, 0), 53: (24, 24)}
    rows = [
        f"{i} {image} 1 0 0 0 3 0 0 0 0 {i} {a} {b} 9"
        for i, (image, (a, b)) in enumerate(tags.items())
    ]
    (tmp_path / "AVA.txt").write_text("\n".join(rows))
    touch(tmp_path, *(f"images/{image}.jpg" for image in tags))
    scored = sources.read_ava(tmp_path)
    assert scored.attributes.columns.tolist() == [f"tag={tag}" for tag in range(1, 67)]
    (tmp_path / "tags.txt").write_text("1 Abstract\n24 Black and White \n66 Analog\n")
    named = sources.read_ava(tmp_path).attributes
    assert named.columns[[0, 1, 23, 65]].tolist() == [
        "tag=Abstract",
        "tag=2",
        "tag=Black and White",
        "tag=Analog",
    ]
    assert np.flatnonzero(named.loc["50.jpg"]).tolist() == [0, 23]
    assert np.flatnonzero(named.loc["51.jpg"]).tolist() == [65]
    assert named.loc["52.jpg"].isna().all()
    assert named.loc["53.jpg"].sum() == 1


def test_ava_is_read_with_its_votes_and_missing_photos_are_left_out(tmp_path):
    counts = [0, 0, 0, 2, 2, 0, 0, 0, 0, 0], [0] * 9 + [3], [1] * 10
    rows = [ava_row(i + 1, 50 + i, *row) for i, row in enumerate(counts)]
    (tmp_path / "AVA.txt").write_text("\n".join(rows) + "\n")
    touch(tmp_path, "images/50.jpg", "images/51.jpg")
    scored = sources.read_ava(tmp_path)
    assert scored.table["photo"].tolist() == ["50.jpg", "51.jpg"]
    assert scored.table["mean_score"].tolist() == [4.5, 10]
    assert scored.table["score"].tolist() == [5, 10]
    assert scored.votes.loc["50.jpg"].tolist() == counts[0]
    assert scored.left_out["photo"].tolist() == ["52.jpg"]
    alone = sources.ava_votes(tmp_path / "AVA.txt")
    assert alone.columns.tolist() == list(range(1, 11)) and alone.index.name == "photo"
    assert alone.loc["52.jpg"].tolist() == counts[2]
    with pytest.raises(InputError, match=message("AVA.txt line 3: no such file", "no --strict")):
        sources.read_ava(tmp_path, strict=True)
    (tmp_path / "AVA.txt").write_text("1 50 7\n")
    with pytest.raises(InputError, match=message("AVA.txt line 1: votes of 2 ''", "write")):
        sources.read_ava(tmp_path)


def test_most_of_ava_lies_in_the_ambiguous_middle(shared):
    started = time.monotonic()
    votes = sources.ava_votes(shared / "ava/AVA.txt")
    means = votes @ votes.columns / votes.sum(axis=1)
    assert means.between(4.5, 6.5).mean() == pytest.approx(0.83, abs=0.01)
    assert len(votes) == 48_604 and time.monotonic() - started < 10


def test_eva_is_read_with_votes_and_mean_grades_of_its_raters(tmp_path):
    head = "image_id=user_id=score=difficulty=visual=composition=quality=semantic=vote_time=1=2=3=4"
    rows = ["7=1=8=2=3=4=2=1=9.5=1=0=0=0", "8=1=0=2=1=1=1=1=9=0=0=0=1", "7=2=7=2=4=4=2=1=3=0=1=0=0"]
    (tmp_path / "data").mkdir()
    (tmp_path / "data/votes_filtered.csv").write_text("\n".join([head, *rows]))
    touch(tmp_path, "images/EVA_together/7.jpg", "images/EVA_together/8.jpg")
    scored = sources.read_eva(tmp_path)
    assert scored.table["photo"].tolist() == ["7.jpg", "8.jpg"]
    assert scored.table["path"][0] == f"{tmp_path}/images/EVA_together/7.jpg"
    assert scored.table["mean_score"].tolist() == [7.5, 0] and scored.table["score"][0] == 8
    assert scored.votes.loc["7.jpg"].to_dict() == {0: 0, 7: 1, 8: 1}
    assert scored.attributes.loc["7.jpg"].tolist() == [3.5, 4, 2, 1]


def test_aadb_means_are_put_back_on_the_raters_scale(tmp_path):
    labels = tmp_path / "imgListFiles_label"
    labels.mkdir()
    (labels / "imgListTrainRegression_score.txt").write_text("a_1.jpg 0.65\nb.jpg 0.05\n")
    (labels / "imgListTestNewRegression_score.txt").write_text("c.jpg 1\n")
    touch(tmp_path, "datasetImages_originalSize/a_1.jpg", "AADB_newtest_originalSize/c.jpg")
    scored = sources.read_aadb(tmp_path)
    by_name = scored.table.set_index("photo")
    assert by_name["mean_score"].to_dict() == pytest.approx({"a_1.jpg": 3.6, "c.jpg": 5})
    assert by_name["score"].to_dict() == {"a_1.jpg": 4, "c.jpg": 5}
    assert scored.left_out["photo"].tolist() == ["b.jpg"]
    with pytest.raises(InputError, match=message("_score.txt cannot be read", "give")):
        sources.read_aadb(tmp_path / "imgListFiles")


def test_aadb_attributes_are_read_from_the_lists_beside_the_scores(tmp_path):
    lists = {
        "Train": {"score": "a.jpg 0.6\nb.jpg 0.2", "BalacingElements": "a.jpg -0.4\nb.jpg 0.8"},
        "TestNew": {"score": "c.jpg 1", "BalacingElements": "c.jpg 0.2", "DoF": "c.jpg 1"},
    }
    for part, files in lists.items():
        for name, text in files.items():
            (tmp_path / f"imgList{part}Regression_{name}.txt").write_text(text)
    touch(tmp_path, "images/a.jpg", "images/b.jpg", "images/c.jpg")
    attributes = sources.read_aadb(tmp_path).attributes
    assert attributes["BalancingElements"].to_dict() == {"a.jpg": -0.4, "b.jpg": 0.8, "c.jpg": 0.2}
    assert attributes["DoF"].dropna().to_dict() == {"c.jpg": 1}
    (tmp_path / "imgListTestNewRegression_DoF.txt").write_text("c.jpg deep")
    with pytest.raises(
        InputError, match=message("Regression_DoF.txt line 1: mean 'deep'", "write")
    ):
        sources.read_aadb(tmp_path)


def test_para_joins_its_two_lists_and_keeps_attribute_means(tmp_path):
    head = "sessionId,imageName,aestheticScore_mean,aestheticScore_std,qualityScore_mean\n"
    (tmp_path / "annotation").mkdir()
    (tmp_path / "annotation/PARA-GiaaTrain.csv").write_text(head + "s1,a.jpg,2.5,.3,3.1\n")
    (tmp_path / "annotation/PARA-GiaaTest.csv").write_text(head + "s2,a.jpg,4.2,.3,\n")
    touch(tmp_path, "imgs/s1/a.jpg", "imgs/s2/a.jpg")
    scored = sources.read_para(tmp_path)
    assert scored.table["photo"].tolist() == ["s1/a.jpg", "s2/a.jpg"]
    assert scored.table["score"].tolist() == [3, 4]
    assert scored.attributes.loc["s1/a.jpg", "qualityScore_mean"] == 3.1
    assert np.isnan(scored.attributes.loc["s2/a.jpg", "qualityScore_mean"])
    (tmp_path / "annotation/PARA-GiaaTest.csv").write_text(head + "s2,a.jpg,none,.3,\n")
    with pytest.raises(InputError, match=message("PARA-GiaaTest.csv line 2: mean_score 'none'")):
        sources.read_para(tmp_path)


def oasis(folder):
    rows = [
        "I1,Acorns 1,Object",
        "I2,Crosswalk 1 ,Scenery",
        "I4,Nude man 1,Person",
        "I3,Dog 24,Animal",
    ]
    text = "\r".join([",Theme,Category,Source,Valence_mean", *(f"{row},Pixabay,4" for row in rows)])
    (folder / "OASIS.csv").write_bytes(text.encode())
    names = ["Acorns 1", "Crosswalk 1", "Nude man 1", "Dog 24"]
    touch(folder, *(f"images/{name}.jpg" for name in names))
    return folder


def test_oasis_gets_its_beauty_votes_from_the_matrix_of_raters(tmp_path):
    votes = [[4, 2, 7, np.nan], [5, np.nan, 7, 1], [np.nan, 3, 6, 1]]
    savemat(oasis(tmp_path) / "corrData.mat", {"corrData": np.array(votes)})
    scored = sources.read_oasis(tmp_path)
    assert scored.table["photo"].tolist() == ["Acorns 1.jpg", "Crosswalk 1.jpg"]
    assert scored.table["mean_score"].tolist() == [4.5, 2.5]
    assert scored.table["score"].tolist() == [5, 3]
    assert scored.votes.loc["Acorns 1.jpg"].tolist() == [0, 0, 0, 1, 1, 0, 0]
    assert scored.left_out["photo"].tolist() == ["Nude man 1.jpg", "Dog 24.jpg"]
    assert scored.attributes.loc["Acorns 1.jpg"].to_dict() == {
        "category=Animal": 0,
        "category=Object": 1,
        "category=Person": 0,
        "category=Scenery": 0,
    }
    assert scored.left_out["reason"].str.startswith("disturbing").all()
    every = sources.read_oasis(tmp_path, disturbing=True)
    assert every.table["score"].tolist() == [5, 3, 1, 7] and len(every.left_out) == 0


def test_oasis_without_its_votes_says_which_file_is_missing(tmp_path):
    for content in (None, b"no matrix", b""):
        if content is not None:
            (tmp_path / "corrData.mat").write_bytes(content)
        with pytest.raises(InputError, match=message("corrData.mat, the beauty votes", "fetch")):
            sources.read_oasis(oasis(tmp_path))
    savemat(tmp_path / "corrData.mat", {"corrData": np.ones((3, 2))})
    with pytest.raises(InputError, match=message("corrData.mat", "fetch")):
        sources.read_oasis(oasis(tmp_path))


def test_the_rule_for_disturbing_themes_keeps_the_photos_known_to_be_harmless(shared):
    paths = pd.read_csv(shared / "oasis/registry.csv")["path"]
    assert not paths.str.removeprefix("images/").str.match(public_sets.DISTURBING).any()
    named = ["Nude couple 11", "Injury 4", "Animal carcass 5", "Dead bodies 1", "War 2", "Dog 31"]
    assert pd.Series(named).str.match(public_sets.DISTURBING).all()
    assert not pd.Series(["Warthog 1", "Dog 2", "Baby 1"]).str.match(public_sets.DISTURBING).any()


def test_real_photos_with_votes_agree_with_their_published_means(shared):
    folder = shared / "oasis"
    scored = sources.read_folder(
        folder / "photos", folder / "photos.csv", votes=folder / "votes.csv"
    )
    published = pd.read_csv(folder / "photos.csv")
    assert np.allclose(scored.table["mean_score"], published["mean_score"], atol=1e-4)
    assert (photos.round_half_up(scored.table["mean_score"]) == published["score"]).all()
    assert (scored.votes.sum(axis=1).to_numpy() == published["votes"]).all()


def test_a_source_is_picked_by_name_with_its_own_strictness(folder):
    (folder / "scores.csv").write_text(HEAD + "b.jpg,5\n")
    scored = sources.read_photos("folder", folder, folder / "scores.csv", strict=None)
    assert scored.strict
    lenient = sources.read_photos("folder", folder, folder / "scores.csv", strict=False)
    assert not lenient.strict
    savemat(oasis(folder) / "corrData.mat", {"corrData": np.arange(1.0, 5)[None]})
    assert not sources.read_photos("oasis", folder, strict=None).strict
    assert len(sources.read_photos("oasis", folder, disturbing=True)) == 4
    for source in ("folder", "flickr"):
        with pytest.raises(InputError, match=message("a CSV with 'folder'", "'ava'", source)):
            sources.read_photos(source, folder)


class Server(http.server.BaseHTTPRequestHandler):
    """Serves files, and in the ways of `faults` (by path) other than it should."""

    files: ClassVar[dict[str, bytes]] = {}
    faults: ClassVar[dict[str, list[str]]] = {}
    asked: ClassVar[list[str]] = []

    def do_GET(self):
        path = unquote(self.path.lstrip("/"))
        self.asked.append(path)
        content = self.files.get(path)
        faults = self.faults.get(path, [])
        fault = faults.pop(0) if faults else ""
        if content is None or fault == "404":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if fault == "wrong bytes":
            content = bytes(len(content))
        self.wfile.write(content[: len(content) // 2] if fault == "dropped" else content)

    def log_message(self, *args):
        pass


@pytest.fixture
def oasis_server(tmp_path, monkeypatch):
    """A server of two photos with votes, as the repositories have them; address and registry."""
    pooch = pytest.importorskip("pooch", reason="pooch (extra 'fetch') is not installed")
    monkeypatch.setattr(pooch.core.time, "sleep", lambda seconds: None)
    header = '"","Theme","Category","Source","Valence_mean"'
    lines = [header, '"I1","Acorns 1","Object","Pixabay",4.69']
    lines += ['"I3","Bee 1","Animal","flickr",3.1']
    stream = io.BytesIO()
    nan = np.nan
    savemat(stream, {"corrData": np.array([[5, 1, nan], [4, 1, 2], [nan, 1, 3]])})
    Server.files = {"a/OASIS.csv": "\r".join(lines).encode(), "b/corrData.mat": stream.getvalue()}
    for number, name in enumerate(("Acorns 1", "Bee 1")):
        stream = io.BytesIO()
        Image.effect_noise((500, 400), 40 + number).convert("RGB").save(stream, "jpeg")
        Server.files[f"a/images/{name}.jpg"] = stream.getvalue()
    rows = [("", "a/OASIS.csv"), ("", "b/corrData.mat")]
    rows += [("001.jpg", "a/images/Acorns 1.jpg"), ("003.jpg", "a/images/Bee 1.jpg")]
    digests = [hashlib.sha256(Server.files[path]).hexdigest() for _, path in rows]
    table = pd.DataFrame(rows, columns=["photo", "path"]).assign(sha256=digests)
    table.to_csv(tmp_path / "registry.csv", index=False)
    Server.faults, Server.asked = {}, []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield {
            "server": f"http://127.0.0.1:{server.server_port}",
            "registry": tmp_path / "registry.csv",
        }
        server.shutdown()


def test_oasis_is_fetched_as_photos_a_table_and_votes(oasis_server, tmp_path):
    table = sources.fetch_oasis(tmp_path / "oasis", **oasis_server)
    scored = sources.read_folder(
        tmp_path / "oasis" / "photos",
        table,
        mean_column="mean_score",
        votes=tmp_path / "oasis" / "votes.csv",
    )
    assert scored.table.photo.tolist() == ["001.jpg", "003.jpg"]
    assert scored.table.mean_score.tolist() == [4.5, 2.5]
    assert scored.table.score.tolist() == [5, 3]
    assert scored.votes.loc["003.jpg"].to_dict() == {2: 1, 3: 1, 4: 0, 5: 0}
    facts = pd.read_csv(table)
    assert facts.theme.tolist() == ["Acorns 1", "Bee 1"]
    assert facts.votes.tolist() == [2, 2]
    assert facts.valence.tolist() == [4.69, 3.1]
    assert Image.open(scored.table.path[0]).size == (320, 256)


@pytest.mark.parametrize("fault", ["dropped", "wrong bytes", "404"])
def test_a_download_that_fails_once_is_tried_again(oasis_server, tmp_path, fault):
    Server.faults = {"a/images/Bee 1.jpg": [fault]}
    assert sources.fetch_oasis(tmp_path / "oasis", **oasis_server).exists()
    assert Server.asked.count("a/images/Bee 1.jpg") == 2


@pytest.mark.parametrize("fault", ["dropped", "wrong bytes", "404"])
def test_a_download_that_keeps_failing_is_named_and_goes_on_later(oasis_server, tmp_path, fault):
    Server.faults = {"a/images/Bee 1.jpg": [fault] * 9}
    with pytest.raises(InputError, match=r"images/Bee 1.jpg could not .* 3 of 4 files are there"):
        sources.fetch_oasis(tmp_path / "oasis", **oasis_server)
    assert not (tmp_path / "oasis" / "photos.csv").exists()
    Server.faults, Server.asked = {}, []
    assert sources.fetch_oasis(tmp_path / "oasis", **oasis_server).exists()
    assert Server.asked == ["a/images/Bee 1.jpg"]


def test_no_server_at_all_is_told(oasis_server, tmp_path):
    with pytest.raises(InputError, match=r"0 of 4 files are there: go online"):
        sources.fetch_oasis(tmp_path / "oasis", **oasis_server | {"server": "http://127.0.0.1:1"})


def test_the_shipped_registry_lists_what_lies_in_the_real_folder(shared):
    ours = pd.read_csv(ROOT / "data" / "oasis_registry.csv", dtype=str).dropna()
    theirs = pd.read_csv(shared / "oasis" / "registry.csv", dtype=str)
    assert ours.sha256.tolist() == theirs.sha256.tolist()
    assert ours.photo.tolist() == theirs.photo.tolist()


@pytest.mark.parametrize(
    "again", ["./a.jpg", "sub/../a.jpg", "link.jpg", "linked/a.jpg", "{}/a.jpg"]
)
def test_one_photo_under_two_spellings_is_refused(folder, again):
    (folder / "sub").mkdir()
    (folder / "link.jpg").symlink_to("a.jpg")
    (folder / "linked").symlink_to(folder)
    again = again.format(folder)
    with pytest.raises(InputError, match=message("line 2", "line 4 score the same photo (a.jpg")):
        own(folder, f"photo,score\na.jpg,4\nb.jpg,5\n{again},6\n")


def test_copies_and_hard_links_are_photos_of_their_own(folder):
    (folder / "A.JPG").hardlink_to(folder / "a.jpg")
    (folder / "copy.jpg").write_bytes((folder / "a.jpg").read_bytes())
    (folder / "round.jpg").symlink_to("round.jpg")  # a link to itself is no file at all
    scored = own(folder, "photo,score\na.jpg,4\nA.JPG,5\ncopy.jpg,4\nround.jpg,5\n", strict=False)
    assert scored.table["photo"].tolist() == ["a.jpg", "A.JPG", "copy.jpg"]


@pytest.mark.parametrize("again", ["A.jpg", "caf\u00e9.jpg"])
def test_two_spellings_that_the_drive_takes_for_one_file_are_refused(folder, monkeypatch, again):
    """Such a drive lists a file by one of its names alone."""
    first = "a.jpg" if again == "A.jpg" else "cafe\u0301.jpg"
    touch(folder, first)
    (folder / again).hardlink_to(folder / first)
    listed = sorted(path for path in folder.iterdir() if path.name != again)
    monkeypatch.setattr(checked.Path, "iterdir", lambda self: iter(listed))
    with pytest.raises(InputError, match="score the same photo"):
        own(folder, f"photo,score\n{first},4\n{again},5\nb.jpg,6\n")


def test_names_and_words_that_others_take_for_nothing_or_numbers_stay_as_given(tmp_path):
    names = ["NA", "nan", "null", "None", "N/A", "-", "1e5", "007", "true", "1.0", "#.jpg", '"q"']
    touch(tmp_path, *names)
    words = ["None", "NA", "nan", "true", "", "null"] * 2
    rows = [
        (name, 3 + n % 3, word) for n, (name, word) in enumerate(zip(names, words, strict=True))
    ]
    pd.DataFrame(rows, columns=["photo", "score", "kind"]).to_csv(tmp_path / "s.csv", index=False)
    votes = pd.DataFrame([(name, vote) for name in names for vote in (3, 5)])
    votes.to_csv(tmp_path / "votes.csv", index=False, header=["photo", "score"])
    how = {"votes": tmp_path / "votes.csv", "attribute_columns": ["kind"]}
    scored = sources.read_folder(tmp_path, tmp_path / "s.csv", **how)
    assert scored.table["photo"].tolist() == names
    assert scored.votes.sum(axis=1).tolist() == [2] * len(names)
    kinds = [f"kind={word}" for word in ("NA", "None", "nan", "null", "true")]
    assert scored.attributes.columns.tolist() == kinds
    assert scored.attributes.index.tolist() == names
    assert scored.attributes["kind=None"].fillna(-1).tolist() == [1, 0, 0, 0, -1, 0] * 2


def test_a_table_of_ours_keeps_names_and_misses_numbers_where_nothing_stands(tmp_path):
    table = pd.DataFrame({"photo": ["NA", "007", "1e5"], "arm": ["None", "0.90", "nan"]})
    table["score"], table["kappa"] = [4, 5, 6], [np.nan, 0.5, -np.inf]
    table.to_csv(tmp_path / "table.csv", index=False)
    pd.testing.assert_frame_equal(tables.read_ours(tmp_path / "table.csv"), table)
