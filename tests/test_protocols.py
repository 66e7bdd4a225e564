import numpy as np
import pandas as pd
import pytest
from scipy.special import logit
from sklearn.model_selection import StratifiedGroupKFold

from rsrl_lib import protocols
from rsrl_lib.controls import half_of_each
from rsrl_lib.drop_rules import DropRule
from rsrl_lib.files import InputError
from rsrl_lib.protocols import (
    fold_of_each,
    joined_groups,
    low_high,
    merge_rare,
    one_of_each,
    reported,
    resplit,
    split,
)

LABELS = np.repeat([2, 3, 4, 5], [25, 100, 250, 125])


def test_the_parts_hold_64_16_and_20_percent_of_every_class():
    parts = split(LABELS, fold=0, seed=0)
    for score, size in zip([2, 3, 4, 5], [25, 100, 250, 125], strict=True):
        counts = parts[score == LABELS].value_counts()
        assert counts["test"] == size / 5
        assert counts["validation"] == pytest.approx(0.16 * size, abs=1)


def test_the_five_test_parts_hold_every_photo_once():
    tested = sum((split(LABELS, fold=fold, seed=3) == "test").astype(int) for fold in range(5))
    assert (tested == 1).all()


def test_another_seed_draws_another_split_and_the_same_seed_the_same():
    first, again, other = (split(LABELS, fold=1, seed=seed) for seed in (5, 5, 6))
    assert first.equals(again)
    assert not first.equals(other)


def test_rare_scores_are_merged_towards_the_largest_class_from_the_outside_in():
    scores = np.repeat([1, 2, 4, 6, 8, 9], [3, 30, 90, 20, 3, 3])
    labels, merged = merge_rare(scores)
    assert merged == {1: 2, 9: 8}
    assert np.unique(labels, return_counts=True)[1].tolist() == [33, 90, 20, 6]


def test_scores_that_are_common_enough_stay_as_they_are():
    labels, merged = merge_rare(LABELS)
    assert merged == {}
    assert (labels == LABELS).all()


def test_a_class_too_small_to_split_is_refused_with_its_size():
    with pytest.raises(InputError, match="Score 5 has 3 photos, 5 are needed"):
        split(np.repeat([4, 5], [20, 3]), fold=0, seed=0)


def test_the_smallest_set_that_has_five_photos_of_each_score_can_be_split():
    parts = split(np.repeat([2, 3, 4, 5, 6], 5), fold=0, seed=0)
    assert parts.value_counts().to_dict() == {"train": 15, "test": 5, "validation": 5}


def test_a_sixth_fold_is_refused():
    with pytest.raises(InputError, match=r"fold must lie in 0\.\.4, not 5"):
        split(LABELS, fold=5, seed=0)


def test_a_photo_is_high_when_its_mean_score_is_above_the_cut():
    assert low_high(np.array([4.9, 5.0, 5.01]), 5).tolist() == [0, 0, 1]


@pytest.mark.parametrize("cut", [7, 2])
def test_a_cut_that_leaves_a_single_level_is_refused(cut):
    with pytest.raises(InputError, match=rf"Two levels.* 2\.5 to 7, on one side of the cut {cut};"):
        low_high(np.array([2.5, 7.0]), cut)


def test_a_level_with_too_few_photos_is_called_by_its_name():
    levels, names = np.repeat([0, 1], [20, 3]), {0: "level low", 1: "level high"}
    with pytest.raises(InputError, match=r"^Level high has 3 photos, 5 .*photos of that level\.$"):
        split(levels, fold=0, seed=0, names=names)


def divided(how, rounds=6):
    parts = split(LABELS, fold=2, seed=1)
    return parts, [resplit(parts, LABELS, how, round=i + 1, seed=1) for i in range(rounds)]


@pytest.mark.parametrize("how", ["fresh", "rotating"])
def test_dividing_anew_leaves_test_photos_alone_and_a_fifth_of_every_class_validates(how):
    parts, each = divided(how)
    for again in each:
        assert ((again == "test") == (parts == "test")).all()
        for score in np.unique(LABELS):
            rest = again[(score == LABELS) & (again != "test")]
            assert (rest == "validation").mean() == pytest.approx(0.2, abs=0.01)
    assert not each[0].equals(each[1])
    assert parts.equals(split(LABELS, fold=2, seed=1))


def test_rotating_fifths_validate_once_each_and_come_back_in_the_sixth_round():
    parts, each = divided("rotating")
    validated = sum((again == "validation").astype(int) for again in each[:5])
    assert (validated[parts != "test"] == 1).all()
    assert each[5].equals(each[0])


def test_fresh_fifths_are_drawn_independently_of_each_other():
    parts, each = divided("fresh", rounds=40)
    validated = sum((again == "validation").astype(int) for again in each)[parts != "test"]
    # Binomial: 40 draws at 1/5 each.
    assert validated.var() == pytest.approx(40 * 0.2 * 0.8, rel=0.25)


