import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from rsrl_lib import measures as m
from rsrl_lib.files import InputError
from tests.conftest import from_chapter

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


def test_the_interval_over_cells_is_that_of_a_t_test_when_no_photos_are_shared():
    differences = np.array([0.02, -0.01, 0.03, 0.01, 0.04])
    mean, low, high, p = m.corrected_interval(differences, test_over_train=0)
    trusted = stats.ttest_1samp(differences, 0)
    interval = trusted.confidence_interval(0.95)
    assert (mean, low, high) == pytest.approx((differences.mean(), interval.low, interval.high))
    assert p == pytest.approx(trusted.pvalue)


def test_the_interval_widens_by_what_nadeau_and_bengio_add():
    differences = np.array([0.02, -0.01, 0.03, 0.01, 0.04])
    plain = m.corrected_interval(differences, test_over_train=0)
    wide = m.corrected_interval(differences, test_over_train=0.25)
    ratio = np.sqrt((1 / 5 + 0.25) / (1 / 5))
    assert wide[2] - wide[0] == pytest.approx(ratio * (plain[2] - plain[0]))


def test_equal_cells_leave_no_doubt_either_way():
    assert m.corrected_interval(np.zeros(5), test_over_train=0.25) == (0, 0, 0, 1)
    assert m.corrected_interval(np.full(5, 0.5), test_over_train=0.25) == (0.5, 0.5, 0.5, 0)


def test_holm_raises_p_by_the_number_of_comparisons_left_and_keeps_their_order():
    assert m.holm([0.5, 0.01, 0.02]) == pytest.approx([0.5, 0.03, 0.04])
    assert m.holm([0.9, 0.8]).tolist() == [1, 1]


def test_the_measures_of_chapter_10_from_many_confusion_matrices_are_those_of_the_library():
    of_confusions = from_chapter("10_does_dropping_help", "of_confusions")
    rng = np.random.default_rng(0)
    scores = [2, 3, 4, 5, 7]
    labels, assigned = rng.choice(scores[1:4], (2, 30)), rng.choice(scores, (2, 30))
    counts = np.stack(
        [
            metrics.confusion_matrix(*pair, labels=range(2, 8))
            for pair in zip(labels, assigned, strict=True)
        ]
    )
    every, rare = list(range(2, 8)), [2, 3, 7]
    found = of_confusions(counts.astype(float), np.isin(every, rare))
    for i in range(2):
        expected = m.measures(labels[i], assigned[i], every)
        f1 = metrics.f1_score(labels[i], assigned[i], labels=[3], average=None, zero_division=0)
        expected["rare_f1"] = f1[0]  # the only one of them that has photos
        expected["rare_assigned"] = np.isin(assigned[i], rare).mean()
        shares = (labels[i] == 3).mean(), (assigned[i] == 3).mean()
        expected["rare_by_chance"] = 2 * np.prod(shares) / np.sum(shares)
        for name, values in found.items():
            assert values[i] == pytest.approx(expected[name]), name
