"""Which photos are trained on, which choose, and which test: the 64/16/20 split, and its leaks."""

from dataclasses import replace

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold, train_test_split

from rsrl_lib.drop_rules import DropRule, decide, largest_classes
from rsrl_lib.files import InputError
from rsrl_lib.recipe import FOLDS, Resplit


def merge_rare(scores: np.ndarray, *, least: int = FOLDS) -> tuple[np.ndarray, dict[int, int]]:
    """Merge every class with fewer than `least` photos into its neighbour, and say which.

    The neighbour is the next score towards the largest class. Returned are the labels (n,) and a
    map from each merged score to the label its photos carry now.

    >>> merge_rare(np.array([4] * 9 + [5] * 6 + [7] * 2))[1]
    {7: 5}
    """
    labels = np.asarray(scores).copy()
    while True:
        classes, sizes = np.unique(labels, return_counts=True)
        rare = np.flatnonzero(sizes < least)
        if len(classes) < 3 or not len(rare):
            break
        largest = np.flatnonzero(classes == largest_classes(labels)[0])[0]
        # Outermost first, so that a tail of small classes is gathered step by step.
        worst = rare[np.argmax(np.abs(rare - largest))]
        labels[labels == classes[worst]] = classes[worst + np.sign(largest - worst)]
    changed = labels != scores
    return labels, dict(
        sorted(zip(scores[changed].tolist(), labels[changed].tolist(), strict=True))
    )


def low_high(mean_scores: np.ndarray, cut: float) -> np.ndarray:
    """Level of each photo (n,): 1, high, where its mean score is above `cut`, else 0 (AWCU-2018).

    Raises `InputError` where only one level is present.
    """
    high = (mean_scores > cut).astype(int)
    if high.min() == high.max():
        found = f"all mean scores, {mean_scores.min():g} to {mean_scores.max():g}, on one side"
        raise InputError(f"Two levels are needed, found are {found} of the cut {cut:g}; move it.")
    return high


def split(labels: np.ndarray, *, fold: int, seed: int) -> pd.Series:
    """Part of each photo: `train` (64 %), `validation` (16 %) or `test` (fold `fold` of 5, 20 %).

    Stratified by label; the same photos whatever later chooses the round. Raises `InputError` when
    a class has fewer photos than folds.
    """
    if not 0 <= fold < FOLDS:
        raise InputError(f"fold must lie in 0..{FOLDS - 1}, not {fold}.")
    smallest = pd.Series(labels).value_counts()
    if smallest.min() < FOLDS:
        raise InputError(
            f"Score {smallest.idxmin()} has {smallest.min()} photos, {FOLDS} are needed to split "
            "them into training, validation and test; add photos of that score."
        )
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(labels, labels)
    rest, test = list(folds)[fold]
    # A fifth, but of a tiny set at least a photo of each class.
    size = max(round(len(rest) / 5), len(np.unique(labels)))
    _, validation = train_test_split(
        rest, test_size=size, random_state=seed, stratify=np.asarray(labels)[rest]
    )
    part = np.full(len(labels), "train", dtype=object)
    part[validation], part[test] = "validation", "test"
    return pd.Series(part, name="part")


def resplit(
    parts: pd.Series, labels: np.ndarray, how: Resplit, *, round: int, seed: int
) -> pd.Series:
    """Parts (n,) in a round: as they are, or with training and validation photos divided anew.

    What may have happened where a published accuracy is too good: photos that are reported on were
    trained on in earlier rounds. `fresh` draws a fifth at random in every round, `rotating` lets
    five fixed fifths validate in turn, as if one network went through a cross-validation. `test`
    photos stay untouched and tell what the network is worth.
    """
    if how == "never":
        return parts
    rng = np.random.default_rng([seed, 11, round if how == "fresh" else 0])
    order = rng.permutation(np.flatnonzero(parts != "test"))
    fifth = pd.Series(labels[order]).groupby(labels[order]).cumcount() % FOLDS
    divided = parts.copy()
    divided.iloc[order] = np.where(fifth == (round - 1) % FOLDS, "validation", "train")
    return divided


def reported(samples: pd.DataFrame, rule: DropRule) -> pd.DataFrame:
    """Accuracy of every round as it may be reported, and as it is: one row per round.

    `samples` is that table of a run. Columns: `held_out` (validation photos), `held_out_kept`
    (those that the rule keeps of them, with their own largest classes; `share_kept` says how many,
    `majority_kept` what always answering their largest class reaches), `original` (all training
    photos, dropped ones included: SSRL-2019 Table 1) and `untouched` (test photos), each with
    nothing chosen. A photo of each majority class is kept.
    """
    rule, rows = replace(rule, min_per_class=1), []
    for number, sample in samples[samples.part != "other"].groupby("round"):
        right = (sample.assigned == sample.label).astype(float)
        by_part = right.groupby(sample.part).mean()
        held = sample[sample.part == "validation"]
        likelihoods = held.own_likelihood.to_numpy(), held.top_likelihood.to_numpy()
        kept = decide(rule, held.label.to_numpy(int), *likelihoods, after_round=number).kept
        row = {"round": number, "held_out": by_part["validation"]}
        row |= {"held_out_kept": right[held.index][kept].mean(), "share_kept": kept.mean()}
        row["majority_kept"] = held.label[kept].value_counts(normalize=True).max()
        rows.append(row | {"original": by_part["train"], "untouched": by_part["test"]})
    return pd.DataFrame(rows)
