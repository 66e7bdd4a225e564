"""Which training photos the next round leaves out (RSRL eq. 1-3, SSRL-2019 eq. 1-3).

Let max1, max2, max3 be the three largest classes of the original training set. A photo labelled
with one of them is dropped when its likelihood falls below K1, K2 or K3; photos of other classes
never are. The decision reads all original training photos anew each time, so a photo can return.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rsrl_lib.files import InputError
from rsrl_lib.settings import check


@dataclass(frozen=True)
class DropRule:
    """The papers' two rules, and where their thresholds K come from."""

    rule: Literal["own-class", "top-class"] = "own-class"
    """Likelihood read: of the photo's own class (RSRL-a, -b), or of max1 for all (SSRL-2019)."""
    k: tuple[float, ...] | None = None
    """K1 K2 K3 (own-class), K1 K2 (top-class), or one K for all; 0.9 if nothing else is given."""
    k_schedule: Literal["rsrl-b"] | None = None
    """RSRL-b: 0.90 for the decision after round 1, 0.95 from the one after round 2 on."""
    keep_share: float | None = None
    """Fit one K so that this share of the original photos is kept (SSRL-2019: 0.667)."""
    min_per_class: int = 8
    """This many most likely photos of a majority class always stay; 0 is the literal rule."""

    def __post_init__(self):
        check(self, min_per_class=0)
        given = [n for n in ("k", "k_schedule", "keep_share") if getattr(self, n) is not None]
        if len(given) > 1:
            raise InputError(f"{' and '.join(given)} exclude each other; give one of them.")
        count = 3 if self.rule == "own-class" else 2
        if self.k is not None and len(self.k) not in (1, count):
            raise InputError(f"{self.rule} needs 1 or {count} values of k, not {len(self.k)}.")
        for name, values in (("k", self.k or ()), ("keep_share", (self.keep_share or 0.5,))):
            if not all(0 <= value <= 1 for value in values):
                raise InputError(f"{name} must lie in 0..1, not {values}.")


@dataclass(frozen=True)
class Decision:
    """Photos kept for the next round (n,), how many were rescued, and the K of each majority."""

    kept: np.ndarray
    rescued: int
    thresholds: tuple[float, ...]


def largest_classes(labels: np.ndarray) -> list[int]:
    """Scores of the three largest classes, largest first; of equally large ones the lower score.

    >>> largest_classes(np.array([5, 4, 4, 3, 3, 6]))
    [3, 4, 5]
    """
    scores, sizes = np.unique(labels, return_counts=True)
    return scores[np.argsort(-sizes, kind="stable")][:3].tolist()


def decide(
    rule: DropRule, labels: np.ndarray, own: np.ndarray, top: np.ndarray, *, after_round: int
) -> Decision:
    """Apply a rule to all original training photos after a round.

    `labels` (n,) are their scores, `own` (n,) the likelihoods of their own class, `top` (n,) those
    of max1. With fewer than three classes the rule uses those there are. Raises `InputError` when
    nothing is left to train on.
    """
    majorities = largest_classes(labels)
    likelihood = own if rule.rule == "own-class" else top
    thresholds = _thresholds(rule, labels, likelihood, majorities, after_round)
    kept, rescued = np.ones(len(labels), bool), 0
    for score, threshold in zip(majorities, thresholds, strict=True):
        members = np.flatnonzero(labels == score)
        stay = likelihood[members] >= threshold
        if stay.sum() < rule.min_per_class:
            best = np.argsort(-likelihood[members], kind="stable")[: rule.min_per_class]
            rescued += int((~stay[best]).sum())
            stay[best] = True
        kept[members] = stay
    if not kept.any():
        raise InputError(
            f"After round {after_round} every photo fell below K = {thresholds}; lower k, or give "
            "min_per_class above 0."
        )
    return Decision(kept, rescued, thresholds)


def _thresholds(
    rule: DropRule,
    labels: np.ndarray,
    likelihood: np.ndarray,
    majorities: Sequence[int],
    after_round: int,
) -> tuple[float, ...]:
    if rule.keep_share is not None:
        pool = np.sort(likelihood[np.isin(labels, majorities)])[::-1]
        others = len(labels) - len(pool)
        stay = round(rule.keep_share * len(labels)) - others
        if stay < 0:
            raise InputError(
                f"keep_share {rule.keep_share} cannot be reached: the scores outside the "
                f"{len(majorities)} largest classes hold {others / len(labels):.0%} of the photos "
                "and are never dropped; raise it."
            )
        fitted = pool[min(max(stay, 1), len(pool)) - 1]
        return (float(fitted),) * len(majorities)
    if rule.k_schedule == "rsrl-b":
        return ((0.90 if after_round < 2 else 0.95),) * len(majorities)
    k = rule.k or (0.9,)
    if len(k) == 1:
        k = k * 3
    elif rule.rule == "top-class":
        k = (k[0], k[1], k[1])
    return tuple(k[: len(majorities)])
