import numpy as np
import pytest
from scipy.special import expit, logit

from rsrl_lib.drop_rules import KEEP_SHARE, DropRule, decide, largest_classes, with_threshold
from rsrl_lib.files import InputError

# Largest class 4 (five photos), then 3 (three), then 5 (two); 6 is a minority of one.
LABELS = np.array([4, 4, 4, 4, 4, 3, 3, 3, 5, 5, 6])
OWN = logit(np.array([0.95, 0.85, 0.99, 0.2, 0.9, 0.7, 0.3, 0.8, 0.6, 0.1, 0.0]))
TOP = logit(np.array([0.95, 0.85, 0.99, 0.2, 0.9, 0.75, 0.3, 0.1, 0.8, 0.5, 0.0]))


def kept(rule, **after):
    return decide(rule, LABELS, OWN, TOP, after_round=after.get("after_round", 1))


def test_own_class_compares_each_majority_with_its_own_threshold():
    decision = kept(DropRule(k=(0.9, 0.7, 0.6), min_per_class=0))
    assert decision.kept.tolist() == [1, 0, 1, 0, 1, 1, 0, 1, 1, 0, 1]
    assert decision.thresholds == (0.9, 0.7, 0.6)


def test_top_class_reads_the_likelihood_of_the_largest_class_for_all_three():
    decision = kept(DropRule(rule="top-class", k=(0.9, 0.7), min_per_class=0))
    assert decision.kept.tolist() == [1, 0, 1, 0, 1, 1, 0, 0, 1, 0, 1]
    assert decision.thresholds == (0.9, 0.7, 0.7)


def test_a_photo_of_a_minority_class_is_never_dropped():
    assert kept(DropRule(k=(1.0,), min_per_class=0)).kept.tolist() == [0] * 10 + [1]


def test_the_lower_of_two_equally_large_scores_counts_as_larger():
    assert largest_classes(np.array([7, 7, 5, 5, 6, 6, 6, 2])) == [6, 5, 7]


@pytest.mark.parametrize(
    ("reading", "decisions"),
    [
        ((0.9, 0.95), [0.9, 0.95, 0.95, 0.95]),
        ((0.9, 0.9, 0.95), [0.9, 0.9, 0.95, 0.95]),
        ((0.8,), [0.8] * 4),
    ],
)
def test_each_decision_has_its_k_and_the_last_one_stays(reading, decisions):
    rule = DropRule(k_rounds=reading)
    asked = [kept(rule, after_round=i).thresholds for i in (1, 2, 3, 30)]
    assert [k for k, *_ in asked] == decisions
    assert all(len(set(thresholds)) == 1 for thresholds in asked)


@pytest.mark.parametrize(
    ("centre", "k", "stay"), [(0.0, 0.85, "fewer"), (9.0, 0.95, "more"), (3.0, None, "as many")]
)
def test_a_fitted_k_stays_within_its_bounds(centre, k, stay):
    rng = np.random.default_rng(1)
    labels = rng.choice([3, 4, 5, 6], 600, p=[0.3, 0.4, 0.2, 0.1])
    logits = rng.normal(centre, 2, (2, 600))
    rule = DropRule(keep_share=0.667, k_within=(0.85, 0.95), min_per_class=0)
    decision = decide(rule, labels, *logits, after_round=1)
    share = decision.kept.mean()
    if k is None:
        # Inside the bounds it is the K without bounds.
        free = decide(DropRule(keep_share=0.667, min_per_class=0), labels, *logits, after_round=1)
        assert 0.85 < decision.thresholds[0] < 0.95
        assert decision.thresholds == free.thresholds
        assert decision.kept.sum() == 400
    else:
        assert decision.thresholds == pytest.approx((k,) * 3)
        assert share < 0.6 if stay == "fewer" else share > 0.7


def test_bounds_take_a_share_that_no_k_reaches():
    labels = np.array([4] * 4 + [1, 2, 3, 5, 6, 7, 8, 9] * 3)
    logits = np.full(len(labels), 9.0)
    with pytest.raises(InputError, match="cannot be reached"):
        decide(DropRule(keep_share=0.1), labels, logits, logits, after_round=1)
    bounded = DropRule(keep_share=0.1, k_within=(0.85, 0.95))
    assert decide(bounded, labels, logits, logits, after_round=1).thresholds[0] == pytest.approx(
        0.95
    )


@pytest.mark.parametrize("which", ["own-class", "top-class"])
def test_a_fitted_k_keeps_the_share_asked_for(which):
    rng = np.random.default_rng(1)
    labels = rng.choice([3, 4, 5, 6], 600, p=[0.3, 0.4, 0.2, 0.1])
    rule = DropRule(rule=which, keep_share=0.667, min_per_class=0)
    decision = decide(rule, labels, *rng.normal(size=(2, 600)), after_round=1)
    assert decision.kept.sum() == 400
    assert len(set(decision.thresholds)) == 1


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("mean", [22, 40, -22])
def test_likelihoods_that_round_to_1_or_0_are_still_told_apart(mean, kind):
    rng = np.random.default_rng(0)
    labels = rng.choice([3, 4, 5, 6], 600, p=[0.3, 0.4, 0.2, 0.1])
    logits = rng.normal(mean, 2, 600).astype(kind)
    rule = DropRule(keep_share=0.667, min_per_class=0)
    decision = decide(rule, labels, logits, logits, after_round=1)
    assert decision.kept.sum() == 400
    lowest = logits[decision.kept & (labels != 6)].min()
    assert (logits[~decision.kept] < lowest).all()
    assert decision.logit_thresholds == (lowest,) * 3
    assert decision.thresholds == (expit(np.float64(lowest)),) * 3


