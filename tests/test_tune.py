"""Rounds that train the head alone, on features that stay, or begin with the best head."""

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from rsrl_lib import features, heads, rounds, summary
from rsrl_lib.activation import activation_maps
from rsrl_lib.drop_rules import DropRule
from rsrl_lib.files import InputError
from rsrl_lib.highlight import conv1_of, stacked
from rsrl_lib.losses import joint_targets
from rsrl_lib.network import Snapshot, aesthetic_net
from rsrl_lib.notices import notices
from rsrl_lib.recipe import Recipe, Training
from rsrl_lib.training import logits
from tests.conftest import broken_off
from tests.test_rounds import RECIPE, contents

HEAD = dataclasses.replace(RECIPE, tune="head")
pytestmark = pytest.mark.usefixtures("small_crops")


def altered(**changes):
    return dataclasses.replace(HEAD, **changes)


@pytest.fixture(scope="module")
def run(coloured, tmp_path_factory, small_crops):
    return rounds.repeat(*coloured, tmp_path_factory.mktemp("tune") / "run", HEAD)


def test_the_head_alone_is_trained_and_is_the_best_for_the_photos_kept(run, coloured):
    start = aesthetic_net("squeezenet1_1", run.network().scores, weights="none")
    for which in ("best", "last"):
        network = run.network(which)
        for name, values in network.body.state_dict().items():
            assert torch.equal(values, start.body.state_dict()[name])
    assert (run.rounds.conv1_change == 0).all()

    network = run.network("last")
    seen = features.features(network, coloured[1], **HEAD.view)
    table = run.samples[run.samples["round"] == 3].reset_index(drop=True)
    train = np.flatnonzero(run.split.part == "train")
    kept = np.flatnonzero(table.kept)
    assert 0 < len(kept) < len(train)
    nodes = torch.from_numpy(np.searchsorted(network.scores, table.label.to_numpy(int)))
    targets = joint_targets(nodes, np.ones(len(seen)), np.empty((len(seen), 0)))
    frame = heads.frame_of(seen[train])
    how = {"levels": len(network.scores)}
    off = {}
    for freedom in heads.FREEDOMS:
        weights, biases, _ = heads.best_head(
            seen[kept], targets[kept], frame, freedom=freedom, **how
        )
        best = torch.tensor(seen).double() @ weights.T + biases
        off[freedom] = np.abs(best.numpy() - heads.head_logits(network, seen)).max()
    folds = rounds.fold_of_each(table.label.to_numpy(int)[train], coloured[1].digests[train])
    chosen = heads.chosen_freedom(seen[train], targets[train], folds, frame, **how)
    assert off[chosen] < 1e-3 and min(off, key=off.get) == chosen


def test_the_network_sees_a_photo_as_its_features_were_made(run, coloured):
    judged = run.samples[run.samples["round"] == 3].own_logit.to_numpy()
    assert run.view["crops"] == "whole"
    values = logits(run.network("last"), coloured[1], **run.view)
    nodes = np.searchsorted(run.network().scores, run.split.label)
    np.testing.assert_allclose(values[np.arange(len(nodes)), nodes], judged, atol=1e-4)


def test_the_mean_of_a_map_is_the_logit_without_its_bias(run, coloured):
    network = run.network()
    photo, mirror = (coloured[1].crops([5], view=view) for view in ("whole", "mirrored"))
    means = []
    for view in (photo, mirror):
        maps = activation_maps(network, view, shrink_to=run.view["shrink_to"])[0].levels
        means.append([values.mean() for values in maps.values()])
    bias = network.head.bias.detach().numpy()
    expected = logits(network, coloured[1], [5], **run.view)[0]
    np.testing.assert_allclose(np.mean(means, 0) + bias, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("module", "stage"), [(rounds, "fit_head"), (Snapshot, "save"), (features, "_of_batch")]
)
@pytest.mark.usefixtures("every_round_is_written")
def test_a_run_that_broke_off_ends_with_identical_tables(run, coloured, tmp_path, module, stage):
    pixels = dataclasses.replace(coloured[1], folder=tmp_path)
    with broken_off(module, stage, 1 if module is features else 2):
        rounds.repeat(coloured[0], pixels, tmp_path / "run", HEAD)
    resumed = rounds.repeat(coloured[0], pixels, tmp_path / "run", HEAD)
    assert contents(resumed.folder) == contents(run.folder)


def test_folds_seeds_and_arms_share_the_features(coloured, tmp_path, monkeypatch):
    pixels = dataclasses.replace(coloured[1], folder=tmp_path)
    rounds.repeat(coloured[0], pixels, tmp_path / "first", altered(rounds=1))
    monkeypatch.setattr(features, "_of_batch", lambda *args: pytest.fail("looked at again"))
    for number, changes in enumerate(
        ({"fold": 1}, {"control": "class-weighted"}, {"drop": DropRule(k=(0.3,))})
    ):
        rounds.repeat(coloured[0], pixels, tmp_path / f"{number}", altered(rounds=2, **changes))


def test_a_finished_run_needs_no_features(run, coloured, monkeypatch):
    monkeypatch.setattr(rounds, "features", lambda *args, **how: pytest.fail("looked at again"))
    assert rounds.repeat(*coloured, run.folder, HEAD).chosen == run.chosen


