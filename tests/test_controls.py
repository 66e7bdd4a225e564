import dataclasses
import itertools
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import logit
from torch.nn import functional

from rsrl_lib import controls, losses, rounds, summary
from rsrl_lib.controls import CONTROLS
from rsrl_lib.drop_rules import Decision, DropRule, decide
from rsrl_lib.files import InputError
from rsrl_lib.network import Snapshot
from rsrl_lib.recipe import ControlName
from tests.conftest import broken_off
from tests.test_rounds import RECIPE, contents

LABELS = np.repeat([2, 3, 4, 5, 6], [4, 20, 40, 16, 8])
pytestmark = pytest.mark.usefixtures("small_crops")


def test_focal_loss_counts_a_photo_that_is_right_already_little():
    logits, nodes = torch.tensor([[3.0, 0.0], [0.0, 3.0], [0.0, 0.0]]), torch.tensor([0, 0, 0])
    p = logits.softmax(1)[:, 0]
    assert torch.allclose(losses.focal(logits, nodes), -((1 - p) ** 2) * p.log())


def test_the_earth_movers_loss_grows_with_the_distance_of_the_answer():
    certain = 50.0 * torch.eye(5)
    loss = losses.emd(certain, torch.tensor([0, 0, 0, 0, 0]))
    assert torch.allclose(loss, torch.arange(5.0).div(5).sqrt(), atol=1e-4)


def test_the_earth_movers_loss_has_a_finite_slope_where_it_is_zero():
    logits = (50.0 * torch.eye(3)).requires_grad_()
    losses.emd(logits, torch.arange(3)).sum().backward()
    assert logits.grad.isfinite().all()


def test_adjusted_logits_of_equal_classes_are_plain_cross_entropy_and_else_add_the_prior():
    logits, nodes = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    plain = functional.cross_entropy(logits, nodes, reduction="none")
    equal = losses.logit_adjusted(np.array([5, 5, 5]))(logits, nodes)
    assert torch.allclose(equal, plain, atol=1e-6)
    counts = np.array([1, 3, 6])
    prior = torch.tensor([0.1, 0.3, 0.6]).log()
    expected = functional.cross_entropy(logits + prior, nodes, reduction="none")
    assert torch.allclose(losses.logit_adjusted(counts)(logits, nodes), expected, atol=1e-6)


def test_class_weights_give_every_class_the_same_sum_and_have_mean_1():
    weights = CONTROLS["class-weighted"].weights(LABELS)
    sums = [weights[score == LABELS].sum() for score in np.unique(LABELS)]
    assert sums == pytest.approx([len(LABELS) / 5] * 5)
    assert (CONTROLS["none"].weights(LABELS) == 1).all()


def test_balanced_sampling_draws_as_many_photos_and_every_class_as_often():
    sample = CONTROLS["class-balanced"].sample
    drawn = sample(np.tile(LABELS, 50), np.random.default_rng(0))
    assert len(drawn) == 50 * len(LABELS)
    shares = np.unique(np.tile(LABELS, 50)[drawn], return_counts=True)[1] / len(drawn)
    assert shares == pytest.approx([0.2] * 5, abs=0.03)


def test_undersampling_leaves_of_the_three_largest_classes_what_the_fourth_has():
    sample = CONTROLS["undersample"].sample
    drawn = sample(LABELS, np.random.default_rng(0))
    assert np.unique(LABELS[drawn], return_counts=True)[1].tolist() == [4, 8, 8, 8, 8]
    assert len(set(drawn)) == len(drawn)
    three = sample(LABELS[LABELS < 5], np.random.default_rng(0))
    assert np.unique(LABELS[three], return_counts=True)[1].tolist() == [4, 4, 4]
    assert CONTROLS["none"].sample(LABELS, None).tolist() == list(range(len(LABELS)))


def judged_photos(**given):
    rng = np.random.default_rng(0)
    own, top = logit(rng.random((2, len(LABELS))))
    unseen = rng.normal(size=(len(LABELS), 5)).astype(np.float32)
    given = {"kept": own > 0, "unseen": unseen, "after_round": 1, "seed": 0} | given
    return controls.Judged(LABELS, own, top, **given)


def decided(control, **given):
    judged = judged_photos(**given)
    rule = DropRule(k=(0.6,), min_per_class=1)
    plain = decide(rule, LABELS, judged.own, judged.top, after_round=1)
    return CONTROLS[control].keep(rule, judged), plain, judged


def test_random_dropping_keeps_as_many_of_each_class_and_others():
    found, plain, _ = decided("random-drop")
    for score in np.unique(LABELS):
        assert found.kept[score == LABELS].sum() == plain.kept[score == LABELS].sum()
    assert (found.kept != plain.kept).any()
    assert found.thresholds == plain.thresholds


