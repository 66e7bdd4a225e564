import numpy as np
import pytest
from sklearn import metrics

from rsrl_lib import measures as m
from rsrl_lib.files import InputError

LABELS = np.array([3, 3, 4, 4, 4, 4, 5, 9])
ASSIGNED = np.array([3, 4, 4, 4, 4, 5, 4, 4])
SCORES = [2, 3, 4, 5, 9]


def test_the_measures_agree_with_a_case_computed_by_hand():
    found = m.measures(LABELS, ASSIGNED, SCORES)
    f3, f4 = 2 * 1 * 0.5 / 1.5, 2 * (3 / 6) * (3 / 4) / (3 / 6 + 3 / 4)
    assert found["accuracy"] == 4 / 8
    assert found["majority_accuracy"] == 4 / 8
    assert found["total_f"] == pytest.approx(f3 + f4)
    assert found["macro_f1"] == pytest.approx((f3 + f4) / 4)  # four scores are present
    assert found["balanced_accuracy"] == pytest.approx((1 / 2 + 3 / 4) / 4)
    assert found["quadratic_loss"] == (1 + 1 + 1 + 25) / 8
    assert found["macro_mae"] == pytest.approx((1 / 2 + 1 / 4 + 1 + 5) / 4)


def test_the_measures_agree_with_scikit_learn_where_every_class_is_present():
    rng = np.random.default_rng(0)
    labels, assigned = rng.integers(2, 6, (2, 300))
    found = m.measures(labels, assigned, [2, 3, 4, 5])
    assert found["macro_f1"] == pytest.approx(metrics.f1_score(labels, assigned, average="macro"))
    assert found["balanced_accuracy"] == pytest.approx(
        metrics.balanced_accuracy_score(labels, assigned)
    )
    assert found["kappa"] == pytest.approx(
        metrics.cohen_kappa_score(labels, assigned, weights="quadratic")
    )


def test_a_class_without_photos_stays_visible():
    table = m.per_class(LABELS, ASSIGNED, SCORES).set_index("score")
    assert table.index.tolist() == SCORES
    assert table.loc[2].tolist() == [0, 0, 0, 0, 0]
    assert table.loc[9, ["photos", "assigned"]].tolist() == [1, 0]


def test_the_confusion_table_has_a_row_for_every_pair_and_counts_every_photo():
    table = m.confusion(LABELS, ASSIGNED, SCORES)
    assert len(table) == 25
    assert table.photos.sum() == 8
    assert table.set_index(["label", "assigned"]).photos[(9, 4)] == 1


def test_answering_the_largest_class_everywhere_reaches_the_majority_line_and_no_kappa():
    found = m.measures(LABELS, np.full(8, 4), SCORES)
    assert found["accuracy"] == found["majority_accuracy"]
    assert found["kappa"] == 0
    assert np.isnan(found["spearman"])


def test_kappa_weighs_by_the_difference_of_scores_also_where_one_is_missing():
    labels, assigned = np.array([2, 2, 3, 6, 6, 3]), np.array([2, 3, 3, 3, 6, 6])
    observed = ((labels - assigned) ** 2).mean()
    by_chance = ((labels[:, None] - assigned) ** 2).mean()
    expected = 1 - observed / by_chance
    assert m.measures(labels, assigned, [2, 3, 6])["kappa"] == pytest.approx(expected)


def test_a_paired_interval_of_the_same_assignment_is_exactly_zero():
    interval = m.paired_interval(metrics.accuracy_score, LABELS, ASSIGNED, ASSIGNED, resamples=50)
    assert interval == (0, 0, 0)


def test_a_paired_interval_agrees_with_the_normal_approximation_for_accuracy():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 4, 900)
    better = np.where(rng.random(900) < 0.7, labels, 9)
    worse = np.where(rng.random(900) < 0.5, labels, 9)
    difference, low, high = m.paired_interval(metrics.accuracy_score, labels, better, worse)
    each = (better == labels).astype(float) - (worse == labels)
    assert difference == pytest.approx(each.mean())
    half = 1.96 * each.std() / np.sqrt(900)
    assert (low, high) == pytest.approx((each.mean() - half, each.mean() + half), abs=0.01)


def test_several_measures_at_once_have_the_intervals_that_each_has_alone():
    rng = np.random.default_rng(4)
    labels, assigned, baseline = rng.integers(3, 6, (3, 60))
    alone = (metrics.accuracy_score, metrics.mean_absolute_error)

    def both(truth, given):
        return np.array([measure(truth, given) for measure in alone])

    together = m.paired_interval(both, labels, assigned, baseline, resamples=40)
    each = [m.paired_interval(one, labels, assigned, baseline, resamples=40) for one in alone]
    np.testing.assert_array_equal(np.transpose(together), each)


