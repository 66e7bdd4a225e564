"""How many scored photos are enough: what a head learns from ever more of them.

The body stays as it is, so a curve takes seconds. Every photo is judged by heads that have not seen
it. Traded away: what a network would learn whose every layer moves.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from rsrl_lib.files import InputError
from rsrl_lib.heads import Frame, best_head, chosen_freedom, frame_of
from rsrl_lib.losses import joint_targets
from rsrl_lib.measures import of_confusions
from rsrl_lib.protocols import fold_of_each
from rsrl_lib.recipe import FOLDS

LEAST = 25
"""Scored photos from which on a curve is drawn."""
SMALLEST = 10
"""Photos of its first point, at the least."""
REPEATS = 3
"""How often the photos are divided anew."""
NAMES = {"accuracy": "accuracy", "macro_f1": "macro-F1", "kappa": "weighted kappa"}
MEASURES = tuple(NAMES)


@dataclass(frozen=True)
class LearningCurve:
    """What a head reaches that learned from ever more of so many `photos`."""

    table: pd.DataFrame
    """A row for each number of photos learned from and each measure: `photos`, `measure`, `mean`,
    `low`, `high`."""
    rise: dict[str, list[float]]
    """[difference, low, high] of each measure between the last two numbers of photos."""
    gain: dict[str, list[float]]
    """The same between the last number of photos and always giving the commonest score."""
    commonest: dict[str, float]
    """What always giving the commonest score reaches."""
    photos: int

    @property
    def sizes(self) -> list[int]:
        return sorted(self.table["photos"].unique().tolist())


def learning_curve(
    features: np.ndarray,
    scores: np.ndarray,
    groups: np.ndarray | None = None,
    *,
    repeats: int = REPEATS,
    resamples: int = 2000,
) -> LearningCurve:
    """The curve of photos with `features` (n, width) and `scores` (n,), cross-validated.

    Photos of one of the `groups` (n,), as copies of a file, are judged by heads that saw none of
    them. There are five folds, divided `repeats` times. Of the other folds' photos the first ones
    of a random order are learned from: half as many at each step down. Intervals (95 %) are over
    photos, the same resampled ones at each point. Raises `InputError` for fewer than `LEAST`
    photos, or one score.
    """
    check_enough(scores)
    levels = np.unique(scores)
    sizes = sizes_of(len(scores))
    assigned = np.empty((repeats, len(sizes) + 1, len(scores)), int)
    for repeat in range(repeats):
        for test, train in _divided(scores, groups, repeat):
            learner = _Learner(features, scores, groups, train)
            for i, size in enumerate(sizes):
                assigned[repeat, i, test] = learner.answers(train[:size], test)
            values, counts = np.unique(scores[train], return_counts=True)
            assigned[repeat, -1, test] = values[counts.argmax()]
    return _judged(assigned, scores, levels, sizes, resamples)


def check_enough(scores: np.ndarray) -> None:
    """`InputError` where no curve can be drawn of photos with these scores (n,)."""
    different = len(np.unique(scores))
    if len(scores) < LEAST or different < 2:
        raise InputError(
            f"A learning curve needs {LEAST} scored photos with two scores or more, there are "
            f"{len(scores)} with {different}; score more photos first."
        )


def sizes_of(photos: int) -> list[int]:
    """Numbers of photos to learn from, halved from all but a fold.

    >>> sizes_of(100)
    [10, 20, 40, 80]
    """
    size = photos - -(-photos // FOLDS)
    sizes = [size]
    while size // 2 >= SMALLEST:
        size //= 2
        sizes.append(size)
    return sizes[::-1]


def _divided(
    scores: np.ndarray, groups: np.ndarray | None, repeat: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Positions of the photos of each fold, and of all others in a random order."""
    folds = fold_of_each(scores, groups, seed=repeat)
    rng = np.random.default_rng(repeat)
    for fold in np.unique(folds):
        test = np.flatnonzero(folds == fold)
        yield test, rng.permutation(np.flatnonzero(folds != fold))


class _Learner:
    """Heads for the training photos of a fold. How free their weights are is chosen once, by all
    of these photos, each judged by heads that have not seen it."""

    def __init__(
        self,
        features: np.ndarray,
        scores: np.ndarray,
        groups: np.ndarray | None,
        train: np.ndarray,
    ):
        self.features = features
        self.scores = scores
        self.frame: Frame = frame_of(features[train])
        levels, nodes = np.unique(scores[train], return_inverse=True)
        of_train = None if groups is None else groups[train]
        self.freedom = chosen_freedom(
            features[train],
            _targets(nodes),
            fold_of_each(scores[train], of_train, folds=3),
            self.frame,
            levels=len(levels),
        )

    def answers(self, rows: np.ndarray, test: np.ndarray) -> np.ndarray:
        """Score of each photo of `test` by the best head for those at `rows`."""
        levels, nodes = np.unique(self.scores[rows], return_inverse=True)
        if len(levels) == 1:
            return np.full(len(test), levels[0])
        weights, biases, _ = best_head(
            self.features[rows],
            _targets(nodes),
            self.frame,
            levels=len(levels),
            freedom=self.freedom,
            slope=1e-4,
        )
        seen = torch.tensor(self.features[test], dtype=torch.float64)
        logits = seen @ weights.T + biases
        return levels[logits.argmax(1).numpy()]


