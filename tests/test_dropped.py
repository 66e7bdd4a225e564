"""dropped.csv, against what follows from the other tables and from the rule by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from rsrl_lib import drop_rules, rounds
from rsrl_lib.drop_rules import DropRule, largest_classes
from rsrl_lib.dropped import COLUMNS, NOTHING, told
from rsrl_lib.files import InputError
from tests.conftest import broken_off
from tests.test_rounds import altered

pytestmark = pytest.mark.usefixtures("small_crops")
HEAD = altered(tune="head", rounds=4)
OWN = DropRule(k=(0.97, 0.95, 0.9), min_per_class=3)
TOP = DropRule("top-class", keep_share=0.7, min_per_class=2)


def by_hand(run, recipe):
    """The table from samples, a photo and a round at a time."""
    samples = run.samples[run.samples.part == "train"]
    score = run.split.set_index("photo").score
    facts = run.rounds.set_index("round")
    largest = largest_classes(samples[samples["round"] == 1].label.to_numpy(int))
    rows = []
    for i in facts.index[1:]:
        last = samples[samples["round"] == i - 1].set_index("photo")
        now = samples[samples["round"] == i].set_index("photo")
        for photo in now.index:
            label = int(now.label[photo])
            column = "own_logit" if recipe.drop.rule == "own-class" else "top_logit"
            logit = float(last[column][photo])
            names = {largest[n]: f"k{n + 1}" for n in range(len(largest))}
            k = facts[names[label]][i] if label in names else np.nan
            below = label in names and logit < facts[f"{names[label]}_logit"][i]
            kept = bool(now.kept[photo])
            returned = kept and not last.kept[photo]
            rescued = below and kept and recipe.control == "none"
            if below or not kept or returned:
                rows.append((photo, score[photo], i, expit(logit), k, kept, rescued, returned))
    return pd.DataFrame(rows, columns=COLUMNS)


@pytest.mark.parametrize(
    "recipe",
    [
        altered(drop=DropRule(keep_share=0.7, min_per_class=9)),
        replace(HEAD, drop=OWN),
        replace(HEAD, drop=TOP),
        replace(HEAD, drop=TOP, control="random-drop"),
        replace(HEAD, drop=OWN, control="random-drop-same"),
        replace(HEAD, drop=DropRule(keep_share=0.6), levels="low-high", cut=3),
    ],
    ids=["fine-tuned", "own-class", "top-class", "at random", "always the same", "low-high"],
)
def test_dropped_csv_is_what_the_tables_tell_by_hand(recipe, coloured, tmp_path):
    run = rounds.repeat(*coloured, tmp_path / "run", recipe)
    table = run.dropped
    assert list(table) == COLUMNS
    pd.testing.assert_frame_equal(table, by_hand(run, recipe), check_exact=False, rtol=1e-12)
    assert not table.kept.all()
    if recipe.control == "none":
        rescued = table.groupby("round").rescued.sum().reindex(run.rounds["round"], fill_value=0)
        assert rescued.tolist() == run.rounds.rescued.tolist()

    (run.folder / "dropped.csv").unlink()  # as runs of before lack it
    derived = run.dropped
    pd.testing.assert_frame_equal(derived, table, check_dtype=False)


@pytest.mark.parametrize(
    "recipe",
    [
        replace(HEAD, drop=replace(OWN, judges="cross-fitted")),
        altered(control="cross-fitted"),
    ],
    ids=["heads", "halves"],
)
def test_where_others_judge_the_likelihood_is_theirs(recipe, coloured, tmp_path, monkeypatch):
    asked = []
    real = drop_rules.decide

    def remembered(rule, labels, own, top, **how):
        asked.append(np.asarray(own, np.float64))
        return real(rule, labels, own, top, **how)

    monkeypatch.setattr("rsrl_lib.controls.decide", remembered)
    run = rounds.repeat(*coloured, tmp_path / "run", recipe)
    train = run.split.photo[run.split.part == "train"]
    table = run.dropped
    assert len(table) and len(asked) == len(run.rounds) - 1
    for i, logits in enumerate(asked, 2):
        said = pd.Series(expit(logits), train)
        of_round = table[table["round"] == i]
        assert np.allclose(of_round.likelihood, said[of_round.photo])
        of_network = run.samples[run.samples["round"] == i - 1].set_index("photo")
        own = of_network.own_likelihood[of_round.photo]
        assert not np.allclose(of_round.likelihood, own)

    (run.folder / "dropped.csv").unlink()
    derived = run.dropped
    is_out = table[~table.kept].reset_index(drop=True)
    out_again = derived[~derived.kept.astype(bool)].reset_index(drop=True)
    assert out_again.photo.tolist() == is_out.photo.tolist()
    assert derived.likelihood.isna().all()  # what they said was not kept


def test_an_interrupted_run_ends_with_the_same_table(coloured, tmp_path):
    recipe = replace(HEAD, drop=OWN)
    whole = rounds.repeat(*coloured, tmp_path / "whole", recipe)
    with broken_off(rounds, "judged_samples", 3):
        rounds.repeat(*coloured, tmp_path / "run", recipe)
    again = rounds.repeat(*coloured, tmp_path / "run", recipe)
    longer = rounds.repeat(*coloured, tmp_path / "longer", replace(recipe, rounds=2))
    (longer.folder / "dropped.csv").unlink()
    longer = rounds.repeat(*coloured, longer.folder, recipe)
    expected = (whole.folder / "dropped.csv").read_bytes()
    assert (again.folder / "dropped.csv").read_bytes() == expected
    assert (longer.folder / "dropped.csv").read_bytes() == expected


def test_a_run_that_drops_nothing_has_a_table_without_rows(coloured, tmp_path):
    for number, changes in enumerate([{"drop": DropRule(k=(0.0,))}, {"control": "class-balanced"}]):
        run = rounds.repeat(*coloured, tmp_path / str(number), replace(HEAD, rounds=2, **changes))
        assert run.dropped.empty and list(run.dropped) == COLUMNS
        (run.folder / "dropped.csv").unlink()
        assert run.dropped.empty


def test_a_photo_returns_in_the_round_after_it_was_out(coloured, tmp_path):
    photos = pd.DataFrame({"photo": ["a", "b", "c"], "score": [9, 4, 4], "label": [5, 4, 4]})
    labels = photos.label.to_numpy()
    rule = DropRule(k=(0.5,), min_per_class=0)
    table = NOTHING
    for i, own in enumerate([[1, -1, 2], [1, 1, -3], [1, 1, 1]], 2):
        decision = drop_rules.decide(
            rule, labels, np.array(own, float), np.zeros(3), after_round=i - 1
        )
        table = pd.concat([table, told(decision, photos, i, table)], ignore_index=True)
    assert table[["photo", "round", "kept", "returned"]].to_numpy().tolist() == [
        ["b", 2, False, False],
        ["b", 3, True, True],
        ["c", 3, False, False],
        ["c", 4, True, True],
    ]
    assert table.likelihood.tolist() == pytest.approx(expit([-1, 1, -3, 1]))
    assert (table.k == 0.5).all() and (table.score == 4).all()


def test_a_broken_table_is_told_in_a_sentence(coloured, tmp_path):
    run = rounds.repeat(*coloured, tmp_path / "run", replace(HEAD, rounds=2))
    (run.folder / "dropped.csv").write_bytes(b"\xff\x00")
    with pytest.raises(InputError, match=r"dropped\.csv is no readable part of a run"):
        _ = run.dropped
