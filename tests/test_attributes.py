"""attributes.csv: how well a run's network tells what it has learned beside the scores."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn import metrics

from rsrl_lib import rounds, summary
from rsrl_lib.measures import of_attributes
from rsrl_lib.pixels import normalised
from rsrl_lib.training import likelihoods
from tests.test_rounds import altered

pytestmark = pytest.mark.usefixtures("small_crops")


@pytest.fixture(scope="module")
def described(coloured):
    """Photos with a tag of yes and no, one known of some, and a number on a scale of its own."""
    photos, pixels = coloured
    score = photos.table.score.to_numpy(float)
    known = np.where(np.arange(len(score)) % 3 == 0, np.nan, score / 10)
    attributes = pd.DataFrame({"007": (score == 4) * 1.0, "warmth": known, "depth": score * 20})
    return replace(photos, attributes=attributes.set_index(photos.table.photo)), pixels


def test_measures_of_attributes_are_those_of_trusted_libraries():
    rng = np.random.default_rng(0)
    said = pd.DataFrame(rng.random((40, 3)), columns=["tag", "soft", "deep"])
    values = pd.DataFrame({"tag": rng.integers(0, 2, 40), "soft": rng.random(40)}).astype(float)
    values["deep"] = rng.normal(50, 20, 40)
    values.loc[:9, "tag"] = np.nan
    targets = values.assign(deep=(values.deep > 50) * 1.0)
    table = of_attributes(said, targets, values).set_index("attribute")

    tag = targets.tag[10:]
    assert table.photos.tolist() == [30, 40, 40]
    assert table.share["tag"] == pytest.approx(tag.mean())
    assert table.majority_accuracy["tag"] == pytest.approx(max(tag.mean(), 1 - tag.mean()))
    accuracy = metrics.accuracy_score(tag, said.tag[10:] >= 0.5)
    assert table.accuracy["tag"] == pytest.approx(accuracy)
    for name, of in (("tag", tag), ("deep", targets.deep)):
        auc = metrics.roc_auc_score(of, said[name][of.index])
        assert table.auc[name] == pytest.approx(auc)
    error = metrics.mean_absolute_error(values.soft, said.soft)
    assert table.mean_absolute_error["soft"] == pytest.approx(error)
    for name in ("soft", "deep"):
        ranks = stats.spearmanr(values[name], said[name]).statistic
        assert table.spearman[name] == pytest.approx(ranks)
    assert table.loc["tag", ["spearman", "mean_absolute_error"]].isna().all()
    assert table.loc["soft", ["share", "accuracy", "auc"]].isna().all()


def test_an_attribute_that_is_known_of_no_photo_or_is_always_the_same_has_no_auc():
    said = pd.DataFrame({"none": [0.1, 0.9], "all": [0.2, 0.7]})
    targets = pd.DataFrame({"none": [np.nan, np.nan], "all": [1.0, 1.0]})
    table = of_attributes(said, targets, targets).set_index("attribute")
    assert table.photos.tolist() == [0, 2]
    assert table.loc["none"].drop("photos").isna().all()
    assert table.auc.isna().all()
    assert table.accuracy["all"] == 0.5


@pytest.mark.parametrize("tune", ["all", "head"])
def test_attributes_are_told_by_the_chosen_network_on_the_test_photos(described, tmp_path, tune):
    names = ("007", "warmth", "depth")
    recipe = altered(rounds=2, tune=tune, attributes=names)
    run = rounds.repeat(*described, tmp_path / "run", recipe)
    table = run.attributes
    assert table.attribute.tolist() == list(names)
    assert (table.part == "test").all() and (table["round"] == run.chosen).all()

    photos, pixels = described
    rows = np.flatnonzero(run.split.part == "test")
    network = run.network().eval()
    said = 0
    views = ["whole", "mirrored"] if tune == "head" else ["centre"]
    with torch.inference_mode():
        for view in views:
            seen = normalised(pixels.crops(rows, view=view), shrink_to=None)
            said = said + network(seen)[:, len(network.scores) :].numpy() / len(views)
    said = pd.DataFrame(likelihoods(said), columns=names)
    values = photos.attributes.iloc[rows].reset_index(drop=True)
    train = photos.attributes.depth[(run.split.part == "train").to_numpy()]
    targets = values.assign(depth=(values.depth > train.median()) * 1.0)
    expected = of_attributes(said, targets, values)
    shown = table.drop(columns=["part", "round"])
    pd.testing.assert_frame_equal(shown, expected, check_dtype=False, atol=1e-3)
    assert 0 < table.photos[1] < table.photos[0] == len(rows)

    words = summary.of_attributes(run)
    assert f"round {run.chosen} on the test photos" in words[0] and "007" in words[1]
    assert all(sentence in summary.of_end(run) for sentence in words)


def test_a_run_that_was_finished_before_gets_its_attributes_told(described, tmp_path):
    recipe = altered(rounds=1, tune="head", attributes=("007",))
    run = rounds.repeat(*described, tmp_path / "run", recipe)
    file = run.folder / "attributes.csv"
    before = file.read_bytes()
    file.unlink()
    assert run.attributes is None and summary.of_attributes(run) == []
    rounds.repeat(*described, run.folder, recipe)
    assert file.read_bytes() == before
    longer = rounds.repeat(*described, run.folder, replace(recipe, rounds=3, choose="validation"))
    assert (longer.attributes["round"] == longer.chosen).all()


def test_a_run_without_attributes_or_without_test_photos(described, coloured, tmp_path):
    run = rounds.repeat(*coloured, tmp_path / "none", altered(rounds=1, tune="head"))
    assert run.attributes is None
    recipe = altered(rounds=1, tune="head", attributes=("007",), train_share=1.0, choose="last")
    run = rounds.repeat(*described, tmp_path / "all", recipe)
    assert (run.attributes.part == "train").all()
    assert "on the training photos" in summary.of_attributes(run)[0]
