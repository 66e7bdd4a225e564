"""Which photos are trained on, which choose, and which test: 64/16/20 %, other shares, and leaks.

Photos of one group always lie in the same part. Copies of a file count once: one of them is
divided, and takes the others with it. In groups of another kind, such as photos of one theme, each
photo counts, and scikit-learn's `StratifiedGroupKFold` keeps the shares as near as groups allow.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import (
    StratifiedGroupKFold,
    StratifiedKFold,
    train_test_split,
)

from rsrl_lib.drop_rules import DropRule, decide, largest_classes
from rsrl_lib.files import InputError
from rsrl_lib.recipe import FOLDS, Resplit


def merge_rare(
    scores: np.ndarray, *, least: int = FOLDS, groups: np.ndarray | None = None
) -> tuple[np.ndarray, dict[int, int]]:
    """Merge every class with fewer than `least` photos into its neighbour, and say which.

    The neighbour is the next score towards the largest class. Photos of one of the `groups` (n,)
    count once. Returned are the labels (n,) and a map from each merged score to the label its
    photos carry now.

    >>> merge_rare(np.array([4] * 9 + [5] * 6 + [7] * 2))[1]
    {7: 5}
    """
    labels = np.asarray(scores).copy()
    while True:
        counted_once = labels[_once_a_class(labels, groups)]
        classes, sizes = np.unique(counted_once, return_counts=True)
        rare = np.flatnonzero(sizes < least)
        if len(classes) < 3 or not len(rare):
            break
        max1 = largest_classes(counted_once)[0]
        largest = np.flatnonzero(classes == max1)[0]
        # Outermost first, so that a tail of small classes is gathered step by step.
        outermost = rare[np.argmax(np.abs(rare - largest))]
        neighbour = outermost + np.sign(largest - outermost)
        labels[labels == classes[outermost]] = classes[neighbour]
    is_merged = labels != scores
    before = scores[is_merged].tolist()
    after = labels[is_merged].tolist()
    return labels, dict(sorted(zip(before, after, strict=True)))


def low_high(mean_scores: np.ndarray, cut: float) -> np.ndarray:
    """Level of each photo (n,): 1, high, where its mean score is above `cut`, else 0 (AWCU-2018).

    Raises `InputError` where only one level is present.
    """
    level = (mean_scores > cut).astype(int)
    if level.min() == level.max():
        lowest = mean_scores.min()
        highest = mean_scores.max()
        raise InputError(
            f"Two levels are needed, found are all mean scores, {lowest:g} to {highest:g}, on "
            f"one side of the cut {cut:g}; move it."
        )
    return level


def one_of_each(
    labels: np.ndarray, groups: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Rows (m,) of one photo of each group, and for each photo (n,) its place among these.

    Of a group whose photos differ in label the one of the rarest label stands for it, since a rare
    class needs all its photos to be in every part.
    """
    if groups is None:
        return np.arange(len(labels)), np.arange(len(labels))
    group = pd.factorize(groups)[0]  # (n,) number of each photo's group

    # The one that stands for each group
    counted_once = labels[_once_a_class(labels, groups)]
    class_sizes = pd.Series(counted_once).value_counts()
    own_class_size = class_sizes[labels].to_numpy()
    rarest_first = np.argsort(own_class_size, kind="stable")
    _, first_of_group = np.unique(group[rarest_first], return_index=True)
    rows = np.sort(rarest_first[first_of_group])

    place_of_group = np.empty(len(rows), int)
    place_of_group[group[rows]] = np.arange(len(rows))
    return rows, place_of_group[group]


