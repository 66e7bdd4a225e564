"""Which photos are trained on, which choose, and which test: the 64/16/20 split, and its leaks.

Photos of one group, such as identical files, always lie in the same part: one photo of each group
is divided, and takes the others with it. Where no two photos share a group, that is all photos.
"""

import warnings
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold, train_test_split

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
) -> pd.Series:
    """Part of each photo: `train` (64 %), `validation` (16 %) or `test` (fold `fold` of 5, 20 %).

    Stratified by label; the same photos whatever later chooses the round. Photos of one of the
    `groups` (n,) lie in one part. Raises `InputError` when a class has fewer photos than folds,
    those of one group counted once; `names` are what it calls the labels, else scores.
    """
    if not 0 <= fold < FOLDS:
        raise InputError(f"fold must lie in 0..{FOLDS - 1}, not {fold}.")
    labels = np.asarray(labels)
    rows, place = one_of_each(labels, groups)
    _check_splittable(labels, rows, names)
    classes = np.unique(labels)
    labels = labels[rows]

    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    rest, test = list(folds.split(labels, labels))[fold]
    # A fifth, but of a tiny set at least a photo of each class.
    size = max(round(len(rest) / 5), len(classes))
    _, validation = train_test_split(
        rest, test_size=size, random_state=seed, stratify=labels[rest]
    )

    part = np.full(len(rows), "train", dtype=object)
    part[validation] = "validation"
    part[test] = "test"
    return pd.Series(part[place], name="part")


def fold_of_each(
    labels: np.ndarray,
    groups: np.ndarray | None = None,
    *,
    folds: int = FOLDS,
    seed: int = 0,
) -> np.ndarray:
    """Fold (n,), from 0 on, of each photo, for judging it by who has not seen it.

    Stratified by label. Photos of one of the `groups` (n,), as of `split`, lie in one fold.
    """
    rows, place = one_of_each(labels, groups)
    labels = labels[rows]
    largest = np.unique(labels, return_counts=True)[1].max()
    splitter = StratifiedKFold(min(folds, largest), shuffle=True, random_state=seed)
    fold = np.zeros(len(rows), int)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # of a class that has not a photo for every fold
        for number, (_, members) in enumerate(splitter.split(labels, labels)):
            fold[members] = number
    return fold[place]


def _check_splittable(
    labels: np.ndarray, rows: np.ndarray, names: Mapping[int, str] | None
) -> None:
    """`InputError` where a class has fewer photos than folds; `rows` has one of each group."""
    classes = np.unique(labels)
    counts = pd.Series(labels[rows]).value_counts()
    counts = counts.reindex(classes, fill_value=0)
    if counts.min() >= FOLDS:
        return
    rarest = counts.idxmin()
    name = names[rarest] if names else f"score {rarest}"
    kind = name.split()[0]
    once = ""
    if len(rows) < len(labels):
        once = " (identical files count once, by their rarest score)"
    raise InputError(
        f"{name.capitalize()} has {counts.min()} photos{once}, {FOLDS} are needed to split "
        f"them into training, validation and test; add photos of that {kind}."
    )


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
