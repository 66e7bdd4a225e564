"""How far two trainings of the same photos drop the same ones, beside chance."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.stats import spearmanr


def overlap(labels: np.ndarray, out: np.ndarray, other_out: np.ndarray) -> dict[str, float]:
    """How far two sets of dropped photos are the same, beside random sets of as many of each score.

    `labels` (n,) are the photos' scores, `out` and `other_out` (n,) whether they are dropped.
    """
    by_score = pd.DataFrame({"one": out, "other": other_out}).groupby(labels)
    dropped = by_score.sum()
    both = (out & other_out).sum()
    total = out.sum() + other_out.sum()
    by_chance = (dropped.one * dropped.other / by_score.size()).sum()
    at_most = dropped.min(axis=1).sum()
    can_differ = at_most > by_chance
    return {
        "dropped": out.sum(),
        "other_dropped": other_out.sum(),
        "jaccard": both / (total - both) if total else np.nan,
        "jaccard_by_chance": by_chance / (total - by_chance) if total else np.nan,
        "agreement": (both - by_chance) / (at_most - by_chance) if can_differ else np.nan,
    }


def within_scores(labels: np.ndarray, one: np.ndarray, other: np.ndarray) -> float:
    """Mean of the rank correlations (n,) within each score, weighted by its photos."""
    values, sizes = [], []
    for score in np.unique(labels):
        own = labels == score
        if own.sum() > 2 and np.ptp(one[own]) and np.ptp(other[own]):
            values.append(spearmanr(one[own], other[own]).statistic)
            sizes.append(own.sum())
    return float(np.average(values, weights=sizes)) if values else np.nan


def compared(one: pd.DataFrame, other: pd.DataFrame) -> Iterator[dict[str, float]]:
    """Round by round, what two trainings drop and how likely they find each photo."""
    one, other = by_round(one), by_round(other)
    for number in range(1, len(one)):
        photos = one[number].index
        labels = one[number].label.to_numpy(int)
        logits = one[number].own_logit.to_numpy()
        other_logits = other[number].own_logit[photos].to_numpy()
        out = ~one[number + 1].kept[photos].to_numpy()
        other_out = ~other[number + 1].kept[photos].to_numpy()
        yield {
            "round": number,
            **overlap(labels, out, other_out),
            "logits": within_scores(labels, logits, other_logits),
        }


def by_round(samples: pd.DataFrame) -> dict[int, pd.DataFrame]:
    """What is known of the training photos in each round, by name."""
    of_training = samples[samples.part == "train"].set_index("photo")
    return dict(list(of_training.groupby("round")))


def rank_correlations(
    ones: pd.DataFrame, others: pd.DataFrame, labels: pd.Series, ending: str
) -> pd.DataFrame:
    """Of each training of `ones` with that of `others` whose arm has this ending, if there is."""
    keys = ["arm", "seed", "fold"]
    other_of = dict(list(others.groupby(keys)))
    rows = []
    for (arm, seed, fold), one in ones.groupby(keys):
        other = other_of.get((arm + ending, seed, fold))
        if other is None:
            continue
        photos = one.photo.to_numpy()
        of_other = other.set_index("photo").rounds_out[photos].to_numpy()
        value = within_scores(labels[photos].to_numpy(), one.rounds_out.to_numpy(), of_other)
        rows.append({"arm": arm, "seed": seed, "fold": fold, "rank_correlation": value})
    return pd.DataFrame(rows).dropna()