def split(
    labels: np.ndarray,
    *,
    fold: int,
    seed: int,
    groups: np.ndarray | None = None,
    names: Mapping[int, str] | None = None,
    train_share: float = 0.64,
    rare_train: bool = False,
    each_counts: bool = False,
) -> pd.Series:
    """Part of each photo: `train` (64 %), `validation` (16 %) or `test` (fold `fold` of 5, 20 %).

    Stratified by label; the same photos whatever later chooses the round. Another `train_share`
    leaves more or fewer for validation, 0.8 none; with 1 all photos train, and none tests. Photos
    of one of the `groups` (n,) lie in one part. They count once, as copies do, unless
    `each_counts`. With `rare_train` a class that has fewer photos than folds, those of one group
    counted once, trains and is never tested. Without it, that raises `InputError`, as does a class
    without a training photo; `names` are what it calls the labels, else scores.
    """
    if not 0 <= fold < FOLDS:
        raise InputError(f"fold must lie in 0..{FOLDS - 1}, not {fold}.")
    labels = np.asarray(labels)
    each_counts = each_counts and groups is not None
    part = np.full(len(labels), "train", dtype=object)
    if train_share == 1:
        return pd.Series(part, name="part")

    divided = np.arange(len(labels))
    if rare_train:
        divided = np.flatnonzero(~_only_trains(labels, groups))
    some = labels[divided]
    of_some = None if groups is None else groups[divided]
    _check_splittable(some, of_some, names, each_counts)
    # Of the photos that do not test.
    share = 1 - train_share / (1 - 1 / FOLDS)
    share = max(0.0, round(share, 9))
    if each_counts:
        part[divided] = _parts_of_groups(some, of_some, fold, seed, share)
    else:
        part[divided] = _parts_once(some, of_some, fold, seed, share)
    check_trained(labels, part, names, "give a larger --train-share, or another --seed")
    return pd.Series(part, name="part")


def _parts_once(
    labels: np.ndarray, groups: np.ndarray | None, fold: int, seed: int, share: float
) -> np.ndarray:
    """Parts (n,) of photos whose groups count once; of those that do not test, `share` validate."""
    rows, place = one_of_each(labels, groups)
    labels = labels[rows]
    classes = np.unique(labels)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    rest, test = list(folds.split(labels, labels))[fold]
    part = np.full(len(rows), "train", dtype=object)
    part[test] = "test"
    if share > 0:
        # Of a tiny set at least as many photos as there are classes, in each part.
        size = max(round(len(rest) * share), len(classes))
        size = min(size, len(rest) - len(classes))
        _, validation = train_test_split(
            rest, test_size=size, random_state=seed, stratify=labels[rest]
        )
        part[validation] = "validation"
    return part[place]


def _parts_of_groups(
    labels: np.ndarray, groups: np.ndarray, fold: int, seed: int, share: float
) -> np.ndarray:
    """The same of photos that each count, in groups that may be of any size."""
    fold_of_photo = _folds_of_groups(labels, groups, FOLDS, seed)
    part = np.where(fold_of_photo == fold, "test", "train").astype(object)
    if share > 0:
        rest = np.flatnonzero(part == "train")
        _, photos = np.unique(labels[rest], return_counts=True)
        most = min(len(np.unique(groups[rest])), photos.max())
        validating, of = _as_folds(share, most)
        fold_of_photo = _folds_of_groups(labels[rest], groups[rest], of, seed)
        folds = _nearest_folds(labels[rest], fold_of_photo, validating, of)
        part[rest[np.isin(fold_of_photo, folds)]] = "validation"
    return part


def _as_folds(share: float, most: int) -> tuple[int, int]:
    """A share between 0 and 1 as so many of so many folds, of which there may be 2 to `most`.

    >>> _as_folds(0.2, 50), _as_folds(0.375, 50), _as_folds(0.01, 50)
    ((1, 5), (3, 8), (1, 50))
    """
    nearest = Fraction(share).limit_denominator(min(20, most))
    if 0 < nearest < 1:
        return nearest.numerator, nearest.denominator
    smaller = min(share, 1 - share)
    of = min(round(1 / smaller), most)
    return (1, of) if share < 0.5 else (of - 1, of)


def _nearest_folds(
    labels: np.ndarray, fold_of_photo: np.ndarray, count: int, of: int
) -> np.ndarray:
    """Those `count` successive ones of so many folds which hold most nearly their share of every
    class, and leave no class without a photo inside or outside, where that can be."""
    classes, number = np.unique(labels, return_inverse=True)
    photos = np.zeros((of, len(classes)))
    np.add.at(photos, (fold_of_photo, number), 1)
    photos /= photos.sum(0)
    each = [(first + np.arange(count)) % of for first in range(of)]

    def distance(folds: np.ndarray) -> tuple[int, float]:
        inside = photos[folds].sum(0)
        lacking = np.isclose(inside, 0) | np.isclose(inside, 1)
        return int(lacking.sum()), float(abs(inside - count / of).max())

    return min(each, key=distance)


