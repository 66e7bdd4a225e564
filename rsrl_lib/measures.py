"""Measures of scores (per class, imbalance-aware, ordinal, intervals over photos) and of regions.

Every measure is told the classes, so one that is absent or never assigned stays visible. All but
the rank correlation follow from a confusion matrix, so each has one formula, for a set of photos as
for thousands of resampled ones. The tests ask scikit-learn.
"""

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from PIL import Image
from scipy import stats
from sklearn import metrics

from rsrl_lib.files import InputError


def per_class(
    labels: np.ndarray, assigned: np.ndarray, scores: Sequence[int]
) -> pd.DataFrame:
    """One row per score: precision, recall, F = 2PR/(P+R), photos labelled and assigned (RSRL).

    An undefined ratio (no photo labelled or assigned) is 0, as the papers count it.
    """
    counts, known = _counted(labels, assigned, scores)
    table = pd.DataFrame({"score": known} | by_score(counts))
    return table[table.score.isin(list(scores))].reset_index(drop=True)


def confusion(
    labels: np.ndarray, assigned: np.ndarray, scores: Sequence[int]
) -> pd.DataFrame:
    """Tidy confusion matrix: label, assigned, photos; every pair of scores has its row."""
    counts = metrics.confusion_matrix(labels, assigned, labels=list(scores))
    pairs = pd.MultiIndex.from_product([scores, scores], names=["label", "assigned"])
    return pd.Series(counts.ravel(), pairs, name="photos").reset_index()