def test_random_dropping_draws_anew_in_every_round_but_where_it_is_to_take_the_same():
    for control, is_drawn_anew in {"random-drop": True, "random-drop-same": False}.items():
        first, later = (decided(control, after_round=number)[0].kept for number in (1, 2))
        assert (first != later).any() == is_drawn_anew


def test_random_dropping_of_the_same_photos_takes_the_first_of_one_order():
    found, plain, _ = decided("random-drop-same", seed=5)
    order = np.random.default_rng([5, 0, 1]).random(len(LABELS))
    for score in np.unique(LABELS):
        own = score == LABELS
        count = plain.kept[own].sum()
        assert set(order[own & found.kept]) == set(np.sort(order[own])[:count])
    fewer = controls.as_many_first(plain.kept & (order > 0.3), LABELS, order)
    assert fewer.sum() < found.kept.sum()
    assert found.kept[fewer].all()  # where more go, those that went before go too


def test_cross_fitted_dropping_reads_the_networks_that_have_not_seen_the_photo():
    found, plain, judged = decided("cross-fitted")
    nodes = np.searchsorted(np.unique(LABELS), LABELS)
    own = judged.unseen[np.arange(len(LABELS)), nodes]
    majorities = np.isin(LABELS, [3, 4, 5])
    assert (found.kept[majorities] == (own >= logit(0.6))[majorities]).all()
    assert found.kept[~majorities].all()
    assert (found.kept != plain.kept).any()


def test_cross_fitted_dropping_by_the_largest_class_reads_its_node():
    judged = judged_photos()
    rule = DropRule(rule="top-class", k=(0.6, 0.4), min_per_class=0)
    found = CONTROLS["cross-fitted"].keep(rule, judged)
    top = judged.unseen[:, 2]  # of score 4
    least = np.select([LABELS == 4, np.isin(LABELS, [3, 5])], logit([0.6, 0.4]), -np.inf)
    assert found.kept.tolist() == (top >= least).tolist()


@pytest.mark.parametrize("control", ["focal", "class-balanced", "undersample", "emd"])
def test_other_controls_drop_nothing(control):
    assert decided(control)[0].kept.all()


def test_every_control_of_a_recipe_is_in_the_table():
    assert set(CONTROLS) == set(get_args(ControlName))


def test_confident_learning_prunes_wrong_labels_after_round_1_and_keeps_to_it():
    pytest.importorskip("cleanlab", reason="cleanlab (extra 'study') is not installed")
    nodes = np.searchsorted(np.unique(LABELS), LABELS)
    rng = np.random.default_rng(0)
    unseen = rng.normal(size=(len(LABELS), 5)) + 4 * np.eye(5)[nodes]
    wrong = np.flatnonzero(LABELS == 4)[:3]
    unseen[wrong] = 4 * np.eye(5)[1]  # three photos of score 4 that surely look like score 3
    found, _, _ = decided("confident-learning", unseen=unseen)
    assert not found.kept[wrong].any()
    assert found.kept.mean() > 0.8
    later, _, judged = decided("confident-learning", unseen=unseen, after_round=2)
    assert (later.kept == judged.kept).all()


def test_halves_split_every_class_in_two():
    half = controls.half_of_each(LABELS, 0)
    for score in np.unique(LABELS):
        assert half[score == LABELS].mean() == pytest.approx(0.5)
    assert (half != controls.half_of_each(LABELS, 1)).any()


def test_photos_of_one_group_lie_in_one_half():
    groups = np.random.default_rng(0).permutation(len(LABELS)) // 2
    assert pd.Series(controls.half_of_each(LABELS, 0)).groupby(groups).nunique().max() == 2
    half = controls.half_of_each(LABELS, 0, groups)
    assert pd.Series(half).groupby(groups).nunique().max() == 1
    assert half.mean() == pytest.approx(0.5, abs=0.1)
    alone = np.arange(len(LABELS))[::-1]
    assert (controls.half_of_each(LABELS, 3, alone) == controls.half_of_each(LABELS, 3)).all()