def _folds_of_groups(
    labels: np.ndarray, groups: np.ndarray, folds: int, seed: int
) -> np.ndarray:
    """Fold (n,), from 0 on, of each photo; those of a group lie in one."""
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    return _numbered(splitter.split(labels, labels, groups), len(labels))


def _numbered(
    splits: Iterator[tuple[np.ndarray, np.ndarray]], count: int
) -> np.ndarray:
    fold = np.zeros(count, int)
    with _few_of_a_class():
        for number, (_, members) in enumerate(splits):
            fold[members] = number
    return fold


@contextmanager
def _few_of_a_class() -> Iterator[None]:
    """No warnings of a class that has not a photo for every fold."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def fold_of_each(
    labels: np.ndarray,
    groups: np.ndarray | None = None,
    *,
    folds: int = FOLDS,
    seed: int = 0,
    each_counts: bool = False,
) -> np.ndarray:
    """Fold (n,), from 0 on, of each photo, for judging it by who has not seen it.

    Stratified by label. Photos of one of the `groups` (n,), as of `split`, lie in one fold. Raises
    `InputError` where no two folds can be made.
    """
    rows, place = one_of_each(labels, groups)
    largest = np.unique(labels[rows], return_counts=True)[1].max()
    folds = min(folds, largest)
    if folds < 2:
        raise InputError(
            "Two training photos of one score or more, of different files and groups, are needed "
            f"to judge photos by who has not seen them; of {len(labels)} training photos no two "
            "are such: add photos, or give smaller groups."
        )
    if each_counts and groups is not None:
        return _folds_of_groups(labels, groups, folds, seed)
    labels = labels[rows]
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return _numbered(splitter.split(labels, labels), len(rows))[place]


def _only_trains(labels: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """Whether each photo (n,) has a class of fewer photos than folds, or shares a group with such.

    What is left of a class when such photos are gone may be too few in its turn.
    """
    only = np.zeros(len(labels), bool)
    while True:
        rest = np.flatnonzero(~only)
        of_rest = None if groups is None else groups[rest]
        once = rest[_once_a_class(labels[rest], of_rest)]
        classes, sizes = np.unique(labels[once], return_counts=True)
        is_rare = ~only & np.isin(labels, classes[sizes < FOLDS])
        if not is_rare.any():
            return only
        only |= is_rare
        if groups is not None:
            only |= pd.Series(groups).isin(groups[is_rare]).to_numpy()


def _check_splittable(
    labels: np.ndarray,
    groups: np.ndarray | None,
    names: Mapping[int, str] | None,
    each_counts: bool,
) -> None:
    """`InputError` where a class has fewer photos than folds, those of a group counted once."""
    classes = np.unique(labels)
    if not len(classes):
        raise InputError(
            f"{FOLDS} photos of one score or more are needed to split them into training, "
            "validation and test, no score has so many; add photos, or train on all "
            "(--train-share 1)."
        )
    if each_counts:
        counted = _once_a_class(labels, groups)
    else:
        counted, _ = one_of_each(labels, groups)
    counts = pd.Series(labels[counted]).value_counts()
    counts = counts.reindex(classes, fill_value=0)
    if counts.min() >= FOLDS:
        return
    rarest = counts.idxmin()
    name = _called(rarest, names)
    kind = name.split()[0]
    found = f"{counts.min()} photos"
    more = f"photos of that {kind}"
    if each_counts:
        found = f"photos of {counts.min()} groups"
        more += " in other groups"
    elif len(counted) < len(labels):
        found += " (identical files count once, by their rarest score)"
    raise InputError(
        f"{name.capitalize()} has {found}, {FOLDS} are needed to split "
        f"them into training, validation and test; add {more}."
    )


def check_trained(
    labels: np.ndarray,
    part: np.ndarray,
    names: Mapping[int, str] | None,
    remedy: str,
) -> None:
    """`InputError` where a class has no training photo, as of few photos or groups."""
    untrained = np.setdiff1d(labels, labels[part == "train"])
    if not len(untrained):
        return
    parts = pd.Series(part[labels == untrained[0]]).value_counts()
    where = " and ".join(f"{count} in {name}" for name, count in parts.items())
    name = _called(untrained[0], names)
    raise InputError(f"{name.capitalize()} has no training photo ({where}); {remedy}.")


def _called(label: int, names: Mapping[int, str] | None) -> str:
    return names[label] if names else f"score {label}"


def joined_groups(*kinds: np.ndarray | None) -> np.ndarray | None:
    """Number (n,) of each photo's group, where photos that share any of several go together.

    Each of `kinds` (n,) says who shares something; what stands for nothing (None, NaN or an empty
    text) is shared with nobody. None where none is known.

    >>> joined_groups(np.array(list("aabcd")), np.array(["x", "", "x", "y", ""])).tolist()
    [0, 0, 0, 1, 2]
    """
    known = [kind for kind in kinds if kind is not None]
    if not known:
        return None
    count = len(known[0])
    photos = []
    things = []
    next_thing = count
    for kind in known:
        named = pd.Series(kind, dtype=object).replace("", None)
        number = pd.factorize(named)[0]  # -1 of nothing
        has_one = np.flatnonzero(number >= 0)
        photos.append(has_one)
        things.append(next_thing + number[has_one])
        next_thing += number.max() + 1
    rows = np.concatenate(photos)
    columns = np.concatenate(things)
    shares = coo_array((np.ones(len(rows), bool), (rows, columns)), (next_thing,) * 2)
    return connected_components(shares, directed=False)[1][:count]


def resplit(
    parts: pd.Series,
    labels: np.ndarray,
    how: Resplit,
    *,
    round: int,
    seed: int,
    groups: np.ndarray | None = None,
) -> pd.Series:
    """Parts (n,) in a round: as they are, or with training and validation photos divided anew.

    What may have happened where a published accuracy is too good: photos that are reported on were
    trained on in earlier rounds. `fresh` draws a fifth at random in every round, `rotating` lets
    five fixed fifths validate in turn, as if one network went through a cross-validation. `test`
    photos stay untouched and tell what the network is worth. `groups` are those of `split`.
    """
    if how == "never":
        return parts
    rows, place = one_of_each(labels, groups)
    divided = parts.to_numpy()[rows]
    labels = labels[rows]

    draw = round if how == "fresh" else 0
    rng = np.random.default_rng([seed, 11, draw])
    not_tested = np.flatnonzero(divided != "test")
    order = rng.permutation(not_tested)
    drawn = pd.Series(labels[order])
    number_in_class = drawn.groupby(drawn).cumcount()
    fifth = number_in_class % FOLDS
    validates = fifth == (round - 1) % FOLDS
    divided[order] = np.where(validates, "validation", "train")
    return pd.Series(divided[place], parts.index, name=parts.name)


def _once_a_class(labels: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """Rows (m,) that hold each pair of a label and a group once."""
    if groups is None:
        return np.arange(len(labels))
    pairs = pd.DataFrame({"label": labels, "group": groups})
    return np.flatnonzero(~pairs.duplicated())


def reported(samples: pd.DataFrame, rule: DropRule) -> pd.DataFrame:
    """Accuracy of every round as it may be reported, and as it is: one row per round.

    `samples` is that table of a run. Columns: `held_out` (validation photos), `held_out_kept`
    (those that the rule keeps of them, with their own largest classes; `share_kept` says how many,
    `majority_kept` what always answering their largest class reaches), `original` (all training
    photos, dropped ones included: SSRL-2019 Table 1) and `untouched` (test photos), each with
    nothing chosen. A photo of each majority class is kept.
    """
    rule = replace(rule, min_per_class=1)
    rows = []
    for number, sample in samples[samples.part != "other"].groupby("round"):
        right = (sample.assigned == sample.label).astype(float)
        accuracy = right.groupby(sample.part).mean()
        held_out = sample[sample.part == "validation"]
        decision = decide(
            rule,
            held_out.label.to_numpy(int),
            held_out.own_logit.to_numpy(),
            held_out.top_logit.to_numpy(),
            after_round=number,
        )
        kept = decision.kept
        class_shares = held_out.label[kept].value_counts(normalize=True)
        row = {
            "round": number,
            "held_out": accuracy["validation"],
            "held_out_kept": right[held_out.index][kept].mean(),
            "share_kept": kept.mean(),
            "majority_kept": class_shares.max(),
            "original": accuracy["train"],
            "untouched": accuracy["test"],
        }
        rows.append(row)
    return pd.DataFrame(rows)
