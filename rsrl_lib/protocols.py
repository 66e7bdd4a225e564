"""Which photos are trained on, which choose, and which test: the 64/16/20 split, and its leaks.

Photos of one group, such as identical files, always lie in the same part: one photo of each group
is divided, and takes the others with it. Where no two photos share a group, that is all photos.
"""

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
        classes, sizes = np.unique(
            labels[_once_a_class(labels, groups)], return_counts=True
        )
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
        raise InputError(
            f"Two levels are needed, found are {found} of the cut {cut:g}; move it."
        )
    return high


def one_of_each(
    labels: np.ndarray, groups: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Rows (m,) of one photo of each group, and for each photo (n,) its place among these.

    Of a group whose photos differ in label the one of the rarest label stands for it, since a rare
    class needs all its photos to be in every part.
    """
    if groups is None:
        return np.arange(len(labels)), np.arange(len(labels))
    group = pd.factorize(groups)[0]
    alone = pd.Series(labels[_once_a_class(labels, groups)]).value_counts()
    order = np.argsort(alone[labels].to_numpy(), kind="stable")
    _, first = np.unique(group[order], return_index=True)
    rows = np.sort(order[first])
    place = np.empty(len(rows), int)
    place[group[rows]] = np.arange(len(rows))
    return rows, place[group]


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
    every, own = np.unique(labels), labels[rows]
    smallest = pd.Series(own).value_counts().reindex(every, fill_value=0)
    if smallest.min() < FOLDS:
        has_twins = len(rows) < len(labels)
        once = (
            " (identical files count once, by their rarest score)" if has_twins else ""
        )
        rarest = smallest.idxmin()
        name = names[rarest] if names else f"score {rarest}"
        raise InputError(
            f"{name.capitalize()} has {smallest.min()} photos{once}, {FOLDS} are needed to split "
            f"them into training, validation and test; add photos of that {name.split()[0]}."
        )
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(own, own)
    rest, test = list(folds)[fold]
    # A fifth, but of a tiny set at least a photo of each class.
    size = max(round(len(rest) / 5), len(every))
    _, validation = train_test_split(
        rest, test_size=size, random_state=seed, stratify=own[rest]
    )
    part = np.full(len(rows), "train", dtype=object)
    part[validation], part[test] = "validation", "test"
    return pd.Series(part[place], name="part")


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
    rng = np.random.default_rng([seed, 11, round if how == "fresh" else 0])
    order = rng.permutation(np.flatnonzero(parts.to_numpy()[rows] != "test"))
    own = labels[rows][order]
    fifth = pd.Series(own).groupby(own).cumcount() % FOLDS
    divided = parts.to_numpy()[rows]
    divided[order] = np.where(fifth == (round - 1) % FOLDS, "validation", "train")
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
    rule, rows = replace(rule, min_per_class=1), []
    for number, sample in samples[samples.part != "other"].groupby("round"):
        right = (sample.assigned == sample.label).astype(float)
        by_part = right.groupby(sample.part).mean()
        held = sample[sample.part == "validation"]
        logits = held.own_logit.to_numpy(), held.top_logit.to_numpy()
        kept = decide(rule, held.label.to_numpy(int), *logits, after_round=number).kept
        row = {"round": number, "held_out": by_part["validation"]}
        row |= {
            "held_out_kept": right[held.index][kept].mean(),
            "share_kept": kept.mean(),
        }
        row["majority_kept"] = held.label[kept].value_counts(normalize=True).max()
        rows.append(row | {"original": by_part["train"], "untouched": by_part["test"]})
    return pd.DataFrame(rows)
