"""What is said of dropped photos rests on this counting."""

import importlib.util

import numpy as np
import pytest

from tests.conftest import ROOT


@pytest.fixture(scope="module")
def whom():
    pytest.importorskip("tyro")
    path = ROOT / "studies" / "whom_it_drops.py"
    spec = importlib.util.spec_from_file_location("whom_it_drops", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LABEL = np.repeat([3, 4], 50)
IS_ONE = np.r_[np.arange(50) < 10, np.arange(50) < 30]  # a fifth of score 3, three fifths of 4


def told(whom, out):
    drops = whom.Drops(np.arange(100), LABEL, np.asarray(out, float), IS_ONE, (0.5, 0.5))
    return whom.told([drops])


def test_taking_more_of_a_score_that_holds_more_finds_nothing_beyond_chance(whom):
    found = told(whom, np.where(LABEL == 4, 0.8, 0.1))
    assert found["precision"] == pytest.approx((8 * 0.6 + 0.2) / 9)
    assert found["gain"] == pytest.approx(0, abs=1e-12)
    assert found["auc"] == 0.5


def test_a_judge_that_knows_the_target_gains_the_largest(whom):
    found = told(whom, IS_ONE)
    assert found["precision"] == found["recall"] == found["auc"] == 1
    assert found["chance"] == pytest.approx((10 * 0.2 + 30 * 0.6) / 40)
    assert found["gain"] == pytest.approx(found["largest"]) and found["low"] > 0
    assert found["p"] < 1e-3


def test_a_judge_that_leaves_out_the_others_falls_below_chance(whom):
    found = told(whom, ~IS_ONE)
    assert found["precision"] == found["recall"] == found["auc"] == 0
    assert found["gain"] < 0 and found["high"] < 0