def test_the_first_of_all_fine_tunings_begins_with_the_best_head(coloured, tmp_path, monkeypatch):
    fine_tune, fit_head, begun, fitted = rounds.fine_tune, rounds.fit_head, [], []

    def fitting(network, *args, **kwargs):
        loss = fit_head(network, *args, **kwargs)
        fitted.append(network.head.weight.detach().clone())
        return loss

    def tuning(network, *args, **kwargs):
        begun.append(network.head.weight.detach().clone())
        return fine_tune(network, *args, **kwargs)

    monkeypatch.setattr(rounds, "fit_head", fitting)
    monkeypatch.setattr(rounds, "fine_tune", tuning)
    run = rounds.repeat(*coloured, tmp_path / "run", altered(tune="head-first", rounds=2))
    assert len(fitted) == 1 and len(begun) == 2
    assert torch.equal(begun[0], fitted[0]) and not torch.equal(begun[1], fitted[0])
    assert run.rounds.conv1_change.min() > 0 and run.view["crops"] == "random"


def test_cross_fitted_judges_decide_by_heads_that_have_not_seen_the_photo(
    coloured, tmp_path, monkeypatch
):
    real, judged = rounds.cross_fitted, []

    def cross_fitted(*args, **kwargs):
        judged.append(real(*args, **kwargs))
        return judged[-1]

    monkeypatch.setattr(rounds, "cross_fitted", cross_fitted)
    drop = DropRule(keep_share=0.7, min_per_class=2, judges="cross-fitted")
    run = rounds.repeat(*coloured, tmp_path / "run", altered(drop=drop, rounds=2))
    (unseen,) = judged
    labels = run.split.label[run.split.part == "train"].to_numpy()
    nodes = np.searchsorted(np.unique(run.split.label), labels)
    own = unseen[np.arange(len(labels)), nodes]
    expected = rounds.CONTROLS["none"].keep(
        drop, rounds.Judged(labels, own, own, np.ones(len(own), bool), None, 1, 0)
    )
    second = run.samples[(run.samples["round"] == 2) & (run.samples.part == "train")]
    assert (second.kept.to_numpy() == expected.kept).all()


def test_levels_weights_attributes_and_photos_of_another_source_have_their_head(coloured, tmp_path):
    photos, pixels = coloured
    known = pd.DataFrame({"warm": np.arange(len(photos)) % 2}, photos.table.photo)
    photos = dataclasses.replace(photos, attributes=known)
    means = (3.0, 5.0)
    weighed = altered(
        levels="low-high", cut=4, ambiguous=means, weights_ab=(1, 3), attributes=("warm",), rounds=2
    )
    few = dataclasses.replace(pixels, array=pixels.array[:9], folder=None)
    other = photos.table[["photo"]].head(9), few
    run = rounds.repeat(photos, pixels, tmp_path / "run", weighed, other=other)
    network = run.network()
    assert network.levels == ["low", "high"] and network.attribute_head.weight.abs().max() > 0
    of_other = run.samples[(run.samples.part == "other") & (run.samples["round"] == 1)]
    same = run.samples[(run.samples.part != "other") & (run.samples["round"] == 1)].head(9)
    np.testing.assert_allclose(of_other.assigned_logit, same.assigned_logit, rtol=1e-5)


def test_what_stays_is_said_when_it_settles_or_comes_back():
    def said(*of_rounds):
        rows = [
            {"round": i, "photo": name, "part": "train", "kept": name in kept}
            for i, kept in enumerate(of_rounds, 1)
            for name in "abcd"
        ]
        return summary.settled(pd.DataFrame(rows))

    assert said("abcd", "abc", "ab", "ab", "ab") == [
        "The photos that stay have settled: rounds 3 to 5 learned from the same."
    ]
    assert said("abcd", "abc", "abd", "abc", "abd") == [
        "The photos that stay come back in turn: from round 2 on, a round learned from the same as "
        "2 rounds before."
    ]
    assert said("abcd", "abc", "ab", "abc") == said("abcd", "abc", "ab") == []
    assert said("abcd", "abcd", "abcd") == []


def test_a_highlight_of_a_body_that_stayed_is_refused_in_a_sentence(run):
    with pytest.raises(InputError, match=r"conv1 has not moved .*; take a run that trained all"):
        stacked(conv1_of(run, 3), conv1_of(run, 1))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"tune": "heads"}, "tune must be one of all, head, head-first, not 'heads'"),
        ({"tune": "head", "resplit": "fresh"}, "tune 'head' needs parts that stay"),
        (
            {"drop": DropRule(judges="cross-fitted")},
            "judges 'cross-fitted' needs tune 'head', not 'all'",
        ),
    ],
)
def test_a_way_of_tuning_that_cannot_be_meant_is_refused(wrong, says):
    with pytest.raises(InputError, match=says):
        Recipe(**wrong)


def test_settings_of_steps_are_said_to_have_no_effect(coloured):
    recipe = altered(training=Training(learning_rate=1e-3, epochs=2), first_steps=3)
    said = notices(recipe, coloured[0], None, np.arange(9), pd.DataFrame(index=range(60)))
    reason = "has no effect: tune is 'head', and the best head needs no steps."
    names = ("first_steps", "learning_rate", "epochs")
    assert said == [f"{name} {reason}" for name in names]


def test_a_run_of_before_goes_on_without_knowing_how_it_is_tuned(run, coloured, tmp_path):
    before = rounds.repeat(*coloured, tmp_path / "run", altered(tune="all", rounds=1)).folder
    info = json.loads((before / "run.json").read_text())
    del info["recipe"]["tune"], info["recipe"]["drop"]["judges"]
    (before / "run.json").write_text(json.dumps(info))
    with pytest.raises(InputError, match="tune all there and head now"):
        rounds.repeat(*coloured, shutil.copytree(before, tmp_path / "other"), HEAD)
    went_on = rounds.repeat(*coloured, before, altered(tune="all", rounds=2))
    assert len(went_on.rounds) == 2 and went_on.view["crops"] == "random"