def test_without_a_leak_the_parts_stay_as_they_are():
    parts, each = divided("never")
    assert all(again.equals(parts) for again in each)


def test_what_is_reported_depends_on_the_photos_it_is_reported_of():
    held = [(4, 4, 0.95), (4, 5, 0.2), (4, 4, 0.95), (5, 4, 0.3), (5, 5, 0.91), (6, 4, 0.1)]
    rows = [("validation", *photo) for photo in [*held, (3, 3, 0.92), (2, 4, 0.0)]]
    rows += [("train", 4, 4, 0.9), ("test", 4, 5, 0.1), ("test", 5, 5, 0.9), ("other", None, 4, 0)]
    samples = pd.DataFrame(rows, columns=["part", "label", "assigned", "likelihood"])
    samples = samples.assign(round=1, own_logit=logit(samples.likelihood), top_logit=0.0)
    found = reported(samples, DropRule(k=(0.9,))).iloc[0]
    assert found.held_out == 4 / 8
    # Majorities are 4, 5 and 2, the lower one of the rare scores; 3 and 6 are never dropped, and of
    # score 2 the likeliest photo stays: right are two of 4, one of 5, the one of 3.
    assert found.share_kept == 6 / 8
    assert found.held_out_kept == pytest.approx(4 / 6)
    assert found.majority_kept == 2 / 6
    assert found.original == 1
    assert found.untouched == 1 / 2


def copies(seed=0, count=400, files=250):
    """Labels of photos some of which are the same files, and the files."""
    rng = np.random.default_rng(seed)
    of_file = rng.choice([3, 4, 5, 6], files, p=[0.2, 0.4, 0.3, 0.1])
    which = np.concatenate([np.arange(files), rng.integers(files, size=count - files)])
    rng.shuffle(which)
    return of_file[which], which.astype(str)


@pytest.mark.parametrize("how", ["never", "fresh", "rotating"])
def test_photos_of_one_group_lie_in_one_part_whatever_the_fold_and_the_round(how):
    labels, groups = copies()
    alone = split(labels, fold=0, seed=0)
    assert alone.groupby(groups).nunique().max() > 1  # chance would tear some apart
    for fold in range(5):
        parts = split(labels, fold=fold, seed=2, groups=groups)
        assert set(parts) == {"train", "validation", "test"}
        for i in range(1, 7):
            again = resplit(parts, labels, how, round=i, seed=2, groups=groups)
            assert again.groupby(groups).nunique().max() == 1
            assert ((again == "test") == (parts == "test")).all()


def test_the_files_of_every_score_are_divided_by_64_16_and_20_percent():
    labels, groups = copies()
    parts = split(labels, fold=1, seed=0, groups=groups)
    once = pd.DataFrame({"label": labels, "part": parts, "group": groups}).drop_duplicates()
    for _, own in once.groupby("label"):
        shares = own.part.value_counts(normalize=True)
        assert shares[["train", "validation", "test"]].tolist() == pytest.approx(
            [0.64, 0.16, 0.2], abs=0.03
        )


def test_groups_of_one_photo_each_change_nothing():
    groups = np.random.default_rng(0).permutation(len(LABELS)).astype(str)
    parts = split(LABELS, fold=3, seed=1)
    assert parts.equals(split(LABELS, fold=3, seed=1, groups=groups))
    for how in ("fresh", "rotating"):
        plain = resplit(parts, LABELS, how, round=2, seed=1)
        assert plain.equals(resplit(parts, LABELS, how, round=2, seed=1, groups=groups))


def test_a_split_is_the_one_that_kept_tables_were_made_with():
    parts = split(LABELS, fold=1, seed=3)
    first = {part: np.flatnonzero(parts == part)[:8].tolist() for part in ("test", "validation")}
    assert first["test"] == [13, 14, 15, 17, 22, 27, 42, 43]
    assert first["validation"] == [0, 3, 8, 10, 26, 28, 33, 40]


def test_a_class_of_too_few_files_is_merged_or_refused_however_many_photos_they_are():
    scores = np.repeat([3, 4, 5], [20, 30, 12])
    groups = np.concatenate([np.arange(50), np.arange(12) % 3 + 50])
    assert merge_rare(scores)[1] == {}
    labels, merged = merge_rare(scores, groups=groups)
    assert merged == {5: 4}
    assert np.unique(labels).tolist() == [3, 4]
    two = scores > 3
    with pytest.raises(
        InputError, match=r"5 has 3 photos \(identical files count once, .*\), 5 are"
    ):
        split(scores[two], fold=0, seed=0, groups=groups[two])


