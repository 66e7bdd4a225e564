"""What a command says of a run is what its files say."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from rsrl_lib import rounds, runs, summary
from rsrl_lib.drop_rules import DropRule
from rsrl_lib.files import InputError
from rsrl_lib.papers import deviations, recipe_of
from rsrl_lib.recipe import Recipe, Training

pytestmark = pytest.mark.usefixtures("small_crops")
RECIPE = Recipe(
    backbone="squeezenet1_1",
    weights="none",
    rounds=2,
    drop=DropRule(k=(1.0,), min_per_class=2),
    training=Training(steps=2, batch=12),
)


@pytest.fixture(scope="module")
def run(coloured, small_crops, tmp_path_factory):
    return rounds.repeat(*coloured, tmp_path_factory.mktemp("runs") / "run", RECIPE)


def test_the_start_is_told_when_parts_are_on_the_disk_and_before_a_round(coloured, tmp_path):
    told = []

    def on_start(begun):
        assert not (begun.folder / "rounds.csv").exists()
        told.extend(summary.of_start(coloured[0], begun, RECIPE))

    run = rounds.repeat(*coloured, tmp_path / "run", RECIPE, on_start=on_start)
    parts = run.split.part.value_counts()
    assert told[0] == "60 photos. Photos with score 2: 6, 3: 14, 4: 20, 5: 20."
    assert told[1] == (
        f"Parts: {parts['train']} photos train, {parts['validation']} (validation) choose the "
        f"round, {parts['test']} only test."
    )
    info = run.info
    device = "the processor" if info["device"] == "cpu" else info["device"]
    assert told[2].startswith("Up to 2 rounds of squeezenet1_1 from random weights, on ")
    assert f"on {device} in {info['precision']} with {info['threads']} thread" in told[2]
    assert len(told) == 3
    assert told[:2] == summary.of_start(coloured[0], run, RECIPE)  # finished: nothing is trained
    longer = replace(RECIPE, rounds=5)
    assert "2 rounds are finished already; round 3 is next." in summary.of_start(
        coloured[0], run, longer
    )


def test_rounded_and_merged_scores_leaks_levels_and_notices_are_told(coloured, run, monkeypatch):
    photos = replace(coloured[0], rounding="3 of 60 scores are not whole.")
    table = photos.table.copy()
    table.loc[table.index[:2], "score"] = 9
    photos = replace(photos, table=table)
    said = summary.of_scores(photos, {9: 5})
    assert said == [
        "3 of 60 scores are not whole.",
        "Score 9 has too few photos to split and counts as 5.",
        "(Photos with score 9: 2; 5 are needed, one for each fifth that may test.)",
    ]
    photos.table.loc[photos.table.index[:6], "score"] = 9  # some of them the same file
    assert "score 9: 6; 5 different files are needed" in summary.of_scores(photos, {9: 5})[2]
    photos.table.loc[photos.table.index[2:6], "score"] = coloured[0].table.score[2:6]
    info = run.info | {"merged_scores": {"9": 5}, "notices": ["Four photos are the same file."]}
    monkeypatch.setattr(runs.Run, "info", info)
    assert set(said) | {"Four photos are the same file."} <= set(
        summary.of_start(photos, run, RECIPE)
    )
    of_levels = replace(RECIPE, levels="low-high", choose="test", resplit="fresh")
    said = " ".join(summary.of_start(photos, run, of_levels))
    assert "are high, with a mean score above 5" in said
    assert "not whole" not in said and "too few photos" not in said
    assert "test and also choose the round (a leak)" in said
    assert "divided anew in every round (a leak)" in said


def test_the_end_is_a_table_of_the_rounds_and_what_its_columns_mean(run):
    table, *legend = summary.of_end(run)
    rows = [line.split() for line in table.splitlines()[2:]]
    assert [row[0] for row in rows] == ["1", "2"]
    for row, known in zip(rows, run.rounds.itertuples(), strict=True):
        assert row[1:3] == [str(known.kept), str(known.rescued)]
        assert ("yes" in row) == known.chosen
        values = [known.train_accuracy, known.train_macro_f1, known.validation_total_f]
        values += [known.validation_accuracy, known.validation_macro_f1, known.test_accuracy]
        values += [known.test_macro_f1, known.test_balanced_accuracy]
        assert row[-len(values) - 1 : -1] == [f"{value:.3f}" for value in values]
    said = "\n".join(legend)
    train = (run.split.part == "train").sum()
    assert f"kept: photos that the round learned from, of {train} for training." in said
    assert "rescued: those below K that stayed as the 2 likeliest of their score." in said
    assert "is the largest on the validation photos" in said
    assert "they chose nothing" in said
    assert f"{run.rounds.test_majority_accuracy[0]:.3f} (test)" in said


def test_the_document_of_a_run_and_its_deviations_are_told(run, monkeypatch):
    assert summary.of_paper(run) == []

    def told(recipe):
        info = {"recipe": {"paper": recipe.paper}, "deviations": deviations(recipe)}
        monkeypatch.setattr(runs.Run, "info", json.loads(json.dumps(info)))  # as a file has it
        return summary.of_paper(run)

    title, deviates = told(recipe_of("rsrl-b", backbone="resnet18", k_rounds=(0.9, 0.95)))
    assert title.startswith("This run is of rsrl-b: CNN-based repetitive self-revised learning")
    assert deviates == (
        "It deviates in 2: backbone is resnet18, not alexnet; k_rounds is 0.9 0.95, "
        "not 0.9 0.9 0.95."
    )
    _, deviates = told(recipe_of("ssrl-2019"))
    assert deviates == "It deviates in none of the settings that rsrl papers shows."
    monkeypatch.setattr(runs.Run, "info", {"recipe": {"paper": "mine"}, "deviations": []})
    with pytest.raises(InputError, match="There is no paper 'mine'"):
        summary.of_paper(run)
    monkeypatch.setattr(runs.Run, "info", {"recipe": {"paper": "rsrl-a"}, "deviations": ["k"]})
    with pytest.raises(InputError, match=r"run\.json is no readable part of a run"):
        summary.of_paper(run)


def test_photos_that_are_shown_test_or_are_said_to_have_been_learned_from(run, monkeypatch):
    assert run.shown_part == "test"
    assert summary.of_shown(run, 12) == "12 test photos, never trained on."
    monkeypatch.setattr(runs.Run, "split", run.split.assign(part="train"))
    assert run.shown_part == "train"
    assert summary.of_shown(run, 60).startswith("60 training photos: this run holds out no test")


def test_a_round_that_the_rule_left_with_few_photos_is_a_warning_with_its_numbers(run):
    second = run.samples.query("round == 2 and part == 'train'")
    majorities = second[second.label.isin([3, 4, 5])]
    assert majorities.kept.sum() == 6  # K = 1 drops all but the floor of three scores
    first, warning = run.rounds.iloc[0], summary.warnings(run)
    assert warning[0] == (
        "Warning: the drop rule left round 2 with few photos. Round 2 learned from "
        f"{second.kept.sum()} of {len(second)}: of {len(majorities)} with the scores 3, 4 and 5, "
        "6 stayed, 6 of these only by --min-per-class 2."
    )
    last = run.rounds.iloc[1]
    assert f"went from {first.test_macro_f1:.2f} to {last.test_macro_f1:.2f}, " in warning[1]
    assert "A K below 1 (--k), or --keep-share 0.667, keeps more." in warning[1]


@pytest.mark.parametrize(
    ("recipe", "is_warned"),
    [
        ({"keep_share": 0.2, "k": None}, False),  # as few as were asked for
        ({"control": "undersample"}, False),
        ({"control": "random-drop"}, True),
        ({}, True),
    ],
)
def test_only_what_a_k_did_is_warned_of(run, monkeypatch, recipe, is_warned):
    info = run.info
    asked = info["recipe"]
    changed = asked | {k: v for k, v in recipe.items() if k in asked}
    changed["drop"] = asked["drop"] | {k: v for k, v in recipe.items() if k in asked["drop"]}
    monkeypatch.setattr(runs.Run, "info", info | {"recipe": changed})
    assert bool(summary.warnings(run)) == is_warned


@pytest.mark.parametrize(
    ("kept", "is_few"),
    [
        ({3: 10, 4: 20, 5: 20, 6: 5}, False),
        ({3: 8, 4: 8, 5: 8, 6: 5}, True),  # the floor of all three majorities
        ({3: 9, 4: 8, 5: 8, 6: 5}, False),
        ({3: 8, 4: 20, 5: 20, 6: 5}, False),
        ({3: 0, 4: 18, 5: 0, 6: 0}, True),  # less than a third
    ],
)
def test_few_is_less_than_a_third_or_the_floor_alone(kept, is_few):
    rows = []
    for score, photos in {3: 10, 4: 20, 5: 20, 6: 5}.items():
        stay = np.arange(photos) < kept[score]
        rows.append(pd.DataFrame({"label": score, "kept": stay, "part": "train", "round": 2}))
    assert summary._is_left_with_few(pd.concat(rows), 2, floor=8) == is_few
