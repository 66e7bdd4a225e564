"""How long a run will take is told before it starts, and after its first round."""

from dataclasses import replace

import pytest

from rsrl_lib import duration
from rsrl_lib.drop_rules import DropRule
from rsrl_lib.duration import Clock, Pace, expected, rehearse
from rsrl_lib.features import features
from rsrl_lib.network import aesthetic_net
from rsrl_lib.recipe import Recipe, Training
from rsrl_lib.rounds import repeat

pytestmark = pytest.mark.usefixtures("small_crops")
PACE = Pace(step=2.0, judged_photo=0.5)
RECIPE = Recipe(rounds=3, training=Training(epochs=2, batch=10))
PHOTOS = {"training_photos": 95, "photos": 150}


def test_steps_and_answers_of_all_rounds_are_counted():
    # 10 steps an epoch, two epochs, three rounds; 150 photos are judged in each.
    assert expected(PACE, RECIPE, **PHOTOS) == 2.0 * 60 + 0.5 * 450
    assert expected(PACE, RECIPE, **PHOTOS, done=2) == 2.0 * 20 + 0.5 * 150


def test_a_share_to_keep_makes_later_rounds_shorter_and_a_k_does_not():
    half = replace(RECIPE, drop=DropRule(keep_share=0.5))  # 48 photos, 5 steps
    assert expected(PACE, half, **PHOTOS) == 2.0 * (20 + 10 + 10) + 0.5 * 450
    by_k = replace(RECIPE, drop=DropRule(k=(0.9,)))
    assert expected(PACE, by_k, **PHOTOS) == expected(PACE, RECIPE, **PHOTOS)


def test_given_steps_and_networks_of_halves_are_counted():
    steps = replace(RECIPE, first_steps=7, training=Training(steps=4))
    assert expected(PACE, steps, **PHOTOS) == 2.0 * (7 + 4 + 4) + 0.5 * 450
    halves = replace(steps, control="cross-fitted")
    assert expected(PACE, halves, **PHOTOS) == 2 * 2.0 * (7 + 4 + 4) + 0.5 * 450


def test_of_a_head_the_features_are_counted():
    head = replace(RECIPE, tune="head")
    assert expected(PACE, head, **PHOTOS) == 0.5 * 150


def test_a_rehearsal_leaves_the_network_as_it_was(coloured):
    _, pixels = coloured
    network = aesthetic_net("squeezenet1_1", [3, 4], weights="none", seed=0)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    recipe = Recipe("squeezenet1_1", "none", training=Training(shrink_to=33))
    pace = rehearse(network, pixels, recipe)
    assert pace.step > 0 and pace.judged_photo > 0
    assert all(before[name].equal(value) for name, value in network.state_dict().items())
    assert network.training


def test_features_that_are_known_are_not_rehearsed(coloured, monkeypatch):
    _, pixels = coloured
    network = aesthetic_net("squeezenet1_1", [3, 4], weights="none", seed=0)
    training = Training(shrink_to=33, precision="float32")
    recipe = Recipe("squeezenet1_1", "none", tune="head", training=training)
    judged = []

    def logits(_network, _pixels, rows, **view):
        judged.append(len(rows))

    monkeypatch.setattr(duration, "logits", logits)
    assert rehearse(network, pixels, recipe).judged_photo > 0
    assert judged == [1, max(1, len(pixels) // 10)]
    features(network, pixels, **recipe.view)
    assert rehearse(network, pixels, recipe) == Pace(0.0, 0.0)
    assert len(judged) == 2


def test_a_run_that_is_told_to_say_it_is_the_same_run(coloured, tmp_path, monkeypatch):
    monkeypatch.setattr(duration, "WORTH_TELLING", 0)
    monkeypatch.setattr("rsrl_lib.rounds.WORTH_TELLING", 0)
    recipe = Recipe("squeezenet1_1", "none", rounds=2, training=Training(steps=2, shrink_to=33))
    said = []
    told = repeat(*coloured, tmp_path / "told", recipe, say=said.append)
    silent = repeat(*coloured, tmp_path / "silent", recipe)
    assert told.samples.equals(silent.samples)
    before, after = said
    assert before.startswith("This will take about")
    assert "Round 1 took" in after and "The other takes about" in after
    repeat(*coloured, tmp_path / "told", recipe, say=said.append)
    assert len(said) == 2  # it was finished


def test_after_a_round_the_rest_is_told_once():
    said = []
    clock = Clock(replace(RECIPE, rounds=5), said.append)
    clock.begun = 0.0
    clock._tell(1, 30.0)
    assert said == [
        "Round 1 took 30 s. The other 4 take about 2 min, if no rule stops them earlier."
    ]
    clock.told = True
    clock.round_is_done(2)
    assert len(said) == 1
