"""What is said of two ways of tuning rests on this counting of dropped photos."""

import importlib

import numpy as np
import pandas as pd
import pytest

from tests.conftest import ROOT

LABELS = np.repeat([3, 4, 5], [20, 30, 10])


@pytest.fixture(scope="module")
def alike():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "studies")
        yield importlib.import_module("alike")


def drawn(rng, counts):
    """As many photos of each score as `counts` says, at random."""
    out = np.zeros(len(LABELS), bool)
    for score, count in counts.items():
        members = np.flatnonzero(score == LABELS)
        out[rng.choice(members, count, replace=False)] = True
    return out


def test_two_random_sets_agree_as_chance_has_it(alike):
    rng = np.random.default_rng(0)
    pairs = [
        alike.overlap(LABELS, drawn(rng, {3: 5, 4: 20}), drawn(rng, {3: 15, 4: 9}))
        for _ in range(300)
    ]
    table = pd.DataFrame(pairs)
    assert table.agreement.mean() == pytest.approx(0, abs=0.05)
    assert table.jaccard.mean() == pytest.approx(table.jaccard_by_chance[0], abs=0.05)


def test_a_set_within_another_agrees_as_far_as_sizes_allow(alike):
    out = (np.arange(60) % 10) < 5
    smaller = (np.arange(60) % 10) < 2
    found = alike.overlap(LABELS, out, smaller)
    assert found["agreement"] == pytest.approx(1)
    assert found["jaccard"] == pytest.approx(2 / 5)
    assert alike.overlap(LABELS, out, out)["jaccard"] == 1
    assert alike.overlap(LABELS, out, ~out)["agreement"] < -0.9


def test_where_all_or_nothing_is_dropped_no_agreement_is_made_up(alike):
    nothing = np.zeros(60, bool)
    assert np.isnan(alike.overlap(LABELS, nothing, nothing)["jaccard"])
    assert np.isnan(alike.overlap(LABELS, ~nothing, ~nothing)["agreement"])


def test_ranks_are_compared_within_each_score(alike):
    rng = np.random.default_rng(0)
    one = LABELS * 10.0 + rng.random(60)
    assert alike.within_scores(LABELS, one, one**3) == pytest.approx(1)
    other = LABELS * 10.0 - rng.random(60)  # alike between the scores alone
    assert abs(alike.within_scores(LABELS, one, other)) < 0.3
    assert np.isnan(alike.within_scores(LABELS, one, np.ones(60)))


def test_the_photos_that_a_round_drops_are_held_beside_the_logits_that_decided(alike):
    tables = []
    for number in (1, 2, 3):
        kept = np.ones(60, bool)
        if number > 1:
            kept[number::7] = False
        logits = np.arange(60.0) * number
        table = pd.DataFrame({"photo": np.arange(60).astype(str), "round": number, "kept": kept})
        tables.append(table.assign(part="train", label=LABELS, own_logit=logits))
    one = pd.concat(tables, ignore_index=True)
    shuffled = one.sample(frac=1, random_state=0)
    rows = pd.DataFrame(alike.compared(one, shuffled))
    assert rows["round"].tolist() == [1, 2]
    assert rows.dropped.tolist() == [len(range(2, 60, 7)), len(range(3, 60, 7))]
    assert (rows.jaccard == 1).all() and (rows.logits == 1).all()
