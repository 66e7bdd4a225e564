"""Whether there are enough scored photos: curves of heads, against knowing the answer."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from rsrl_lib import plots
from rsrl_lib.files import InputError
from rsrl_lib.interface.rating_commands import curve as curve_command
from rsrl_lib.learning_curve import LearningCurve, in_words, learning_curve, sizes_of
from rsrl_lib.measures import measures
from tests.conftest import draw_coloured_photos


def photos(count, noise, width=6, seed=0):
    """Features (n, width) that tell the score of a photo up to noise, and the scores (n,)."""
    rng = np.random.default_rng(seed)
    scores = rng.choice([3, 4, 5], count, p=[0.2, 0.5, 0.3])
    features = rng.normal(0, noise, (count, width))
    features[np.arange(count), scores - 3] += 1
    return features.astype(np.float32), scores


def at_end(curve, measure):
    of_measure = curve.table[curve.table.measure == measure]
    return of_measure.set_index("photos").loc[curve.sizes[-1]]


def test_features_that_tell_the_score_are_learned_and_more_photos_help():
    curve = learning_curve(*photos(120, 0.45), repeats=2)
    assert curve.sizes == sizes_of(120) == [12, 24, 48, 96]
    accuracy = at_end(curve, "accuracy")
    assert accuracy["low"] < accuracy["mean"] < accuracy["high"]
    assert accuracy["low"] > curve.commonest["accuracy"]
    first = curve.table[(curve.table.photos == 12) & (curve.table.measure == "macro_f1")]
    assert first["mean"].item() < at_end(curve, "macro_f1")["mean"]
    assert "By macro-F1 it beats" in in_words(curve)[1]


def test_features_that_tell_nothing_promise_nothing():
    _, scores = photos(80, 1)
    noise = np.random.default_rng(1).normal(0, 1, (80, 6)).astype(np.float32)
    curve = learning_curve(noise, scores, repeats=2)
    assert curve.gain["accuracy"][1] < 0
    assert at_end(curve, "kappa")["low"] < 0 < at_end(curve, "kappa")["high"]
    assert "More photos still help" not in " ".join(in_words(curve))


def test_the_commonest_score_is_measured_as_any_other_answer():
    features, scores = photos(100, 0.5)
    curve = learning_curve(features, scores, repeats=1)
    alone = measures(scores, np.full(100, 4), [3, 4, 5])
    assert curve.commonest["accuracy"] == alone["accuracy"] == alone["majority_accuracy"]
    assert curve.commonest["macro_f1"] == pytest.approx(alone["macro_f1"])
    assert curve.commonest["kappa"] == 0


def test_a_copy_of_a_photo_is_judged_by_heads_that_have_not_seen_it():
    rng = np.random.default_rng(2)
    own = rng.normal(0, 1, (60, 80)).astype(np.float32)  # each photo like itself alone
    scores = rng.choice([3, 4], 60)
    copied, twice = np.repeat(own, 2, 0), np.repeat(scores, 2)
    together = learning_curve(copied, twice, np.repeat(np.arange(60), 2), repeats=1)
    apart = learning_curve(copied, twice, repeats=1)
    assert at_end(apart, "accuracy")["low"] > at_end(together, "accuracy")["high"]


@pytest.mark.parametrize("scores", [np.array([3, 4] * 12), np.full(40, 4)])
def test_too_few_photos_or_one_score_are_told_in_a_sentence(scores):
    with pytest.raises(InputError, match="needs 25 scored photos with two scores or more"):
        learning_curve(np.ones((len(scores), 3), np.float32), scores)


@pytest.mark.parametrize(
    "interval, told",
    [
        ([0.08, 0.02, 0.14], "rose by 0.08 [+0.02, +0.14]. More photos still help."),
        ([0.02, -0.01, 0.05], "rose by 0.02 [-0.01, +0.05]. Whether more photos still help cannot"),
        ([-0.06, -0.1, -0.02], "fell by 0.06 [-0.10, -0.02]. More photos did not help."),
        ([0.001, -0.02, 0.03], "changed by 0.00 [-0.02, +0.03]. Whether more"),
    ],
)
def test_the_words_follow_from_the_numbers(interval, told):
    rows = [(s, m, 0.5, 0.4, 0.6) for s in (20, 40) for m in ("accuracy", "macro_f1", "kappa")]
    table = pd.DataFrame(rows, columns=["photos", "measure", "mean", "low", "high"])
    gain = {"macro_f1": [0.2, -0.1, 0.3]}
    commonest = {"accuracy": 0.45, "macro_f1": 0.2, "kappa": -0.001}
    curve = LearningCurve(table, {"macro_f1": interval}, gain, commonest, 50)
    first, second, third = in_words(curve)
    assert "from 40 of 50 photos" in first and "accuracy 0.50 [0.40, 0.60] (0.45)" in first
    assert "weighted kappa 0.50 [0.40, 0.60] (0.00)" in first
    assert "cannot be told" in second
    assert told in third and "From 20 to 40 photos" in third


def test_the_figure_has_the_rater_beside_the_measures_that_she_has_too():
    curve = learning_curve(*photos(60, 0.5), repeats=1)
    rater = {"exact": [0.7, 0.5, 0.85], "kappa": [0.8, 0.6, 0.9]}
    figure = plots.learning_curves(curve, rater)
    assert isinstance(figure, Figure)
    alone = plots.learning_curves(curve, {"exact": None, "kappa": None})
    extra = [
        len(ax.lines) - len(other.lines) for ax, other in zip(figure.axes, alone.axes, strict=True)
    ]
    assert extra == [1, 0, 1]


def test_the_command_tells_and_draws_the_curve(tmp_path, capsys):
    scores = draw_coloured_photos(tmp_path)
    where = {"cache": tmp_path / "cache", "weights": "none"}
    curve_command(tmp_path, scores, tmp_path / "curve.png", **where)
    told = capsys.readouterr().out
    assert "learned from 48 of 60 photos" in told and "From 24 to 48 photos" in told
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match="is no PNG"):
        curve_command(tmp_path, scores, tmp_path / "curve.pdf", **where)