def test_a_run_judges_halves_by_networks_that_never_saw_them(coloured, tmp_path, monkeypatch):
    trained, judged, real_train, real_logits = {}, [], rounds.fine_tune, rounds.logits

    def fine_tune(network, pixels, rows, *args, **kwargs):
        trained.setdefault(id(network), set()).update(rows.tolist())
        return real_train(network, pixels, rows, *args, **kwargs)

    def logits(network, pixels, rows, **kwargs):
        if rows is not None:
            judged.append((id(network), set(rows.tolist())))
        return real_logits(network, pixels, rows, **kwargs)

    monkeypatch.setattr(rounds, "fine_tune", fine_tune)
    monkeypatch.setattr(rounds, "logits", logits)
    recipe = dataclasses.replace(RECIPE, control="cross-fitted")
    run = rounds.repeat(*coloured, tmp_path / "run", recipe)
    train = set(np.flatnonzero(run.split.part == "train"))
    assert len(trained) == 3
    assert set.union(*(rows for _, rows in judged[:2])) == train
    assert len(judged) == 2 * (RECIPE.rounds - 1)
    for network, rows in judged:
        assert not rows & trained[network]
    assert len(list(run.folder.glob("half_*"))) == 0  # no decision follows the last round


@pytest.mark.parametrize(("control", "trainings"), [("cross-fitted", 2), ("confident-learning", 1)])
def test_networks_of_halves_are_trained_only_as_long_as_a_decision_reads_them(
    coloured, tmp_path, monkeypatch, control, trainings
):
    if control == "confident-learning":
        pytest.importorskip("cleanlab", reason="cleanlab (extra 'study') is not installed")
    calls, real = [], rounds.fine_tune
    monkeypatch.setattr(rounds, "fine_tune", lambda *a, **k: calls.append(1) or real(*a, **k))
    rounds.repeat(*coloured, tmp_path / "run", dataclasses.replace(RECIPE, control=control))
    assert len(calls) == RECIPE.rounds + 2 * trainings


@pytest.mark.usefixtures("every_round_is_written")
def test_a_cross_fitted_run_that_broke_off_ends_with_identical_tables(coloured, tmp_path):
    recipe = dataclasses.replace(RECIPE, control="cross-fitted")
    whole = rounds.repeat(*coloured, tmp_path / "whole", recipe)
    # Between the networks of the halves and the last one of round 2.
    with broken_off(Snapshot, "save", 7):
        rounds.repeat(*coloured, tmp_path / "run", recipe)
    assert contents(rounds.repeat(*coloured, tmp_path / "run", recipe).folder) == contents(
        whole.folder
    )


def test_every_control_but_those_that_drop_later_changes_what_round_1_learns(coloured, tmp_path):
    once = dataclasses.replace(RECIPE, rounds=1, first_steps=2)

    def likelihoods(control):
        recipe = dataclasses.replace(once, control=control)
        run = rounds.repeat(*coloured, tmp_path / control, recipe)
        return run.samples.own_likelihood.to_numpy()

    plain = likelihoods("none")
    np.testing.assert_array_equal(likelihoods("random-drop"), plain)
    at_once = ("undersample", "class-weighted", "class-balanced", "focal", "logit-adjusted", "emd")
    found = [plain, *map(likelihoods, at_once)]
    different = [abs(one - two).max() for one, two in itertools.combinations(found, 2)]
    assert min(different) > 1e-6


def test_confident_learning_in_a_run_has_all_its_rounds(coloured, tmp_path):
    pytest.importorskip("cleanlab", reason="cleanlab (extra 'study') is not installed")
    recipe = dataclasses.replace(RECIPE, control="confident-learning", first_steps=2)
    run = rounds.repeat(*coloured, tmp_path / "run", recipe)
    assert len(run.rounds) == 3
    assert run.info["recipe"]["control"] == "confident-learning"


def drop_the_first(rule, judged):
    """Keep all photos but the first."""
    return Decision(np.arange(len(judged.labels)) > 0, rescued=0, thresholds=())


def test_a_control_of_ones_own_decides_and_its_run_goes_on(coloured, tmp_path):
    recipe = dataclasses.replace(RECIPE, control="own", rounds=2)
    own = controls.Control(keep=drop_the_first)
    run = rounds.repeat(*coloured, tmp_path / "run", recipe, control=own)
    train = run.rounds.kept[0]
    assert run.rounds.kept.tolist() == [train, train - 1]
    longer = dataclasses.replace(recipe, rounds=3)
    again = rounds.repeat(*coloured, tmp_path / "run", longer, control=own)
    assert again.rounds.kept.tolist() == [train, train - 1, train - 1]
    # Whoever reads it need not have the function.
    assert "The control own chose them" in "".join(summary.of_end(again))


@pytest.mark.parametrize(
    ("name", "control", "found"),
    [("own", None, "own without one"), ("none", controls.Control(), "with one and 'none'")],
)
def test_a_control_of_ones_own_and_a_recipe_know_of_each_other(
    name, control, found, coloured, tmp_path
):
    recipe = dataclasses.replace(RECIPE, control=name)
    with pytest.raises(InputError, match=found):
        rounds.repeat(*coloured, tmp_path / "run", recipe, control=control)
    assert not (tmp_path / "run").exists()
