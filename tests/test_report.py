"""rsrl report and rsrl compare: pages say what the tables say, and open without a network."""

import json
import re
import shutil
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics
from torch import nn

from rsrl_lib import measures, rounds, sources, summary
from rsrl_lib.backbones import Body
from rsrl_lib.drop_rules import DropRule
from rsrl_lib.files import InputError
from rsrl_lib.interface import cli
from rsrl_lib.pixels import decode
from rsrl_lib.report import answers, besides, of_a_run, verdicts
from rsrl_lib.report.page import Page, Section, Table, Words, rendered
from rsrl_lib.report.verdicts import Estimate, Evidence, recommended
from rsrl_lib.runs import open_run
from tests.conftest import draw_coloured_photos
from tests.test_rounds import altered

pytestmark = pytest.mark.usefixtures("small_crops")
HEAD = altered(tune="head", rounds=3, drop=DropRule(keep_share=0.7, min_per_class=2))
EVIL = '<img src=x onerror="alert(1)">&\'.png'


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photos, one of which is named by a program for the page, and their scores."""
    folder = tmp_path_factory.mktemp("photos")
    table = draw_coloured_photos(folder)
    (folder / "01.png").rename(folder / EVIL)
    scores = pd.read_csv(table).replace("01.png", EVIL)
    scores.to_csv(table, index=False)
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def photos(folder, cache):
    scored = sources.read_photos("folder", folder, folder / "scores.csv")
    return scored, decode(scored.table, cache=cache)[0]


@pytest.fixture(scope="module")
def runs(photos, small_crops, tmp_path_factory):
    """Three runs on the same division: of the head, of all layers, and of all without dropping."""
    place = tmp_path_factory.mktemp("runs")
    kept = altered(rounds=2, drop=DropRule(k=(0.0,)))
    recipes = {"head": HEAD, "all": altered(rounds=2), "kept": kept}
    return {name: rounds.repeat(*photos, place / name, r) for name, r in recipes.items()}


def rsrl(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["rsrl", *map(str, words)])
    cli.main()


def refused(monkeypatch, *words):
    with pytest.raises(SystemExit) as stopped:
        rsrl(monkeypatch, *words)
    return str(stopped.value)


class Read(HTMLParser):
    """A page as its tables (lists of rows), its words, and what it would fetch."""

    EMPTY = ("meta", "link", "img", "br")

    def __init__(self, path):
        super().__init__()
        self.open, self.tables, self.words, self.addresses, self.alts = [], [], [], [], []
        self.text = path.read_text("utf-8")
        self.feed(self.text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        assert not any(name.startswith("on") for name in given), given
        assert tag != "script"
        self.addresses += [given[name] for name in ("src", "href") if name in given]
        if tag == "img":
            self.alts.append(given["alt"])
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("th", "td"):
            self.tables[-1][-1].append("")
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)
        if self.open and self.open[-1] in ("th", "td"):
            self.tables[-1][-1][-1] += data

    def table(self, *head):
        """The rows below a head."""
        (found,) = [rows for rows in self.tables if rows[0][: len(head)] == list(head)]
        return found[1:]

    @property
    def said(self):
        return re.sub(r"\s+", " ", " ".join(self.words))


def check_is_self_contained(page):
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert "url(" not in page.text and "@import" not in page.text
    assert "<img src=x" not in page.text
    assert all(page.alts)
    assert len(page.text) < 3e6


def test_the_numbers_of_a_page_are_those_of_the_tables(monkeypatch, runs, cache, capsys):
    run = runs["head"]
    rsrl(monkeypatch, "report", run.folder, "--cache", cache)
    said = capsys.readouterr().out
    page = Read(run.folder / "report.html")
    check_is_self_contained(page)
    assert f"The page is {run.folder / 'report.html'}" in said

    table = run.rounds
    for row, cells in zip(table.itertuples(), page.table("round", "learned from"), strict=True):
        of_parts = []
        for part in ("train", "validation", "test"):
            for name in ("accuracy", "macro_f1", "kappa"):
                of_parts.append(f"{getattr(row, f'{part}_{name}'):.3f}")
        assert cells == [str(row.round), str(row.kept), *of_parts]

    chosen = run.per_class.query(f"part == 'test' and round == {run.chosen}")
    for row, cells in zip(chosen.itertuples(), page.table("score", "photos"), strict=True):
        values = [f"{v:.3f}" for v in (row.precision, row.recall, row.f)]
        assert cells[:6] == [str(row.score), str(row.photos), str(row.assigned), *values]

    test = run.samples.query(f"part == 'test' and round == {run.chosen}")
    of_run = measures.measures(test.label.to_numpy(int), test.assigned.to_numpy(), [2, 3, 4, 5])
    head, *rows = next(rows for rows in page.tables if rows[0][1:2] == ["this run"])
    named = {cells[0]: cells[1:] for cells in rows}
    for name, shown in answers.MEASURES.items():
        assert named[shown][head.index("this run") - 1] == f"{of_run[name]:.3f}"
    majority = named["accuracy"][head.index("always the commonest score") - 1]
    assert majority == f"{table.test_majority_accuracy.iloc[0]:.3f}"

    kept = run.samples[run.samples.kept].groupby(["round", "label"]).size().unstack()
    for (i, sizes), cells in zip(kept.iterrows(), page.table("round", "2"), strict=True):
        assert cells == [str(i), *(str(int(n)) for n in sizes), str(int(sizes.sum()))]
    for part in ("train", "validation", "test"):
        count = (run.split.part == part).sum()
        assert str(count) in page.said
    counts, scores = of_a_run.confusion_of(run, run.chosen)
    trusted = metrics.confusion_matrix(test.label.to_numpy(int), test.assigned, labels=scores)
    assert (counts == trusted).all()


def test_odd_names_are_shown_as_they_are_and_are_no_program(monkeypatch, runs, cache):
    run = runs["head"]
    rsrl(monkeypatch, "report", run.folder, "--cache", cache)
    page = Read(run.folder / "report.html")
    out = of_a_run.dropped_longest(run)
    wrong = of_a_run.most_wrong(run)
    shown = [*out.photo[:12], *wrong.photo[:12]]
    assert shown and all(photo in page.said for photo in shown)
    evil = Page(EVIL, EVIL, [Section(EVIL, [Words([EVIL]), Table([EVIL], [[EVIL]], EVIL)])])
    assert "<img src=x" not in rendered(evil) and rendered(evil).count("&lt;img") >= 6
    assert "--a" not in rendered(evil)  # options alone are set as code


def test_options_are_set_as_code_and_still_escaped():
    words = rendered(Page("", "", [Section("", [Words(["Give --folds all, <b>."])])]))
    assert "<code>--folds all</code>, &lt;b&gt;." in words


def test_what_was_dropped_longest_came_back_and_is_most_wrong(runs):
    run = runs["head"]
    samples = run.samples
    train = samples[(samples.part == "train") & (samples["round"] > 1)]
    out = (~train.kept).groupby(train.photo).sum()
    longest = of_a_run.dropped_longest(run)
    assert sorted(longest.photo) == sorted(out[out > 0].index)
    assert out[longest.photo].is_monotonic_decreasing
    lives = samples[samples.part == "train"].pivot(index="photo", columns="round", values="kept")
    back = [photo for photo, life in lives.iterrows() if (~life[:-1] & life[1:].to_numpy()).any()]
    assert sorted(of_a_run.came_back(run).photo) == sorted(back)
    test = samples.query(f"part == 'test' and round == {run.chosen}").set_index("photo")
    off = (test.assigned - test.label.astype(int)).abs()
    wrong = of_a_run.most_wrong(run)
    assert len(wrong) == (off > 0).sum() and off[wrong.photo].is_monotonic_decreasing


def test_the_frozen_head_is_the_best_head_on_the_runs_own_division(photos, runs, cache, tmp_path):
    run = runs["all"]
    found = besides.find_photos(run)
    beside = besides.frozen_head(run, found, cache)
    plain = altered(tune="head", rounds=1, drop=DropRule(k=(0.0,)))
    made = rounds.repeat(*photos, tmp_path / "frozen", plain)
    expected = answers.of_run(made).set_index("photo").assigned
    assert beside.answers[expected.index].tolist() == expected.tolist()
    assert not list(run.folder.glob("frozen_head_*"))
    again = besides.frozen_head(run, besides.Found(reason="gone"), cache)
    assert again.answers.equals(beside.answers)


def test_keeping_all_photos_is_the_same_run_without_dropping(runs, cache, monkeypatch, capsys):
    run, kept = runs["all"], runs["kept"]
    rsrl(monkeypatch, "report", run.folder, "--keep-all", "no", "--cache", cache)
    left_out = Read(run.folder / "report.html")
    assert "Keeping all photos was left out, as you asked" in left_out.said
    assert not any("keeping all photos" in rows[0] for rows in left_out.tables)

    rsrl(monkeypatch, "report", run.folder, "--beside", kept.folder, "--cache", cache)
    given = Read(run.folder / "report.html")
    assert not (run.folder / "keep_all").exists()
    rsrl(monkeypatch, "report", run.folder, "--keep-all", "yes", "--cache", cache)
    page = Read(run.folder / "report.html")
    made = open_run(run.folder / "keep_all")
    assert made.samples.assigned.tolist() == kept.samples.assigned.tolist()
    assert made.dropped.empty
    column = [rows for rows in page.tables if "keeping all photos" in rows[0]]
    assert column == [rows for rows in given.tables if "keeping all photos" in rows[0]] != []
    assert "can be stopped and goes on" in capsys.readouterr().out
    before = (made.folder / "network_last.safetensors").stat().st_mtime_ns
    rsrl(monkeypatch, "report", run.folder, "--cache", cache)
    assert (made.folder / "network_last.safetensors").stat().st_mtime_ns == before

    says = refused(monkeypatch, "report", kept.folder, "--beside", run.folder, "--cache", cache)
    assert "takes a run that keeps all photos" in says


def test_a_long_training_is_not_begun_unasked(runs, cache, monkeypatch):
    run = runs["all"]
    shutil.rmtree(run.folder / "keep_all", ignore_errors=True)
    monkeypatch.setattr(besides, "expected_seconds", lambda run: 9000.0)
    beside = besides.keep_all(run, besides.find_photos(run), cache)
    assert beside.answers is None and not (run.folder / "keep_all").exists()
    assert "takes about 2 h 30 min" in beside.sentence and "--keep-all yes" in beside.sentence


def test_the_expected_time_is_that_of_the_run_for_all_photos(runs):
    run = runs["all"]
    began = pd.Timestamp(run.info["provenance"]["begun"]).timestamp()
    taken = run.last.stat().st_mtime - began
    kept = run.rounds.kept
    train = (run.split.part == "train").sum()
    expected = taken * train * len(kept) / kept.sum()
    assert besides.expected_seconds(run) == pytest.approx(expected)


def test_a_run_of_before_says_what_it_lacks_and_takes_given_photos(
    runs, folder, cache, monkeypatch, tmp_path
):
    run = shutil.copytree(runs["head"].folder, tmp_path / "run")
    (run / "frozen_head.csv").unlink(missing_ok=True)
    (run / "dropped.csv").unlink()
    info = json.loads((run / "run.json").read_text())
    del info["provenance"], info["photos"]
    (run / "run.json").write_text(json.dumps(info))
    rsrl(monkeypatch, "report", run, "--cache", cache)
    page = Read(run / "report.html")
    assert "Thumbnails could not be made, as the photos were not found" in page.said
    assert "The frozen head is missing: run.json does not say where its photos are" in page.said
    assert "made before photos, command and date were noted" in page.said

    rsrl(monkeypatch, "report", run, "--photos", folder, "--cache", cache)
    page = Read(run / "report.html")
    assert "Dropped longest" in page.said and "The frozen head is missing" in page.said
    scores = ["--scores", folder / "scores.csv"]
    rsrl(monkeypatch, "report", run, "--photos", folder, *scores, "--cache", cache)
    page = Read(run / "report.html")
    assert "The frozen head is missing" not in page.said and "Dropped longest" in page.said
    says = refused(monkeypatch, "report", run, *scores)
    assert "give their folder too, by --photos" in says


def test_photos_that_changed_are_neither_shown_nor_trained_on(runs, folder, cache, tmp_path):
    run = runs["head"]
    other = shutil.copytree(folder, tmp_path / "photos")
    for path in other.glob("*.png"):
        path.write_bytes(path.read_bytes() + b"0")
    given = {"source": "folder", "folder": other, "scores": other / "scores.csv"}
    found = besides.find_photos(run, given)
    assert len(found.paths) == 60
    with pytest.raises(InputError, match=r"The files of 60 photos are others than those"):
        besides.divided_as_then(run, found, cache)
    shown = of_a_run.photos_to_look_at(run, found, of_a_run.Photos(run, found))
    assert "none of these photos is where it was, as it was" in str(shown.blocks)

    scores = pd.read_csv(folder / "scores.csv")
    scores.loc[0, "score"] = 3
    scores.to_csv(tmp_path / "scores.csv", index=False)
    given = {"source": "folder", "folder": folder, "scores": tmp_path / "scores.csv"}
    with pytest.raises(InputError, match=r"The scores of 1 photos are others"):
        besides.divided_as_then(run, besides.find_photos(run, given), cache)
    scores[5:].to_csv(tmp_path / "scores.csv", index=False)
    with pytest.raises(InputError, match=r"5 photos of .* are not among those"):
        besides.divided_as_then(run, besides.find_photos(run, given), cache)


def test_a_run_without_test_photos_has_a_page_that_says_so(photos, cache, monkeypatch, tmp_path):
    recipe = replace(HEAD, rounds=2, train_share=1.0, choose="last")
    run = rounds.repeat(*photos, tmp_path / "run", recipe)
    rsrl(monkeypatch, "report", run.folder, "--cache", cache)
    page = Read(run.folder / "report.html")
    check_is_self_contained(page)
    assert "cannot be told: no photo tests" in page.said
    assert "Most wrong training photos" in page.said


def test_a_run_of_a_module_of_ones_own_has_a_page_that_says_what_it_lacks(
    photos, cache, monkeypatch, tmp_path
):
    module = nn.Sequential(
        nn.Conv2d(3, 4, 9, stride=8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    recipe = altered(backbone="own", weights="own", rounds=2)
    run = rounds.repeat(*photos, tmp_path / "run", recipe, body=Body(module, 4))
    rsrl(monkeypatch, "report", run.folder, "--cache", cache)
    page = Read(run.folder / "report.html")
    check_is_self_contained(page)
    assert "The frozen head is missing: a network of your own" in page.said
    assert "Keeping all photos is missing: The backbone 'own' is a module" in page.said
    assert "Highlight: none." in page.said and "Activation: none." in page.said


def test_levels_are_called_low_and_high(photos, cache, monkeypatch, tmp_path):
    recipe = replace(HEAD, rounds=2, levels="low-high", cut=3)
    run = rounds.repeat(*photos, tmp_path / "run", recipe)
    rsrl(monkeypatch, "report", run.folder, "--out", tmp_path / "x.html", "--cache", cache)
    page = Read(tmp_path / "x.html")
    assert [cells[0] for cells in page.table("score", "photos")] == ["low", "high"]
    assert "High is a mean score above 3." in page.said
    assert not (run.folder / "report.html").exists()


def test_a_page_of_all_folds_tests_every_photo(folder, cache, monkeypatch, tmp_path, capsys):
    places = ["--photos", folder, "--scores", folder / "scores.csv", "--run", tmp_path / "f"]
    words = ["--backbone", "squeezenet1_1", "--weights", "none", "--tune", "head"]
    words += ["--rounds", "2", "--keep-share", "0.7", "--folds", "all", "--cache", cache]
    rsrl(monkeypatch, "train", *places, *words)
    assert f"rsrl report {tmp_path / 'f'}" in capsys.readouterr().out
    rsrl(monkeypatch, "report", tmp_path / "f", "--cache", cache)
    page = Read(tmp_path / "f" / "report.html")
    check_is_self_contained(page)
    assert "60 photos, each tested in one of 5 folds." in page.said
    over_folds = pd.read_csv(tmp_path / "f" / "over_folds.csv").set_index("measure")
    rows = {cells[0]: cells[1:] for cells in page.table("", "mean of folds")}
    for name, shown in answers.MEASURES.items():
        assert rows[shown] == [f"{value:.3f}" for value in over_folds.loc[name]]
    rsrl(monkeypatch, "train", *places, *words)  # its folder is still one of all folds


def test_a_page_of_a_sweep_shows_each_set_of_photos(monkeypatch, tmp_path):
    table = Path(__file__).parents[1] / "data" / "results" / "oasis_arms.csv"
    rsrl(monkeypatch, "report", table, "--out", tmp_path / "sweep.html")
    page = Read(tmp_path / "sweep.html")
    check_is_self_contained(page)
    results = pd.read_csv(table)
    results = results[(results.target == "crowd") | (results.labels == "mean")]
    means = results.groupby(["dataset", "labels", "arm"])[["macro_f1", "accuracy"]].mean()
    shown = [cells for rows in page.tables for cells in rows]
    for mean in means.itertuples():
        assert any(
            f"{mean.accuracy:.3f}" in cells and f"{mean.macro_f1:.3f}" in cells for cells in shown
        )
    says = refused(monkeypatch, "report", tmp_path / "none.csv", "--out", tmp_path / "x.html")
    assert "is no table of a sweep" in says


def test_the_table_of_a_comparison_is_written_as_its_name_ends(monkeypatch, runs, tmp_path):
    a, b = runs["head"].folder, runs["all"].folder
    rsrl(monkeypatch, "compare", a, b, "--csv", tmp_path / "c.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "c.jsonl").read_text().splitlines()]
    assert rows[0]["measure"] == "accuracy"
    says = refused(monkeypatch, "compare", a, b, "--csv", tmp_path / "c.xlsx")
    assert "--csv" in says and "--out" not in says


def test_a_page_of_two_runs_is_what_compare_says(monkeypatch, runs, tmp_path, capsys):
    a, b = runs["head"].folder, runs["all"].folder
    rsrl(monkeypatch, "compare", a, b, "--csv", tmp_path / "c.csv")
    said = capsys.readouterr().out
    rsrl(monkeypatch, "report", a, b, "--out", tmp_path / "two.html")
    page = Read(tmp_path / "two.html")
    check_is_self_contained(page)
    table = pd.read_csv(tmp_path / "c.csv")
    for row, cells in zip(table.itertuples(), page.table("", "A", "B"), strict=False):
        if row.measure.startswith("photos"):
            continue
        assert cells[1:4] == [f"{row.a:.3f}", f"{row.b:.3f}", f"{row.difference:+.3f}"]
    assert said.splitlines()[-2] in page.said
    settings = {cells[0]: cells[1:] for cells in page.table("setting", "A")}
    assert settings["tune"] == ["head", "all"]


def test_compare_counts_what_follows_by_hand(monkeypatch, runs, tmp_path, capsys):
    one, other = runs["head"], runs["all"]
    a, b = answers.answers_of(one.folder), answers.answers_of(other.folder)
    both = answers.compared(a, b)
    joined = a.table.merge(b.table, on="photo")
    right_a = joined.assigned_x == joined.label_x
    right_b = joined.assigned_y == joined.label_x
    assert both.wins == {
        "both": (right_a & right_b).sum(),
        "a_only": (right_a & ~right_b).sum(),
        "b_only": (~right_a & right_b).sum(),
        "neither": (~right_a & ~right_b).sum(),
    }
    named = both.measures.set_index("measure")
    labels = joined.label_x
    for answered, column in ((joined.assigned_x, "a"), (joined.assigned_y, "b")):
        f1 = metrics.f1_score(labels, answered, average="macro", labels=labels.unique())
        assert named[column]["accuracy"] == pytest.approx((answered == labels).mean())
        assert named[column]["macro_f1"] == pytest.approx(f1)
    assert named.difference.tolist() == pytest.approx((named.a - named.b).tolist())
    rsrl(monkeypatch, "compare", one.folder, other.folder)
    out = capsys.readouterr().out
    assert f"{len(joined)} photos test in both" in out
    rsrl(monkeypatch, "compare", one.folder, one.folder)
    assert "do not tell the two apart" in capsys.readouterr().out


def test_compare_takes_the_photos_that_both_test_and_refuses_others(
    photos, runs, monkeypatch, tmp_path, capsys
):
    scored, pixels = photos
    parts = runs["head"].split.part.to_numpy().copy()
    test = np.flatnonzero(parts == "test")
    parts[test[:4]] = "train"
    table = scored.table.assign(part=parts)
    fewer = rounds.repeat(replace(scored, table=table), pixels, tmp_path / "fewer", HEAD)
    rsrl(monkeypatch, "compare", runs["head"].folder, fewer.folder)
    assert f"{len(test) - 4} photos test in both" in capsys.readouterr().out

    fold = rounds.repeat(*photos, tmp_path / "fold", replace(HEAD, fold=1))
    says = refused(monkeypatch, "compare", runs["head"].folder, fold.folder)
    assert "no test photo in common" in says
    levels = replace(HEAD, levels="low-high", cut=3)
    low_high = rounds.repeat(*photos, tmp_path / "levels", levels)
    says = refused(monkeypatch, "compare", runs["head"].folder, low_high.folder)
    assert "Two runs of the same scale are needed" in says and "cut at 3" in says
    moved = scored.table.copy()
    moved.loc[test, "score"] = 7 - moved.score[test]
    given = moved.assign(part=runs["head"].split.part)
    other = rounds.repeat(replace(scored, table=given), pixels, tmp_path / "other", HEAD)
    says = refused(monkeypatch, "compare", runs["head"].folder, other.folder)
    assert f"different scores of {len(test)} photos" in says
    says = refused(monkeypatch, "compare", runs["head"].folder, tmp_path)
    assert "holds no run" in says
    nothing = replace(HEAD, train_share=1.0, choose="last")
    run = rounds.repeat(*photos, tmp_path / "none", nothing)
    assert "holds out no test photos" in refused(monkeypatch, "compare", run.folder, fold.folder)


def test_paired_differences_are_those_of_the_paired_bootstrap():
    rng = np.random.default_rng(3)
    labels = rng.integers(2, 6, 300)
    a = np.where(rng.random(300) < 0.6, labels, rng.integers(2, 6, 300))
    b = np.where(rng.random(300) < 0.4, labels, rng.integers(2, 6, 300))
    table = measures.paired_differences(labels, a, b, [2, 3, 4, 5])

    def accuracy(labels, assigned):
        return np.mean(labels == assigned)

    expected = measures.paired_interval(accuracy, labels, a, b)
    assert table.loc["accuracy", ["difference", "low", "high"]].tolist() == pytest.approx(
        expected, abs=0.01
    )
    for name in ("macro_f1", "kappa", "macro_mae"):
        of_a = measures.measures(labels, a, [2, 3, 4, 5])[name]
        of_b = measures.measures(labels, b, [2, 3, 4, 5])[name]
        assert table.assigned[name] == pytest.approx(of_a)
        assert table.difference[name] == pytest.approx(of_a - of_b)
    wider = measures.paired_differences(labels, a, b, [2, 3, 4, 5], level=0.99)
    widths = (wider.high - wider.low) - (table.high - table.low)
    assert (widths[["accuracy", "macro_f1", "kappa"]] > 0).all()


SURE, WORSE, OPEN = Estimate(0.2, 0.1, 0.3), Estimate(-0.2, -0.3, -0.1), Estimate(0.1, -0.1, 0.3)


@pytest.mark.parametrize(
    ("facts", "kind", "says"),
    [
        ((29, SURE, SURE, SURE, True), "unknown", "so few photos: 29 test"),
        ((90, OPEN, SURE, SURE, True), "unknown", "below about 0.20 cannot be seen with 90"),
        ((90, SURE, SURE, OPEN, True), "run", "Take this run"),
        ((90, SURE, WORSE, OPEN, True), "keep_all", "Train without dropping"),
        ((90, SURE, SURE, WORSE, True), "frozen", "Take the frozen head"),
        ((90, SURE, WORSE, WORSE, True), "frozen", "Take the frozen head"),
        ((90, SURE, OPEN, SURE, True), "unknown", "Whether dropping helps cannot be told"),
        ((90, SURE, None, SURE, True), "unknown", "not compared with one that keeps all"),
        ((90, SURE, None, SURE, False), "run", "Take this run."),
        ((90, SURE, None, OPEN, False), "unknown", "beyond the head helps cannot be told"),
        ((90, SURE, None, None, False), "unknown", "not compared with the frozen head"),
        ((90, Estimate(0, 0, 0), OPEN, OPEN, True), "unknown", "get the same score"),
    ],
)
def test_what_is_recommended_follows_from_intervals_alone(facts, kind, says):
    found = recommended(Evidence(*facts))
    assert found.kind == kind and says in " ".join([found.headline, *found.reasons])
    assert found.headline.count(". ") <= 1


def test_a_head_that_drops_nothing_is_taken_where_it_learned():
    found = recommended(Evidence(90, SURE, None, None, drops=False, is_frozen=True))
    assert found.kind == "run"


def test_whose_photos_all_test_already_is_not_told_to_let_them_test():
    open_question = Evidence(90, SURE, OPEN, OPEN, drops=True)
    said = " ".join(recommended(open_question).reasons)
    assert "--folds all" in said
    said = " ".join(recommended(replace(open_question, tests_all=True)).reasons)
    assert "--folds all" not in said and "score more of them" in said


def test_clear_wins_and_losses_are_seen_and_chance_is_not():
    rng = np.random.default_rng(0)
    scores = [2, 3, 4, 5]
    labels = rng.choice(scores, 200, p=[0.1, 0.3, 0.4, 0.2])

    def answered(skill):
        return np.where(rng.random(200) < skill, labels, rng.choice(scores, 200))

    def kind(run, keep_all, frozen, **how):
        others = {"keep_all": answered(keep_all), "frozen": answered(frozen)}
        found = verdicts.evidence(labels, answered(run), others, scores, drops=True, **how)
        return recommended(found).kind

    assert kind(0.9, 0.3, 0.3) == "run"
    assert kind(0.3, 0.9, 0.3) == "keep_all"
    assert kind(0.3, 0.9, 0.9) == "frozen"
    assert kind(0.5, 0.5, 0.5) == "unknown"
    few = labels[:20]
    found = verdicts.evidence(few, few, {"keep_all": few[::-1]}, scores, drops=True)
    assert recommended(found).kind == "unknown"


def test_scores_with_hardly_a_test_photo_decide_with_their_neighbour():
    labels = np.array([2] * 2 + [3] * 30 + [4] * 40)
    answers_of = np.array([3] * 2 + [3] * 30 + [4] * 40)
    worse = np.where(np.arange(72) < 2, 2, 4)
    found = verdicts.evidence(labels, answers_of, {"keep_all": worse}, [2, 3, 4], drops=True)
    assert found.merged == {2: 3} and found.against_keep_all.outcome == "better"
    assert "2 with 3" in " ".join(recommended(found).reasons)


def test_the_raters_own_repeatability_stands_beside_the_accuracy(
    runs, cache, monkeypatch, tmp_path
):
    folder = shutil.copytree(runs["head"].folder, tmp_path / "run")
    info = json.loads((folder / "run.json").read_text())
    info["rater"] = {"repeats": 40, "raters": 1, "between": None}
    info["rater"] |= {"exact": [0.61, 0.5, 0.7], "within_one": [0.9, 0.8, 1]}
    info["rater"]["kappa"] = [0.5, 0.4, 0.6]
    (folder / "run.json").write_text(json.dumps(info))
    rsrl(monkeypatch, "report", folder, "--cache", cache)
    said = Read(folder / "report.html").said
    sentences = summary.of_rater(open_run(folder))
    assert "40 photos" in sentences[0] and all(each in said for each in sentences)


def test_train_ends_by_naming_the_report(monkeypatch, folder, cache, tmp_path, capsys):
    places = ["--photos", folder, "--scores", folder / "scores.csv", "--run", tmp_path / "a b"]
    words = ["--backbone", "squeezenet1_1", "--weights", "none", "--tune", "head", "--rounds", "1"]
    rsrl(monkeypatch, "train", *places, *words, "--cache", cache)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"Read what it learned: rsrl report '{tmp_path / 'a b'}'"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["{head}", "{all}", "{kept}"], "A page is of one run or of two, not of 3"),
        (["{head}", "--out", "{head}/page.pdf"], "give a name that ends in .html"),
        (["{head}", "{all}", "--beside", "{kept}"], "--beside is for a page of one run"),
        (["{head}", "--base", "x"], "--base is for a sweep"),
        (["nowhere"], "is not there"),
    ],
)
def test_what_a_page_cannot_be_made_of_is_told_in_a_sentence(monkeypatch, runs, words, says):
    given = [word.format(**{name: run.folder for name, run in runs.items()}) for word in words]
    assert says in refused(monkeypatch, "report", *given)
    assert not Path("nowhere").exists()