def _targets(nodes: np.ndarray) -> torch.Tensor:
    everything = np.ones(len(nodes))
    return joint_targets(torch.from_numpy(nodes), everything, np.empty((len(nodes), 0)))


def _judged(
    assigned: np.ndarray,
    scores: np.ndarray,
    levels: np.ndarray,
    sizes: list[int],
    resamples: int,
) -> LearningCurve:
    """The curve of answers (repeats, sizes + 1, n), of which the last are the commonest score's."""
    count = len(scores)
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(count, np.full(count, 1 / count), resamples)
    weights = np.concatenate([np.ones((1, count)), drawn])  # all photos, then resampled
    label = np.searchsorted(levels, scores)
    of_points = []
    for answers in np.moveaxis(assigned, 1, 0):
        of_repeats = [
            _measured(weights, label, np.searchsorted(levels, of_repeat), levels)
            for of_repeat in answers
        ]
        of_points.append(np.mean(of_repeats, 0))
    values = np.array(of_points)  # (sizes + 1, measures, 1 + resamples)

    rows = []
    for size, of_size in zip(sizes, values, strict=False):
        for measure, each in zip(MEASURES, of_size, strict=True):
            mean, low, high = _interval(each)
            rows.append((size, measure, mean, low, high))
    table = pd.DataFrame(rows, columns=["photos", "measure", "mean", "low", "high"])
    rise = {}
    gain = {}
    for i, measure in enumerate(MEASURES):
        gain[measure] = _interval(values[-2, i] - values[-1, i])
        if len(sizes) > 1:
            rise[measure] = _interval(values[-2, i] - values[-3, i])
    commonest = dict(zip(MEASURES, values[-1, :, 0].tolist(), strict=True))
    return LearningCurve(table, rise, gain, commonest, count)


def _measured(
    weights: np.ndarray, label: np.ndarray, assigned: np.ndarray, levels: np.ndarray
) -> np.ndarray:
    """Measures (measures, draws) of photos that count as `weights` (draws, n) say."""
    size = len(levels)
    cells = np.zeros((len(label), size * size))
    cells[np.arange(len(label)), label * size + assigned] = 1
    counts = (weights @ cells).reshape(-1, size, size)
    measured = of_confusions(counts, levels)
    # Kappa of scores that are all alike is not defined: they tell nothing.
    return np.nan_to_num(np.array([measured[name] for name in MEASURES]))


def _interval(values: np.ndarray) -> list[float]:
    """The value of all photos, and the 95 % interval over the resampled ones."""
    low, high = np.percentile(values[1:], [2.5, 97.5])
    return [float(values[0]), float(low), float(high)]


def in_words(curve: LearningCurve) -> list[str]:
    """What a curve says, and whether more photos would help."""
    of_last = curve.table[curve.table["photos"] == curve.sizes[-1]]
    last = of_last.set_index("measure")
    told = []
    for measure, name in NAMES.items():
        mean, low, high = last.loc[measure, ["mean", "low", "high"]]
        alone = _two_digits(curve.commonest[measure])
        told.append(
            f"{name} {_two_digits(mean)} [{_two_digits(low)}, {_two_digits(high)}] ({alone})"
        )
    sentences = [
        f"The head of a frozen network learned from {curve.sizes[-1]} of {curve.photos} photos. On "
        "photos that it has not seen it reaches (in brackets: always giving the commonest score): "
        f"{', '.join(told)}.",
        _beats_the_commonest(*curve.gain["macro_f1"]),
    ]
    if curve.rise:
        return [*sentences, _more_helps(curve)]
    return [*sentences, "There are too few photos to tell whether more would help."]


def _beats_the_commonest(_difference: float, low: float, high: float) -> str:
    if low > 0:
        return "By macro-F1 it beats always giving the commonest score."
    if high < 0:
        return "By macro-F1 it is worse than always giving the commonest score."
    return "Whether it beats always giving the commonest score cannot be told."


def _more_helps(curve: LearningCurve) -> str:
    """How macro-F1 changed between the last two numbers of photos, and what follows."""
    difference, low, high = curve.rise["macro_f1"]
    moved = "rose" if difference >= 0 else "fell"
    if abs(difference) < 0.005:
        moved = "changed"
    if low > 0:
        verdict = "More photos still help"
    elif high < 0:
        verdict = "More photos did not help"
    else:
        verdict = "Whether more photos still help cannot be told"
    return (
        f"From {curve.sizes[-2]} to {curve.sizes[-1]} photos macro-F1 {moved} by "
        f"{_two_digits(abs(difference))} [{low:+.2f}, {high:+.2f}]. "
        f"{verdict}."
    )


def _two_digits(value: float) -> str:
    """Without a minus before a zero."""
    return f"{round(value, 2) + 0.0:.2f}"