def test_a_class_of_four_photos_is_one_too_few_and_one_without_own_files_too():
    with pytest.raises(InputError, match="Score 5 has 4 photos, 5 are needed"):
        split(np.repeat([4, 5], [20, 4]), fold=0, seed=0)
    scores = np.repeat([4, 5, 6], [6, 6, 20])
    groups = [*range(6), *range(6), *range(6, 26)]  # those of 4 and 5 are the same six files
    with pytest.raises(InputError, match=r"Score 5 has 0 photos \(identical files count once, by"):
        split(scores, fold=0, seed=0, groups=np.array(groups))


def test_which_score_is_rarer_is_counted_in_files():
    labels = np.array([4] * 12 + [5] * 20)
    groups = np.concatenate([np.arange(12), np.repeat([0, 1, 12, 13, 14], 4)])
    rows, _ = one_of_each(labels, groups)
    assert np.bincount(labels[rows])[4:].tolist() == [10, 5]


def test_a_file_of_two_scores_stands_for_the_rarer_one():
    labels = np.array([4] * 20 + [5] * 5)
    groups = np.arange(25)
    groups[:5] = groups[20:]  # all photos of score 5 are also among those of score 4
    rows, place = one_of_each(labels, groups)
    assert np.bincount(labels[rows]).tolist() == [0, 0, 0, 0, 15, 5]
    assert (groups[rows][place] == groups).all()
    parts = split(labels, fold=0, seed=0, groups=groups)
    assert parts.groupby(labels).nunique().tolist() == [3, 3]
    assert parts.groupby(groups).nunique().max() == 1


def test_a_class_of_copies_that_most_photos_have_is_merged_like_any_rare_one():
    scores = np.repeat([3, 4, 5], [10, 20, 10])
    one_file = np.where(scores == 4, "copy", np.arange(40).astype(str))
    labels, merged = merge_rare(scores, groups=one_file)
    assert merged == {4: 3} and np.unique(labels, return_counts=True)[1].tolist() == [30, 10]


