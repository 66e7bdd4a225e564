"""How well a rater agrees with herself, and raters with one another: a yardstick for accuracies.

Two scores of one photo are the same by chance, too, so kappa stands beside the shares. Intervals
are over photos. Traded away: that a rater may remember a photo, which makes her look steadier.
"""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from rsrl_lib.measures import of_confusions
from rsrl_lib.ratings import (
    Key,
    first_and_repeat,
    is_log,
    log_of,
    raters_of,
    read_log,
    scores_by_photo,
)

LEAST = 20
"""Photos from which on agreement is told."""
Z = 1.959963984540054
"""Of the normal distribution, for 95 %."""
MEASURES = ("exact", "within_one", "kappa")
NOT_A_CEILING = (
    "It is no ceiling: a network may agree with the rater more often than she does."
)


def beside(scores: Path) -> dict | None:
    """What `of_log` says of the log beside a table of scores; None where there is no log.

    Raises `InputError` where it is damaged.
    """
    log = log_of(Path(scores))
    return of_log(read_log(log)) if is_log(log) else None


def of_log(keys: Sequence[Key]) -> dict:
    """The agreement of all raters with themselves, and with one another where there are several.

    `repeats` photos came back hidden. `exact`, `within_one` and `kappa` are [value, low, high], or
    None below `LEAST`; `between` holds the same of the `photos` with scores of several raters.
    """
    pairs = np.array(first_and_repeat(keys), int).reshape(-1, 2)
    told = {"repeats": len(pairs)} | agreement(pairs)
    raters = raters_of(keys)
    if len(raters) > 1:
        pairs, photos = _between(keys)
        told["raters"] = len(raters)
        told["between"] = {"photos": len(np.unique(photos))} | agreement(pairs, photos)
    return told


def _between(keys: Sequence[Key]) -> tuple[np.ndarray, np.ndarray]:
    """Scores (n, 2) of the same photo by two raters, for any two, and the number of each photo."""
    pairs = []
    photos = []
    for number, of_raters in enumerate(scores_by_photo(keys).values()):
        for one, other in combinations(sorted(of_raters), 2):
            pairs.append((of_raters[one], of_raters[other]))
            photos.append(number)
    return np.array(pairs, int).reshape(-1, 2), np.array(photos, int)


def agreement(
    pairs: np.ndarray, photos: np.ndarray | None = None, *, resamples: int = 2000
) -> dict[str, list[float] | None]:
    """`exact`, `within_one` and quadratically weighted `kappa` of pairs of scores (n, 2).

    Each is [value, low, high] with its 95 % interval over photos; None of fewer than `LEAST`, and a
    kappa where all scores are alike. `photos` (n,) says which photo a pair is of, where some have
    several pairs. Shares have Wilson's interval, which has a width where all agree. A bootstrap
    over photos has none there, for it knows of no other pairs; so kappa's is widened downwards to
    what it would be with as few exact pairs as Wilson allows, the others lying one score apart.
    """
    if photos is None:
        photos = np.arange(len(pairs))
    _, photo_of_pair = np.unique(photos, return_inverse=True)
    count = len(np.unique(photos))
    if count < LEAST:
        return dict.fromkeys(MEASURES)
    apart = abs(pairs[:, 0] - pairs[:, 1])
    exact = _wilson(_mean_of_photos(apart == 0, photo_of_pair), count)
    within_one = _wilson(_mean_of_photos(apart <= 1, photo_of_pair), count)

    scores = np.arange(pairs.min(), pairs.max() + 1)
    cells = np.zeros((len(pairs), len(scores), len(scores)))
    first, second = (pairs - scores[0]).T
    cells[np.arange(len(pairs)), first, second] = 1
    drawn = np.random.default_rng(0).multinomial(
        count, np.full(count, 1 / count), resamples
    )
    everything = np.ones((1, count), int)
    weights = np.concatenate([everything, drawn])[:, photo_of_pair]  # (1 + drawn, n)
    counts = np.tensordot(weights.astype(float), cells, 1)
    kappas = of_confusions(counts, scores)["kappa"]
    told = {"exact": exact, "within_one": within_one, "kappa": None}
    value, resampled = float(kappas[0]), kappas[1:]
    if np.isfinite(value):
        low, high = np.nanpercentile(resampled, [2.5, 97.5])
        by_chance = _squares_by_chance(counts[0], scores)
        least = 1 - (1 - exact[1]) / by_chance
        told["kappa"] = [value, min(float(low), least), float(high)]
    return told


def _mean_of_photos(values: np.ndarray, photo_of_pair: np.ndarray) -> float:
    """Mean over photos of the mean over each one's pairs."""
    pairs = np.bincount(photo_of_pair)
    return float((np.bincount(photo_of_pair, values) / pairs).mean())


def _wilson(share: float, count: int) -> list[float]:
    """A share of `count` photos with Wilson's 95 % interval (1927)."""
    shrink = 1 + Z**2 / count
    centre = (share + Z**2 / (2 * count)) / shrink
    half = Z / shrink * np.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    low = min(share, max(0.0, centre - half))
    high = max(share, min(1.0, centre + half))
    return [share, float(low), float(high)]


def _squares_by_chance(counts: np.ndarray, scores: np.ndarray) -> float:
    """Mean squared difference of two scores that have nothing to do with one another."""
    first = counts.sum(1) / counts.sum()
    second = counts.sum(0) / counts.sum()
    return float(first @ (scores[:, None] - scores) ** 2 @ second)


def in_words(told: dict | None) -> list[str]:
    """What `of_log` says, in sentences; none where there is no log."""
    if told is None:
        return []
    repeats = told["repeats"]
    if repeats < LEAST:
        sentences = [
            f"How well the rater repeats a score cannot be told yet: {repeats} photos came back to "
            f"be scored again, {LEAST} are needed."
        ]
    else:
        sentences = [
            f"{repeats} photos came back unannounced to be scored again. The rater gave "
            f"{_shares(told)}."
        ]
    between = told.get("between")
    if between and between["photos"] < LEAST:
        sentences.append(
            f"How well the {told['raters']} raters agree cannot be told yet: {between['photos']} "
            f"photos have two scores, {LEAST} are needed."
        )
    elif between:
        sentences.append(
            f"{between['photos']} photos were scored by two raters or more. They gave "
            f"{_shares(between)}."
        )
    is_told = repeats >= LEAST or (between and between["photos"] >= LEAST)
    if is_told:
        sentences.append(f"Read every accuracy beside this. {NOT_A_CEILING}")
    return sentences


def _shares(told: dict) -> str:
    words = (
        f"the same score to {_percent(told['exact'])} of them, and one within one score to "
        f"{_percent(told['within_one'])}"
    )
    if told["kappa"] is None:
        return f"{words}; kappa is not defined, as all these scores are alike"
    value, low, high = told["kappa"]
    return f"{words}; weighted kappa is {value:.2f} [{low:.2f}, {high:.2f}]"


def _percent(value_low_high: Sequence[float]) -> str:
    value, low, high = value_low_high
    return f"{value:.0%} [{low:.0%}, {high:.0%}]"