def test_the_most_likely_photos_are_rescued_where_all_likelihoods_round_to_1():
    labels, logits = np.array([4, 4, 4, 4, 3, 3]), np.float32([30, 18, 40, 25, 18, 19])
    rule = DropRule(k=(1.0,), min_per_class=1)
    assert decide(rule, labels, logits, logits, after_round=1).kept.tolist() == [0, 0, 1, 0, 0, 1]


def test_k_of_0_keeps_every_photo_and_k_of_1_none():
    labels, logits = np.array([4, 4, 4, 6]), np.float32([-80, 0, 80, 0])
    for k, kept in ((0.0, 4), (1.0, 0)):
        rule = DropRule(k=(k,), min_per_class=0 if k == 0 else 1)
        decision = decide(rule, labels, logits, logits, after_round=1)
        assert decision.kept.sum() - decision.rescued == kept
        assert decision.thresholds == (k, k)


def test_a_k_given_is_compared_as_the_logit_that_it_is():
    labels = np.array([4, 4, 4])
    logits = np.array([np.log(9), np.nextafter(np.log(9), 0) - 1e-12, np.log(9) + 1e-12])
    decision = decide(DropRule(k=(0.9,), min_per_class=0), labels, logits, logits, after_round=1)
    assert decision.kept.tolist() == [1, 0, 1]
    assert decision.logit_thresholds == pytest.approx((np.log(9),))


def test_a_share_that_the_other_scores_alone_exceed_is_refused():
    labels = np.array([3, 4, 5, 6, 7, 8])
    with pytest.raises(InputError, match=r"keep_share 0\.2 cannot be reached.*hold 50%"):
        decide(DropRule(keep_share=0.2), labels, np.ones(6), np.ones(6), after_round=1)


@pytest.mark.parametrize(("share", "majorities_kept"), [(0.5, 1), (0.625, 1), (0.75, 2)])
def test_the_smallest_share_that_can_be_reached_leaves_a_photo_of_the_majorities(
    share, majorities_kept
):
    labels = np.array([3, 4, 5, 5, 6, 7, 8, 9])  # 5, 3 and 4 are the largest classes
    rule = DropRule(keep_share=share, min_per_class=0)
    logits = np.arange(8.0)
    kept = decide(rule, labels, logits, logits, after_round=1).kept
    assert kept[4:].all()
    assert kept[:4].tolist() == [False] * (4 - majorities_kept) + [True] * majorities_kept


def test_a_class_that_the_rule_empties_keeps_its_most_likely_photos_and_says_so():
    decision = kept(DropRule(k=(0.0, 1.0, 1.0), min_per_class=2))
    assert decision.kept.tolist() == [1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1]
    assert decision.rescued == 4


def test_the_literal_rule_can_empty_a_class():
    decision = kept(DropRule(k=(0.9,), min_per_class=0))
    assert decision.kept.tolist() == [1, 0, 1, 0, 1, 0, 0, 0, 0, 0, 1]
    assert decision.rescued == 0


def test_the_literal_rule_refuses_to_go_on_with_nothing():
    labels = np.array([4, 4, 3])
    with pytest.raises(InputError, match="every photo fell below"):
        decide(DropRule(k=(0.9,), min_per_class=0), labels, *np.zeros((2, 3)), after_round=2)


def test_two_classes_are_enough_for_the_rule():
    labels = np.array([4, 4, 3])
    own = np.array([9, -9, 9])
    decision = decide(DropRule(min_per_class=0), labels, own, OWN[:3], after_round=1)
    assert decision.kept.tolist() == [1, 0, 1]
    assert len(decision.thresholds) == 2


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"k": (0.9,), "keep_share": 0.5}, "k and keep_share exclude each other"),
        ({"k": (0.9, 0.8)}, "own-class needs 1 or 3 values of k, not 2"),
        ({"rule": "top-class", "k": (0.9, 0.8, 0.7)}, "top-class needs 1 or 2"),
        ({"k": (90.0,)}, "k must lie in 0..1"),
        ({"keep_share": 1.2}, "keep_share must lie in 0..1"),
        ({"min_per_class": -1}, "min_per_class must be 0 or more"),
        ({"rule": "own_class"}, "rule must be one of own-class, top-class, not 'own_class'"),
        ({"k_rounds": ()}, "k_rounds needs a K or more"),
        ({"k_rounds": (0.9, 1.5)}, "k_rounds must lie in 0..1"),
        ({"k_rounds": (0.9,), "k": (0.9,)}, "k and k_rounds exclude each other"),
        ({"k_within": (0.8, 0.9)}, "give keep_share too"),
        ({"k_within": (0.9, 0.8), "keep_share": 0.5}, "a lower and a higher K"),
    ],
)
def test_a_rule_that_contradicts_itself_is_refused(wrong, says):
    with pytest.raises(InputError, match=says):
        DropRule(**wrong)


def test_where_nothing_is_said_of_k_two_thirds_stay_or_half_of_the_three_largest():
    common = np.repeat([4, 5, 6, 7], [40, 30, 20, 10])
    assert with_threshold(DropRule(), common).keep_share == KEEP_SHARE
    # Of many scores that are alike, two thirds are not to be had without the others.
    alike = np.repeat(np.arange(1, 11), 10)
    rule = with_threshold(DropRule(), alike)
    assert rule.keep_share == 0.85  # 70 % are never dropped, half of 30 % stay
    logits = np.random.default_rng(0).normal(size=100)
    kept = decide(DropRule(min_per_class=0), alike, logits, logits, after_round=1).kept
    assert kept.sum() == 85 and kept[alike > 3].all()
    given = DropRule(k=(0.5,))
    assert with_threshold(given, alike) is given
