"""Choosing among photos that nobody scored: ranks, percentiles, bursts, and tables by ending."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageEnhance

from rsrl_lib import choosing, rounds
from rsrl_lib.drawing import glassbox
from rsrl_lib.files import InputError
from rsrl_lib.interface.given import targets_of
from rsrl_lib.recipe import Recipe, Training
from rsrl_lib.runs import open_run
from tests.test_cli import folder, gap_run, refused, rsrl

__all__ = ["folder", "gap_run"]  # fixtures
pytestmark = pytest.mark.usefixtures("small_crops")
RECIPE = Recipe(
    backbone="squeezenet1_1",
    weights="none",
    rounds=2,
    training=Training(learning_rate=1e-3, epochs=1, shrink_to=64),
)


@pytest.fixture(scope="module")
def run(coloured, small_crops, tmp_path_factory):
    return rounds.repeat(*coloured, tmp_path_factory.mktemp("runs") / "run", RECIPE)


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    """Six drawn photos in sub-folders, three more of the first that differ a little."""
    album = tmp_path_factory.mktemp("album")
    paths = glassbox.open_set(count=60, seed=0).table.path[:6]
    (album / "b").mkdir()
    for number, path in enumerate(paths):
        photo = Image.open(path).convert("RGB")
        photo.save(album / ("b" if number % 2 else "") / f"{number}.png")
    first = Image.open(album / "0.png")
    for number, factor in enumerate((1.04, 0.96, 1.08)):
        ImageEnhance.Brightness(first).enhance(factor).save(
            album / f"burst_{number}.jpg", quality=90
        )
    return album


def assessed(monkeypatch, tmp_path, *words):
    """The table that `rsrl assess` writes."""
    table = tmp_path / "table.csv"
    rsrl(monkeypatch, "assess", *words, "--out", table)
    return pd.read_csv(table)


def test_shares_add_up_to_1_and_give_score_expected_score_and_spread(
    monkeypatch, run, album, tmp_path, capsys
):
    table = assessed(monkeypatch, tmp_path, "--run", run.folder, album)
    scores = np.array([2, 3, 4, 5])
    shares = table[[f"share_{score}" for score in scores]].to_numpy()
    np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-6)
    likelihoods = table[[f"likelihood_{score}" for score in scores]].to_numpy()
    assert (np.abs(likelihoods.sum(1) - 1) > 0.01).all()
    odds = likelihoods / (1 - likelihoods)  # exp of the logits, of which the shares are softmax
    np.testing.assert_allclose(shares, odds / odds.sum(1, keepdims=True), rtol=1e-4)
    assert (table.score == scores[shares.argmax(1)]).all()
    np.testing.assert_allclose(table.expected, shares @ scores, rtol=1e-5)
    variance = shares @ scores**2 - (shares @ scores) ** 2
    np.testing.assert_allclose(table.spread, np.sqrt(variance), rtol=1e-4)
    told = capsys.readouterr().out.splitlines()
    assert [line for line in told if "they need not add up to 1" in line] == [told[-1]]
    rsrl(monkeypatch, "assess", "--run", run.folder, album)
    assert "they need not add up to 1" in capsys.readouterr().out.splitlines()[-1]


def test_ranks_follow_the_expected_score_and_percentiles_the_training_photos(
    monkeypatch, run, album, tmp_path
):
    table = assessed(monkeypatch, tmp_path, "--run", run.folder, album)
    assert sorted(table["rank"]) == list(range(1, 10))
    assert table.sort_values("rank").expected.is_monotonic_decreasing
    samples = run.samples
    is_training = samples.photo.isin(run.split.photo[run.split.part == "train"])
    own = samples.expected[is_training & (samples["round"] == run.chosen)].to_numpy()
    assert len(own) == (run.split.part == "train").sum()
    below = [(own < value).mean() * 100 for value in table.expected]
    np.testing.assert_allclose(table.percentile, below, atol=100 / len(own))
    assert table.percentile.between(0, 100).all()


def test_percentiles_count_half_of_the_equal():
    among = np.array([4.0, 2, 3, 3])
    assert choosing.percentiles(np.array([1, 2, 3, 5]), among).tolist() == [0, 12.5, 50, 100]
    assert np.isnan(choosing.percentiles(np.array([1.0]), np.array([]))).all()


def test_a_run_that_kept_no_samples_has_no_percentiles_and_says_so(
    monkeypatch, run, album, tmp_path, capsys
):
    bare = shutil.copytree(run.folder, tmp_path / "bare")
    (bare / "samples.parquet").unlink()
    table = assessed(monkeypatch, tmp_path, "--run", bare, album)
    assert table.percentile.isna().all() and table["rank"].notna().all()
    assert "No percentiles: a run has not kept" in capsys.readouterr().out
    table = assessed(monkeypatch, tmp_path, "--run", run.folder, "--run", bare, album)
    assert table.percentile.isna().all()


def test_of_a_burst_the_best_is_marked_and_the_top_has_one_of_it(
    monkeypatch, run, album, tmp_path, capsys
):
    words = ["--run", run.folder, album, "--near-duplicates", "6"]
    table = assessed(monkeypatch, tmp_path, *words)
    burst = table[table.group == 1]
    assert {Path(photo).name for photo in burst.photo} == {
        "0.png",
        *(f"burst_{number}.jpg" for number in range(3)),
    }
    alone = table[table.group == 0]
    assert len(alone) == 5 and alone.best_of_group.all()
    assert burst.best_of_group.sum() == 1
    assert burst.expected[burst.best_of_group].iloc[0] == burst.expected.max()
    assert "4 of 9 photos are near-duplicates, in 1 group;" in capsys.readouterr().out

    top = assessed(monkeypatch, tmp_path, *words, "--top", "6")
    assert top["rank"].is_monotonic_increasing and top.best_of_group.all()
    assert len(top) == 6 and (top.group == 1).sum() == 1
    assert "Of 9 photos the 6 best stand in" in capsys.readouterr().out
    plain = assessed(monkeypatch, tmp_path, *words[:3], "--top", "3")
    assert plain["rank"].tolist() == [1, 2, 3] and "group" not in plain

    together = assessed(monkeypatch, tmp_path, *words, "--sort", "group")
    assert together.group.tolist() == [1] * 4 + [0] * 5
    assert together["rank"][:4].is_monotonic_increasing
    assert together["rank"][4:].is_monotonic_increasing


def test_the_best_of_groups_are_the_first_of_the_highest():
    values = np.array([1.0, 5, 5, 2, 2, 9])
    groups = np.array([1, 1, 1, 0, 2, 2])
    best = choosing.best_of_groups(values, groups)
    assert best.tolist() == [False, True, False, True, False, True]


@pytest.mark.parametrize(
    ("column", "rises"),
    [("rank", True), ("photo", True), ("expected", False), ("score", False), ("spread", False)],
)
def test_rows_are_sorted_as_asked(monkeypatch, run, album, tmp_path, column, rises):
    table = assessed(monkeypatch, tmp_path, "--run", run.folder, album, "--sort", column)
    in_order = table[column].is_monotonic_increasing if rises else table[column][::-1]
    assert in_order if rises else in_order.is_monotonic_increasing
    given = assessed(monkeypatch, tmp_path, "--run", run.folder, album)
    assert given.photo.is_monotonic_increasing and set(given.photo) == set(table.photo)


def test_json_lines_hold_what_the_csv_holds(monkeypatch, run, album, tmp_path):
    words = ["--run", run.folder, album, "--near-duplicates", "6"]
    table = assessed(monkeypatch, tmp_path, *words)
    rsrl(monkeypatch, "assess", *words, "--out", tmp_path / "table.JSONL")
    lines = (tmp_path / "table.JSONL").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert [list(row) for row in rows] == [list(table)] * 9
    assert [row["photo"] for row in rows] == table.photo.tolist()
    assert rows[0]["best_of_group"] in (True, False) and type(rows[0]["rank"]) is int
    np.testing.assert_allclose([row["share_4"] for row in rows], table.share_4, rtol=1e-6)
    assert {type(row["score"]) for row in rows} == {int}


def test_scores_of_two_digits_are_sorted_as_numbers_and_what_is_unknown_is_null():
    shares = pd.DataFrame({"9": [0.9, 0.2], "10": [0.1, 0.8]})
    unknown = pd.Series([np.nan, np.nan])
    answers = choosing.Answers(shares, shares, shares[[]], unknown)
    table = choosing.table_of(["é.jpg", "b.jpg"], answers, scores=[9, 10])
    assert choosing.sorted_by(table, "score").score.tolist() == [10, 9]
    first, second, end = choosing.as_json_lines(table).split("\n")
    assert first.startswith('{"photo": "é.jpg", "score": 9, "expected": 9.1')
    assert json.loads(second)["percentile"] is None and end == ""


@pytest.mark.parametrize("name", ["t.xlsx", "t.json", "t.parquet", "t.txt", "t.tsv", "t.csv.gz"])
def test_a_format_that_is_not_written_is_refused_before_anything_is_read(
    monkeypatch, tmp_path, name
):
    words = ["--run", tmp_path / "none", tmp_path / "none.jpg"]
    for option in ("--out", "--csv"):
        said = refused(monkeypatch, "assess", *words, option, tmp_path / name)
        assert f"{name} is to be the table, which is written as .csv or .jsonl; give" in said
    said = refused(monkeypatch, "sweep", tmp_path / "none.toml", "--out", tmp_path / name)
    assert f"{name} is to be the table of results; give a name that ends in .csv" in said
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--top", "0"], "--top is a number of photos, 1 or more, not 0"),
        (["--near-duplicates", "17"], "--near-duplicates must lie in 0..16, not 17"),
        (["--near-duplicates", "-1"], "--near-duplicates must lie in 0..16, not -1"),
        (["--sort", "group"], "--sort group needs groups; add --near-duplicates 6"),
    ],
)
def test_choices_that_cannot_be_are_refused(monkeypatch, tmp_path, words, says):
    said = refused(monkeypatch, "assess", "--run", tmp_path, tmp_path / "none.jpg", *words)
    assert says in said


def test_two_levels_are_ranked_by_the_share_of_the_high_one_and_attributes_are_columns(
    monkeypatch, gap_run, folder, tmp_path
):
    table = assessed(monkeypatch, tmp_path, "--run", gap_run, folder, "--sort", "rank")
    assert table.share_high.is_monotonic_decreasing
    assert table.percentile.is_monotonic_decreasing
    network = open_run(gap_run).network()
    for name in network.attributes:
        assert table[f"attribute_{name}"].between(0, 1).all()
    assert table[f"attribute_{network.attributes[1]}"].nunique() > 1
    for column in ("expected", "score", "spread"):
        said = refused(monkeypatch, "assess", "--run", gap_run, folder, "--sort", column)
        assert f"--sort {column} needs scores, this run has the levels low, high; sort by" in said


def test_attributes_of_several_runs_are_means_of_those_that_have_learned_them(gap_run, coloured):
    judges = open_run(gap_run).judges()
    one = choosing.answers_of(judges, coloured[1], np.array([]))
    other = choosing.Answers(
        one.shares, one.likelihoods, one.attributes[["sharp"]] + 1, one.percentile
    )
    both = choosing.mean_of([one, other])
    np.testing.assert_allclose(both.attributes["sharp"], one.attributes["sharp"] + 0.5)
    np.testing.assert_allclose(both.attributes["colour=red"], one.attributes["colour=red"])
    np.testing.assert_allclose(both.shares, one.shares)


def test_the_terminal_shows_what_tells_photos_apart(monkeypatch, run, album, capsys):
    rsrl(monkeypatch, "assess", "--run", run.folder, album, "--sort", "rank")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["photo", "score", "expected", "spread", "rank", "percentile"]
    assert [line.split()[4] for line in lines[1:10]] == [str(rank) for rank in range(1, 10)]
    assert max(map(len, lines[:10])) < len(str(album)) + 80


def test_files_are_named_like_the_photos_and_numbered_only_where_two_would_be_one(tmp_path):
    names = ["a.jpg", "x/a.jpg", "a.png", "b.jpg", "A.jpg"]
    paths = [f"{n}/{Path(name).name}" for n, name in enumerate(names)]
    crops = targets_of(paths, names, tmp_path / "out", "crops")
    written = [str(own[0].relative_to(tmp_path / "out")) for own in crops]
    assert written == ["00001_a.jpg", "x/a.jpg", "a.png", "b.jpg", "00005_A.jpg"]
    pictures = targets_of(paths, names, tmp_path / "new", "t", ("{stem}.png", "m/{stem}.png"))
    of_png = [str(own[0].relative_to(tmp_path / "new")) for own in pictures]
    assert of_png == ["00001_a.png", "x/a.png", "00003_a.png", "b.png", "00005_A.png"]
    clash = targets_of(
        ["1/a.jpg", "2/a.jpg", "3/00001_a.jpg"],
        ["a.jpg", "a.jpg", "00001_a.jpg"],
        tmp_path / "c",
        "t",
    )
    assert len({own[0] for own in clash}) == 3
    inside = targets_of(
        ["1/a.jpg", "2/a.jpg"],
        ["a.jpg", "m/a.jpg"],
        tmp_path / "i",
        "t",
        ("{stem}.png", "m/{stem}.png"),
    )
    assert len({target for own in inside for target in own}) == 4


def test_a_sub_folder_that_is_a_link_is_not_written_into(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "a.png").write_bytes(b"precious")
    out = tmp_path / "out"
    out.mkdir()
    (out / "2019").symlink_to(elsewhere)
    with pytest.raises(InputError, match=r"2019 is a link to .*elsewhere, where nothing is to be"):
        targets_of(["p/2019/a.png"], ["2019/a.png"], out, "crops")
    assert (elsewhere / "a.png").read_bytes() == b"precious"


def test_a_file_that_no_earlier_call_has_written_is_not_written_over(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.png").write_bytes(b"a photo of its own")
    with pytest.raises(
        InputError, match=r"holds a\.png, and no highlights\.csv that says rsrl has"
    ):
        targets_of(["p/a.jpg"], ["a.jpg"], out, "highlights", ("{stem}.png",))
    assert (out / "a.png").read_bytes() == b"a photo of its own"
    (out / "highlights.csv").write_text("photo\n")
    targets_of(["p/a.jpg"], ["a.jpg"], out, "highlights", ("{stem}.png",))
    assert not (out / "a.png").exists()