# Subject: the right column. Region: the lower row. One of three pixels of the union is in both.
MASK = np.array([[False, True], [False, True]])
REGION = np.array([[False, False], [True, True]])


def test_a_map_and_its_region_agree_with_a_mask_as_computed_by_hand():
    found = m.against_mask(np.array([[0.1, 0.2], [0.3, 0.4]]), REGION, MASK)
    # Of the four pairs (inside, outside) only .2 against .3 is in the wrong order.
    assert found == {"iou": pytest.approx(1 / 3), "auc": 3 / 4, "pointing": 1}
    turned = m.against_mask(-np.array([[0.1, 0.2], [0.3, 0.4]]), ~REGION, MASK)
    assert turned == {"iou": pytest.approx(1 / 3), "auc": 1 / 4, "pointing": 0}


def test_a_flat_map_without_a_region_finds_nothing():
    found = m.against_mask(np.zeros((2, 2)), np.zeros((2, 2), bool), MASK)
    assert found == {"iou": 0, "auc": 0.5, "pointing": 0.5}


def test_a_coarse_map_is_judged_at_the_resolution_of_the_mask():
    fine = np.zeros((6, 8), bool)
    fine[:, 4:] = True  # the right half
    found = m.against_mask(np.array([[0.0, 1.0]]), np.array([[False, True]]), fine)
    assert found == {"iou": 1, "auc": 1, "pointing": 1}
    off = m.against_mask(np.array([[0.0, 1.0]]), np.array([[True, False]]), fine[:, ::-1])
    assert off == {"iou": 1, "auc": 0, "pointing": 0}


@pytest.mark.parametrize("mask", [np.zeros((2, 2), bool), np.ones((2, 2), bool)])
def test_a_mask_without_a_subject_or_without_a_rest_is_an_error(mask):
    with pytest.raises(InputError, match="The mask marks"):
        m.against_mask(np.eye(2), REGION, mask)


def test_many_confusion_matrices_at_once_have_the_measures_that_scikit_learn_gives_each():
    rng = np.random.default_rng(0)
    every = list(range(2, 8))
    rare = np.isin(every, [2, 3, 7])
    labels, assigned = rng.choice([3, 4, 5], (2, 30)), rng.choice([2, 3, 4, 5, 7], (2, 30))
    counts = [
        metrics.confusion_matrix(*pair, labels=every) for pair in zip(labels, assigned, strict=True)
    ]
    found = m.of_confusions(np.stack(counts), every) | m.of_rare_scores(np.stack(counts), rare)
    for i, (truth, given) in enumerate(zip(labels, assigned, strict=True)):
        present = {"labels": [3, 4, 5], "average": "macro", "zero_division": 0}
        of_each = {"labels": every, "average": None, "zero_division": 0}
        f_of_3 = metrics.f1_score(truth, given, **of_each)[1]
        of_class = [abs(truth - given)[truth == score].mean() for score in (3, 4, 5)]
        shares = (truth == 3).mean(), (given == 3).mean()
        expected = {
            "accuracy": metrics.accuracy_score(truth, given),
            "majority_accuracy": np.bincount(truth).max() / 30,
            "macro_f1": metrics.f1_score(truth, given, **present),
            "total_f": metrics.f1_score(truth, given, **of_each).sum(),
            "balanced_accuracy": metrics.recall_score(truth, given, **present),
            "kappa": metrics.cohen_kappa_score(truth, given, labels=every, weights="quadratic"),
            "macro_mae": np.mean(of_class),
            "quadratic_loss": metrics.mean_squared_error(truth, given),
            "rare_f1": f_of_3,  # of the rare scores the only one that a photo has
            "rare_by_chance": 2 * np.prod(shares) / np.sum(shares),
            "rare_assigned": np.isin(given, [2, 3, 7]).mean(),
        }
        assert {name: values[i] for name, values in found.items()} == pytest.approx(expected)


def test_a_photo_of_weight_two_counts_as_two_photos():
    twice = np.repeat(np.arange(8), [2, 1, 1, 3, 1, 0, 1, 1])
    once = m.measures(LABELS[twice], ASSIGNED[twice], SCORES)
    is_pair = np.zeros((8, 5, 5))
    places = np.searchsorted(SCORES, LABELS), np.searchsorted(SCORES, ASSIGNED)
    is_pair[np.arange(8), *places] = 1
    weighted = np.tensordot([2, 1, 1, 3, 1, 0, 1, 1], is_pair, 1)
    found = m.of_confusions(weighted, SCORES)
    assert found == pytest.approx({name: once[name] for name in found})


def test_a_label_that_no_answer_is_among_counts_as_missed():
    found = m.measures(np.array([3, 6]), np.array([3, 3]), [3, 4])
    assert found["macro_f1"] == pytest.approx((2 / 3 + 0) / 2)
    assert found["balanced_accuracy"] == found["accuracy"] == 0.5
