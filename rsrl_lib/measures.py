"""Measures of scores (per class, imbalance-aware, ordinal, intervals over photos) and of regions.

Every measure is told the classes, so one that is absent or never assigned stays visible.
scikit-learn and scipy compute them; here they are only named and put together.
"""

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from PIL import Image
from scipy import stats
from sklearn import metrics
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.utils.class_weight import compute_sample_weight

from rsrl_lib.files import InputError


def per_class(labels: np.ndarray, assigned: np.ndarray, scores: Sequence[int]) -> pd.DataFrame:
    """One row per score: precision, recall, F = 2PR/(P+R), photos labelled and assigned (RSRL).

    An undefined ratio (no photo labelled or assigned) is 0, as the papers count it.
    """
    values = metrics.precision_recall_fscore_support(
        labels, assigned, labels=list(scores), zero_division=0
    )
    table = pd.DataFrame(dict(zip(("precision", "recall", "f", "photos"), values, strict=True)))
    table.insert(0, "score", list(scores))
    return table.assign(assigned=[int(np.sum(assigned == score)) for score in scores])


def confusion(labels: np.ndarray, assigned: np.ndarray, scores: Sequence[int]) -> pd.DataFrame:
    """Tidy confusion matrix: label, assigned, photos; every pair of scores has its row."""
    counts = metrics.confusion_matrix(labels, assigned, labels=list(scores))
    pairs = pd.MultiIndex.from_product([scores, scores], names=["label", "assigned"])
    return pd.Series(counts.ravel(), pairs, name="photos").reset_index()


def measures(labels: np.ndarray, assigned: np.ndarray, scores: Sequence[int]) -> dict[str, float]:
    """Measures, by name, for photos labelled `labels` (n,) and assigned `assigned` (n,).

    `total_f` sums F over all `scores` (RSRL); macro means run over the classes that are present in
    `labels`; `majority_accuracy` is what always answering the largest class of `labels` would
    reach; `kappa` is weighted by the squared difference of scores; `quadratic_loss` = mean((label -
    assigned)^2) (SSRL-2019, our reading); `macro_mae` is the mean absolute error over classes.
    A rank correlation or kappa of constant scores is NaN.
    """
    table = per_class(labels, assigned, scores)
    present = table[table.photos > 0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", (RuntimeWarning, UndefinedMetricWarning))
        spearman = stats.spearmanr(labels, assigned).statistic
        # Weights go by places in a list: one without a gap, so that places are scores.
        every = range(min(scores), max(scores) + 1)
        kappa = metrics.cohen_kappa_score(labels, assigned, labels=every, weights="quadratic")
    balanced = compute_sample_weight("balanced", labels)
    return {
        "accuracy": metrics.accuracy_score(labels, assigned),
        "majority_accuracy": present.photos.max() / len(labels),
        "macro_f1": present.f.mean(),
        "total_f": table.f.sum(),
        "balanced_accuracy": present.recall.mean(),
        "kappa": kappa,
        "macro_mae": metrics.mean_absolute_error(labels, assigned, sample_weight=balanced),
        "quadratic_loss": metrics.mean_squared_error(labels, assigned),
        "spearman": spearman,
    }


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


def against_mask(map: np.ndarray, region: np.ndarray, mask: np.ndarray) -> dict[str, float]:
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
        raise InputError(f"The mask marks {marked}; give one that tells a subject from the rest.")
    values = Image.fromarray(map.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
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
        return measure(labels[index], assigned[index]) - measure(labels[index], baseline[index])

    photos = np.arange(len(labels))
    how = {"n_resamples": resamples, "method": "percentile", "rng": 0, "vectorized": False}
    low, high = stats.bootstrap((photos,), difference, **how).confidence_interval
    return difference(photos), low, high


def corrected_interval(
    differences: np.ndarray, *, test_over_train: float
) -> tuple[float, float, float, float]:
    """Mean of differences (cells,) over folds and seeds, its 95 % interval, and p of no difference.

    Cells share photos, so that their spread alone is too narrow an interval: the variance of the
    mean is that of the cells times (1/cells + test/train photos) (Nadeau & Bengio 2003).
    """
    mean, count = float(np.mean(differences)), len(differences)
    error = np.std(differences, ddof=1) * np.sqrt(1 / count + test_over_train)
    if error == 0:
        return mean, mean, mean, float(mean == 0)
    reach = stats.t.ppf(0.975, count - 1) * error
    p = 2 * stats.t.sf(abs(mean) / error, count - 1)
    return mean, mean - reach, mean + reach, float(p)


def holm(p: Sequence[float]) -> np.ndarray:
    """p-values (n,) adjusted for being n comparisons (Holm 1979).

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p, float)
    order = p.argsort()
    raised = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return np.minimum(raised, 1)[order.argsort()]