def measures(
    labels: np.ndarray, assigned: np.ndarray, scores: Sequence[int]
) -> dict[str, float]:
    """Measures, by name, for photos labelled `labels` (n,) and assigned `assigned` (n,).

    Those of `of_confusions`, and `spearman`, the rank correlation. A rank correlation or kappa of
    constant scores is NaN.
    """
    counts, known = _counted(labels, assigned, scores)
    found = {name: float(value) for name, value in of_confusions(counts, known).items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        spearman = stats.spearmanr(labels, assigned).statistic
    return found | {"spearman": spearman}


def of_confusions(counts: np.ndarray, scores: Sequence[int]) -> dict[str, np.ndarray]:
    """Measures, by name, of confusion matrices (..., labels, assigned) of photos with `scores`.

    Photos may be weighted, so that resampled photos need not be listed again. `total_f` sums F over
    all scores (RSRL). Macro means run over the scores that some label has. `majority_accuracy` is
    what always answering the commonest label would reach. `kappa` is weighted by the squared
    difference of scores. `quadratic_loss` = mean((label - assigned)^2) (SSRL-2019, our reading).
    `macro_mae` is the mean absolute error of each score, averaged over the scores.
    """
    each = by_score(counts)
    photos, assigned = each["photos"], each["assigned"]
    total = photos.sum(-1)
    present = photos > 0

    scores = np.asarray(scores)
    distance = abs(scores[:, None] - scores)
    by_chance = photos[..., :, None] * assigned[..., None, :] / total[..., None, None]
    squared_error = (counts * distance**2).sum((-2, -1))
    error_by_chance = (by_chance * distance**2).sum((-2, -1))
    known_error = np.where(error_by_chance > 0, error_by_chance, np.nan)

    right = np.trace(counts, axis1=-2, axis2=-1)
    mean_error = _ratio((counts * distance).sum(-1), photos)
    return {
        "accuracy": right / total,
        "majority_accuracy": photos.max(-1) / total,
        "macro_f1": _mean_where(present, each["f"]),
        "total_f": each["f"].sum(-1),
        "balanced_accuracy": _mean_where(present, each["recall"]),
        "kappa": 1 - squared_error / known_error,
        "macro_mae": _mean_where(present, mean_error),
        "quadratic_loss": squared_error / total,
    }


def of_rare_scores(counts: np.ndarray, rare: np.ndarray) -> dict[str, np.ndarray]:
    """Measures of the scores that `rare` (scores,) marks, of confusions (..., labels, assigned).

    `rare_f1` is the mean F of those that some label has (RSRL-b reports it of all but the three
    commonest scores), `rare_by_chance` what it would be if as many of each answer were given to
    photos at random, and `rare_assigned` the share of photos that get a rare score.
    """
    each = by_score(counts)
    photos, assigned = each["photos"], each["assigned"]
    total = photos.sum(-1, keepdims=True)
    present = (photos > 0) & rare
    f_by_chance = _ratio(2 * photos * assigned / total, photos + assigned)
    return {
        "rare_f1": _mean_where(present, each["f"]),
        "rare_by_chance": _mean_where(present, f_by_chance),
        "rare_assigned": (assigned * rare).sum(-1) / total[..., 0],
    }


def by_score(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall, F, photos labelled and assigned of each score, as arrays (..., scores).

    Of confusion matrices (..., labels, assigned); an undefined ratio is 0.
    """
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    photos = counts.sum(-1)
    assigned = counts.sum(-2)
    return {
        "precision": _ratio(right, assigned),
        "recall": _ratio(right, photos),
        "f": _ratio(2 * right, photos + assigned),
        "photos": photos,
        "assigned": assigned,
    }


def _counted(
    labels: np.ndarray, assigned: np.ndarray, scores: Sequence[int]
) -> tuple[np.ndarray, list[int]]:
    """Confusion matrix, and the scores of its rows: `scores` and all that photos have beside."""
    known = sorted(
        {*scores, *np.unique(labels).tolist(), *np.unique(assigned).tolist()}
    )
    return metrics.confusion_matrix(labels, assigned, labels=known), known


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(np.shape(whole)), where=whole > 0)


def _mean_where(chosen: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mean of the chosen values along the last axis; NaN where none is chosen."""
    count = chosen.sum(-1)
    return np.where(chosen, values, 0).sum(-1) / np.where(count > 0, count, np.nan)


def of_parts(
    sample: pd.DataFrame, scores: Sequence[int], parts: Sequence[str]
) -> dict[str, pd.DataFrame]:
    """Measures of one round on several parts, from a table with `part`, `label` and `assigned`.

    Returned are `rounds` (one row, columns such as `test_accuracy`), and with a column `part` the
    tables `per_class` and `confusion`.
    """
    row, classes, pairs = {}, [], []
    for part in parts:
        of_part = sample[sample.part == part]
        truth, given = of_part.label.to_numpy(int), of_part.assigned.to_numpy(int)
        row |= {f"{part}_{k}": v for k, v in measures(truth, given, scores).items()}
        classes.append(per_class(truth, given, scores).assign(part=part))
        pairs.append(confusion(truth, given, scores).assign(part=part))
    return {
        "rounds": pd.DataFrame([row]),
        "per_class": pd.concat(classes),
        "confusion": pd.concat(pairs),
    }


def against_mask(
    map: np.ndarray, region: np.ndarray, mask: np.ndarray
) -> dict[str, float]:
    """How well a real-valued map and its region find a subject mask: `iou`, `auc`, `pointing`.

    `map` (h, w) is resized bilinearly and `region` (h, w) to the nearest pixel of the boolean
    `mask` (rows, columns). `iou` is of region and mask, `auc` the area under the ROC of the map's
    values for the pixels of the mask, `pointing` the share of the map's maximal pixels that lie in
    the mask: 1 or 0 where the maximum is one pixel (pointing game, without tolerance). Raises
    `InputError` where the mask marks no pixel or all, since neither has an ROC.
    """
    mask, size = mask.astype(bool), mask.shape[::-1]
    if mask.all() or not mask.any():
        marked = "all pixels" if mask.any() else "no pixel"
        raise InputError(
            f"The mask marks {marked}; give one that tells a subject from the rest."
        )
    values = Image.fromarray(map.astype(np.float32)).resize(
        size, Image.Resampling.BILINEAR
    )
    inside = Image.fromarray(region.astype(bool)).resize(size, Image.Resampling.NEAREST)
    values, inside = np.asarray(values), np.asarray(inside)
    return {
        "iou": float((inside & mask).sum() / (inside | mask).sum()),
        "auc": float(metrics.roc_auc_score(mask.ravel(), values.ravel())),
        "pointing": float(mask[values == values.max()].mean()),
    }


def paired_interval(
    measure: Callable[[np.ndarray, np.ndarray], float | np.ndarray],
    labels: np.ndarray,
    assigned: np.ndarray,
    baseline: np.ndarray,
    *,
    resamples: int = 2000,
) -> tuple[float, float, float] | tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Difference measure(assigned) - measure(baseline) with its 95 % interval over photos.

    Photos are resampled with both assignments of each kept together (paired percentile bootstrap).
    A `measure` of several values (n,) gets an interval for each, all on the same resamples. The
    interval covers the choice of test photos alone, not that of seeds or training photos.
    """

    def difference(index: np.ndarray) -> float | np.ndarray:
        index = index.astype(int)
        return measure(labels[index], assigned[index]) - measure(
            labels[index], baseline[index]
        )

    photos = np.arange(len(labels))
    how = {
        "n_resamples": resamples,
        "method": "percentile",
        "rng": 0,
        "vectorized": False,
    }
    low, high = stats.bootstrap((photos,), difference, **how).confidence_interval
    return difference(photos), low, high
