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

ATTRIBUTE_COLUMNS = ["attribute", "photos", "share", "accuracy", "majority_accuracy"]
ATTRIBUTE_COLUMNS += ["auc", "spearman", "mean_absolute_error"]


def per_class(
    labels: np.ndarray, assigned: np.ndarray, scores: Sequence[int]
) -> pd.DataFrame:
    """One row per score: precision, recall, F = 2PR/(P+R), photos labelled and assigned (RSRL).

    An undefined ratio (no photo labelled or assigned) is 0, as the papers count it.
    """
    counts, all_scores = counted(labels, assigned, scores)
    table = pd.DataFrame({"score": all_scores} | by_score(counts))
    is_asked_for = table.score.isin(list(scores))
    return table[is_asked_for].reset_index(drop=True)


def confusion(
    labels: np.ndarray, assigned: np.ndarray, scores: Sequence[int]
) -> pd.DataFrame:
    """Tidy confusion matrix: label, assigned, photos; every pair of scores has its row."""
    counts, all_scores = counted(labels, assigned, scores)
    is_asked_for = np.isin(all_scores, list(scores))
    counts = counts[is_asked_for][:, is_asked_for]
    labels = np.repeat(scores, len(scores))
    answers = np.tile(scores, len(scores))
    return pd.DataFrame(
        {"label": labels, "assigned": answers, "photos": counts.ravel()}
    )