def themes(seed=0, count=700, least=1, most=20):
    """Labels, and groups of very unequal sizes whose photos often share their label."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(least, most, count) ** 2 // most + 1
    group = np.repeat(np.arange(count), sizes)[:count]
    of_group = rng.choice([3, 4, 5, 6], count, p=[0.15, 0.45, 0.3, 0.1])
    own = rng.choice([3, 4, 5, 6], count, p=[0.15, 0.45, 0.3, 0.1])
    labels = np.where(rng.random(count) < 0.5, of_group[group], own)
    order = rng.permutation(count)
    return labels[order], group[order].astype(str)


@pytest.mark.parametrize("share", [0.64, 0.5, 0.75, 0.8])
def test_no_group_lies_in_two_parts_and_the_shares_of_every_score_stay_near(share):
    labels, groups = themes()
    tested = np.zeros(len(labels), int)
    for fold in range(5):
        parts = split(labels, fold=fold, seed=1, groups=groups, each_counts=True, train_share=share)
        assert parts.groupby(groups).nunique().max() == 1
        tested += parts == "test"
        for score in np.unique(labels):
            own = parts[labels == score].value_counts(normalize=True)
            assert own["test"] == pytest.approx(0.2, abs=0.06)
            assert own["train"] == pytest.approx(share, abs=0.09)
    assert (tested == 1).all()


def test_the_test_fold_of_groups_is_that_of_scikit_learn():
    labels, groups = themes(seed=3)
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=7).split(labels, labels, groups)
    theirs = list(folds)[2][1]
    parts = split(labels, fold=2, seed=7, groups=groups, each_counts=True)
    assert np.flatnonzero(parts == "test").tolist() == theirs.tolist()


def test_folds_and_halves_hold_whole_groups_of_about_as_many_photos():
    labels, groups = themes(seed=4)
    for folds in (2, 5):
        fold = fold_of_each(labels, groups, folds=folds, seed=1, each_counts=True)
        assert pd.Series(fold).groupby(groups).nunique().max() == 1
        assert np.bincount(fold) / len(fold) == pytest.approx(1 / folds, abs=0.03)
    half = half_of_each(labels, 1, groups, each_counts=True)
    assert pd.Series(half).groupby(groups).nunique().max() == 1
    assert half.mean() == pytest.approx(0.5, abs=0.03)


def test_one_group_of_training_photos_cannot_be_judged_by_others():
    with pytest.raises(InputError, match="of 9 training photos no two are such"):
        fold_of_each(np.repeat([3, 4], [4, 5]), np.zeros(9), each_counts=True)


def test_a_score_whose_photos_lie_in_few_groups_is_told_by_groups():
    labels = np.repeat([4, 5], [40, 20])
    groups = np.concatenate([np.arange(40), 40 + np.arange(20) % 4])
    with pytest.raises(
        InputError, match=r"^Score 5 has photos of 4 groups, 5 .*in other groups\.$"
    ):
        split(labels, fold=0, seed=0, groups=groups, each_counts=True)


@pytest.mark.parametrize(
    ("share", "counts"),
    [
        (0.8, {"train": 400, "test": 100}),
        (0.7, {"train": 350, "validation": 50, "test": 100}),
        (0.4, {"train": 200, "validation": 200, "test": 100}),
        (1, {"train": 500}),
    ],
)
def test_a_share_of_the_photos_trains_a_fifth_tests_and_the_rest_validates(share, counts):
    parts = split(LABELS, fold=1, seed=3, train_share=share)
    assert parts.value_counts().to_dict() == counts
    if share < 1:
        usual = split(LABELS, fold=1, seed=3)
        assert ((parts == "test") == (usual == "test")).all()
        by_score = np.bincount(LABELS[parts == "train"])[2:]
        assert by_score.tolist() == pytest.approx(share * np.bincount(LABELS)[2:], abs=1)


def test_with_all_photos_training_no_score_is_too_rare():
    assert (split(np.array([4, 4, 5]), fold=0, seed=0, train_share=1) == "train").all()


def test_a_score_that_no_photo_of_trains_is_refused():
    with pytest.raises(InputError, match=r"Score 5 has no training photo \(.*larger --train-share"):
        split(np.repeat([4, 5], [400, 5]), fold=0, seed=0, train_share=0.01)


@pytest.mark.parametrize("each_counts", [False, True])
def test_rare_scores_train_and_are_in_no_other_part_while_the_others_are_divided_as_without(
    each_counts,
):
    labels = np.append(LABELS, [9, 9, 1, 1, 1, 1])
    groups = np.arange(len(labels))
    for fold in range(5):
        how = {"fold": fold, "seed": 2, "groups": groups, "each_counts": each_counts}
        parts = split(labels, rare_train=True, **how)
        assert (parts[len(LABELS) :] == "train").all()
        how["groups"] = groups[: len(LABELS)]
        assert parts[: len(LABELS)].equals(split(LABELS, **how))


def test_photos_of_a_group_with_a_rare_score_train_too_and_what_then_is_rare_as_well():
    labels = np.array([4] * 20 + [5] * 6 + [9] * 2)
    groups = np.arange(28)
    groups[[20, 21]] = 26  # two photos of score 5 lie with a 9, so four of that score are left
    groups[0] = 22  # and with one of these a photo of score 4
    parts = split(labels, fold=0, seed=0, groups=groups, rare_train=True, each_counts=True)
    assert (parts[[0, *range(20, 28)]] == "train").all()
    assert set(parts[1:20]) == {"train", "validation", "test"}


def test_only_rare_scores_cannot_be_divided():
    with pytest.raises(InputError, match=r"no score has so many; .*--train-share 1"):
        split(np.repeat([4, 5], 4), fold=0, seed=0, rare_train=True)


def test_what_shares_a_file_a_group_or_a_look_goes_together_and_nothing_is_shared_with_nobody():
    files = np.array(list("abcadefg"))
    theme = np.array(["", "x", "x", "", "y", "", None, np.nan], dtype=object)
    look = np.array([None, 1, None, None, 1, None, None, None], dtype=object)
    together = joined_groups(files, theme, look)
    assert pd.factorize(together)[0].tolist() == [0, 1, 1, 0, 1, 2, 3, 4]
    assert joined_groups(None, None) is None
    assert joined_groups(None, theme).max() == 6


def test_themes_of_real_photos_stay_whole_and_the_scores_near_their_shares(shared):
    table = pd.read_csv(shared / "oasis" / "photos.csv")
    groups = table.theme.str.replace(r"\s*\d+$", "", regex=True).to_numpy()
    assert len(set(groups)) == 162
    labels, _ = merge_rare(table.score.to_numpy(), groups=groups)
    shares = []
    for fold in range(5):
        parts = split(labels, fold=fold, seed=0, groups=groups, each_counts=True)
        assert parts.groupby(groups).nunique().max() == 1
        shares.append(pd.crosstab(labels, parts, normalize="index"))
    of_common = pd.concat(shares).loc[[3, 4, 5, 6]]
    assert of_common.test.between(0.17, 0.23).all()
    assert of_common.train.between(0.6, 0.68).all()


def test_validation_takes_the_folds_nearest_to_its_share_that_hold_every_score():
    labels = np.repeat([3, 4], [4, 16])
    fold = np.concatenate([[0, 0, 1, 3], np.repeat([0, 1, 2, 3], [7, 4, 4, 1])])
    # A quarter is due: fold 1 has a quarter of each score, fold 0 too much, and fold 2 no 3.
    assert protocols._nearest_folds(labels, fold, 1, 4).tolist() == [1]