def measures(
    labels: np.ndarray, assigned: np.ndarray, scores: Sequence[int]
) -> dict[str, float]:
    """Measures, by name, for photos labelled `labels` (n,) and assigned `assigned` (n,).

    Those of `of_confusions`, and `spearman`, the rank correlation. A rank correlation or kappa of
    constant scores is NaN.
    """
    counts, all_scores = counted(labels, assigned, scores)
    measured = {}
    for name, value in of_confusions(counts, all_scores).items():
        measured[name] = float(value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        measured["spearman"] = stats.spearmanr(labels, assigned).statistic
    return measured


def of_confusions(counts: np.ndarray, scores: Sequence[int]) -> dict[str, np.ndarray]:
    """Measures, by name, of confusion matrices (..., labels, assigned) of photos with `scores`.

    Photos may be weighted, so that resampled photos need not be listed again. `total_f` sums F over
    all scores (RSRL). Macro means run over the scores that some label has. `majority_accuracy` is
    what always answering the commonest label would reach. `kappa` is weighted by the squared
    difference of scores. `quadratic_loss` = mean((label - assigned)^2) (SSRL-2019, our reading).
    `macro_mae` is the mean absolute error of each score, averaged over the scores.
    """
    each = by_score(counts)
    photos = each["photos"]
    assigned = each["assigned"]
    f = each["f"]
    total = photos.sum(-1)
    present = photos > 0
    right = np.trace(counts, axis1=-2, axis2=-1)

    scores = np.asarray(scores)
    distance = abs(scores[:, None] - scores)  # (labels, assigned)
    absolute_error = (counts * distance).sum(-1)  # of each label
    squared_error = (counts * distance**2).sum((-2, -1))

    # Kappa compares with as many of each answer, given to photos at random.
    pairs = photos[..., :, None] * assigned[..., None, :]
    counts_by_chance = pairs / total[..., None, None]
    error_by_chance = (counts_by_chance * distance**2).sum((-2, -1))
    error_by_chance = np.where(error_by_chance > 0, error_by_chance, np.nan)

    return {
        "accuracy": right / total,
        "majority_accuracy": photos.max(-1) / total,
        "macro_f1": _mean_where(present, f),
        "total_f": f.sum(-1),
        "balanced_accuracy": _mean_where(present, each["recall"]),
        "kappa": 1 - squared_error / error_by_chance,
        "macro_mae": _mean_where(present, _ratio(absolute_error, photos)),
        "quadratic_loss": squared_error / total,
    }


def interval_over_photos(
    counts: np.ndarray,
    scores: Sequence[int],
    *,
    level: float = 0.95,
    resamples: int = 2000,
) -> dict[str, tuple[float, float]]:
    """Interval over photos, 95 % unless another `level` is given, of each measure, from a confusion
    matrix (labels, assigned).

    Photos are drawn with replacement (percentile bootstrap); of a matrix that is a multinomial
    draw. It covers the choice of test photos alone, not that of seeds or training photos.
    """
    photos = counts.sum()
    shares = counts.ravel() / photos
    drawn = np.random.default_rng(0).multinomial(photos, shares, resamples)
    resampled = of_confusions(drawn.reshape(resamples, *counts.shape), scores)
    outside = 100 * (1 - level) / 2
    intervals = {}
    for name, values in resampled.items():
        low, high = np.nan, np.nan
        if not np.isnan(values).all():
            low, high = np.nanpercentile(values, [outside, 100 - outside])
        intervals[name] = (float(low), float(high))
    return intervals


def paired_differences(
    labels: np.ndarray,
    assigned: np.ndarray,
    baseline: np.ndarray,
    scores: Sequence[int],
    *,
    level: float = 0.95,
    resamples: int = 4000,
) -> pd.DataFrame:
    """Every measure of `of_confusions` for two answers to the same photos: a row a measure.

    Columns: `assigned`, `baseline`, their `difference`, and `low` to `high`, its interval of that
    level over photos, as `paired_interval` has it, of all measures on the same resamples. A
    resample in which a measure is undefined does not count for it. Labels and answers are among
    `scores`.
    """
    scores = np.asarray(scores)
    count = len(scores)
    node, ours, theirs = (
        np.searchsorted(scores, values) for values in (labels, assigned, baseline)
    )
    triples = (node * count + ours) * count + theirs
    kinds, photos = np.unique(triples, return_counts=True)  # photos of a kind are alike
    drawn = np.random.default_rng(0).multinomial(
        len(labels), photos / len(labels), resamples
    )
    weights = np.vstack([photos, drawn])  # the photos as they are come first
    measured = []
    for answer in (kinds // count % count, kinds % count):
        pair = kinds // count**2 * count + answer
        counts = np.zeros((len(weights), count**2))
        for kind, place in enumerate(pair):
            counts[:, place] += weights[:, kind]
        measured.append(of_confusions(counts.reshape(-1, count, count), scores))
    outside = 100 * (1 - level) / 2
    rows = {}
    for name, values in measured[0].items():
        difference = values - measured[1][name]
        low = high = np.nan
        if not np.isnan(difference[1:]).all():
            low, high = np.nanpercentile(difference[1:], [outside, 100 - outside])
        rows[name] = (values[0], measured[1][name][0], difference[0], low, high)
    columns = ["assigned", "baseline", "difference", "low", "high"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def of_majorities(per_class: pd.DataFrame, majorities: Sequence[int]) -> pd.DataFrame:
    """Mean precision, recall and F of the majority and of the minority classes (RSRL-a, RSRL-b).

    `per_class` is that of a run; classes without a photo in a part do not count there. One row for
    each round and part, columns such as `minority_recall`.
    """
    there = per_class[per_class.photos > 0]
    is_majority = there.score.isin(list(majorities))
    kind = np.where(is_majority, "majority", "minority")
    means = there.groupby(["round", "part", kind])[["precision", "recall", "f"]].mean()
    wide = means.unstack()
    wide.columns = [f"{kind}_{measure}" for measure, kind in wide.columns]
    return wide.reset_index()


def of_rare_scores(counts: np.ndarray, rare: np.ndarray) -> dict[str, np.ndarray]:
    """Measures of the scores that `rare` (scores,) marks, of confusions (..., labels, assigned).

    `rare_f1` is the mean F of those that some label has (RSRL-b reports it of all but the three
    commonest scores), `rare_by_chance` what it would be if as many of each answer were given to
    photos at random, and `rare_assigned` the share of photos that get a rare score.
    """
    each = by_score(counts)
    photos = each["photos"]
    assigned = each["assigned"]
    total = photos.sum(-1, keepdims=True)
    present = (photos > 0) & rare
    right_by_chance = photos * assigned / total
    f_by_chance = _ratio(2 * right_by_chance, photos + assigned)
    assigned_rare = (assigned * rare).sum(-1)
    return {
        "rare_f1": _mean_where(present, each["f"]),
        "rare_by_chance": _mean_where(present, f_by_chance),
        "rare_assigned": assigned_rare / total[..., 0],
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


def counted(
    labels: np.ndarray, assigned: np.ndarray, scores: Sequence[int]
) -> tuple[np.ndarray, list[int]]:
    """Confusion matrix, and the scores of its rows: `scores` and all that photos have beside."""
    all_scores = np.unique(np.concatenate([scores, labels, assigned]))
    row = np.searchsorted(all_scores, labels)
    column = np.searchsorted(all_scores, assigned)
    size = len(all_scores)
    counts = np.bincount(row * size + column, minlength=size * size)
    return counts.reshape(size, size), all_scores.tolist()


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """The ratio, and 0 where the whole is 0."""
    zeros = np.zeros(np.shape(whole))
    return np.divide(part, whole, out=zeros, where=whole > 0)


def _mean_where(chosen: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mean of the chosen values along the last axis; NaN where none is chosen."""
    total = np.where(chosen, values, 0).sum(-1)
    count = chosen.sum(-1)
    return total / np.where(count > 0, count, np.nan)


def of_parts(
    sample: pd.DataFrame, scores: Sequence[int], parts: Sequence[str]
) -> dict[str, pd.DataFrame]:
    """Measures of one round on several parts, from a table with `part`, `label` and `assigned`.

    Returned are `rounds` (one row, columns such as `test_accuracy`), and with a column `part` the
    tables `per_class` and `confusion`. A part without photos has NaN in the first and no rows in
    the others.
    """
    row = {}
    classes = []
    pairs = []
    part_of_each = sample.part.to_numpy()
    all_labels = sample.label.to_numpy(int, na_value=0)
    all_assigned = sample.assigned.to_numpy(int)
    for part in parts:
        is_in = part_of_each == part
        if not is_in.any():
            continue
        labels = all_labels[is_in]
        assigned = all_assigned[is_in]
        measured = measures(labels, assigned, scores)
        for name, value in measured.items():
            row[f"{part}_{name}"] = value
        classes.append(per_class(labels, assigned, scores).assign(part=part))
        pairs.append(confusion(labels, assigned, scores).assign(part=part))
    columns = [f"{part}_{name}" for part in parts for name in measured]
    return {
        "rounds": pd.DataFrame([row], columns=columns),
        "per_class": pd.concat(classes),
        "confusion": pd.concat(pairs),
    }


def of_attributes(
    likelihoods: pd.DataFrame, targets: pd.DataFrame, values: pd.DataFrame
) -> pd.DataFrame:
    """How well attributes are told: a row an attribute, of tables (n, attributes) of one form.

    `targets` lie in 0..1, NaN where unknown; `values` are what the user gave, maybe on another
    scale. Columns: `photos` with a known target; where each of these is 0 or 1 their `share` of 1,
    `accuracy` of a likelihood of 0.5 or more, `majority_accuracy` of always giving the commoner
    answer, and `auc`; else `mean_absolute_error`. Where the values are numbers, `spearman` is the
    rank correlation with them. What is undefined is NaN.
    """
    rows = []
    for name in targets:
        is_known = targets[name].notna()
        target = targets[name][is_known].to_numpy(float)
        said = likelihoods[name][is_known].to_numpy(float)
        row = {"attribute": name, "photos": len(target)}
        is_yes_or_no = bool(np.isin(target, (0, 1)).all())
        if len(target) and is_yes_or_no:
            row |= _of_yes_or_no(said, target)
        elif len(target):
            row["mean_absolute_error"] = float(np.abs(said - target).mean())
        value = values[name][is_known]
        if value.nunique() > 2:
            has_value = value.notna().to_numpy()
            of_value = value[has_value].to_numpy(float)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                ranks = stats.spearmanr(said[has_value], of_value)
            row["spearman"] = float(ranks.statistic)
        rows.append(row)
    return pd.DataFrame(rows, columns=ATTRIBUTE_COLUMNS)


def _of_yes_or_no(said: np.ndarray, target: np.ndarray) -> dict[str, float]:
    share = float(target.mean())
    is_said = said >= 0.5
    has_both = 0 < share < 1
    return {
        "share": share,
        "accuracy": float((is_said == (target == 1)).mean()),
        "majority_accuracy": max(share, 1 - share),
        "auc": float(metrics.roc_auc_score(target, said)) if has_both else np.nan,
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
    mask = mask.astype(bool)
    if mask.all() or not mask.any():
        marked = "all pixels" if mask.any() else "no pixel"
        raise InputError(
            f"The mask marks {marked}; give one that tells a subject from the rest."
        )
    size = mask.shape[::-1]
    map_image = Image.fromarray(map.astype(np.float32))
    region_image = Image.fromarray(region.astype(bool))
    values = np.asarray(map_image.resize(size, Image.Resampling.BILINEAR))
    inside = np.asarray(region_image.resize(size, Image.Resampling.NEAREST))

    both = (inside & mask).sum()
    either = (inside | mask).sum()
    auc = metrics.roc_auc_score(mask.ravel(), values.ravel())
    is_maximal = values == values.max()
    return {
        "iou": float(both / either),
        "auc": float(auc),
        "pointing": float(mask[is_maximal].mean()),
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
        labels_drawn = labels[index]
        of_assigned = measure(labels_drawn, assigned[index])
        of_baseline = measure(labels_drawn, baseline[index])
        return of_assigned - of_baseline

    photos = np.arange(len(labels))
    bootstrap = stats.bootstrap(
        (photos,),
        difference,
        n_resamples=resamples,
        method="percentile",
        rng=0,
        vectorized=False,
    )
    low, high = bootstrap.confidence_interval
    return difference(photos), low, high
