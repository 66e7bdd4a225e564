"""Which training photos the next round leaves out (RSRL eq. 1-3, SSRL-2019 eq. 1-3).

Let max1, max2, max3 be the three largest classes of the original training set. A photo labelled
with one of them is dropped when its likelihood falls below K1, K2 or K3; photos of other classes
never are. The decision reads all original training photos anew each time, so a photo can return.

Likelihoods are sigmoids of logits, and as float32 they are all 1 above a logit of about 17. So
photos are ranked, and compared with K, by their logits; K is given and told as a likelihood.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from rsrl_lib.files import InputError
from rsrl_lib.settings import check

THRESHOLDS = ("k", "k_rounds", "keep_share")
"""Settings of a rule that say where its thresholds come from; one of them is given."""
KEEP_SHARE = 0.667
"""Of all photos stay where nothing is said of K: SSRL-2019's "about two thirds"."""
LEAST_SHARE = 0.5
"""Of the photos of the three largest classes stay then, where other scores hold the most."""


@dataclass(frozen=True)
class DropRule:
    """The papers' two rules, and where their thresholds K come from."""

    rule: Literal["own-class", "top-class"] = "own-class"
    """Likelihood read: of the photo's own class (RSRL-a, -b), or of max1 for all (SSRL-2019)."""
    k: tuple[float, ...] | None = None
    """K1 K2 K3 (own-class), K1 K2 (top-class), or one K for all."""
    k_rounds: tuple[float, ...] | None = None
    """One K for all, decision by decision: the first after round 1, and the last one stays. RSRL-b:
    0.9 0.9 0.95, or 0.9 0.95, as its "after the 2th round" may be read either way."""
    keep_share: float | None = None
    """Fit one K so that this share of the original photos is kept (SSRL-2019: 0.667). If you say
    nothing of K, it is 0.667, or more where the smaller classes hold most of the photos."""
    k_within: tuple[float, float] | None = None
    """Bounds of the fitted K (SSRL-2019: 0.85 0.95), which then may keep another share."""
    judges: Literal["own", "cross-fitted"] = "own"
    """Whose likelihoods decide: those of the network that was trained on the photos (the papers),
    or of five heads, each of which has not seen the photos that it judges (tune='head')."""
    min_per_class: int = 8
    """This many most likely photos of a majority class always stay; 0 is the literal rule."""

    def __post_init__(self):
        check(self, min_per_class=0)
        given = [name for name in THRESHOLDS if getattr(self, name) is not None]
        if len(given) > 1:
            named = " and ".join(given)
            raise InputError(f"{named} exclude each other; give one of them.")
        if self.k is not None:
            count = 3 if self.rule == "own-class" else 2
            if len(self.k) not in (1, count):
                raise InputError(
                    f"{self.rule} needs 1 or {count} values of k, not {len(self.k)}."
                )
            _check_shares("k", self.k)
        if self.k_rounds is not None:
            if not self.k_rounds:
                raise InputError("k_rounds needs a K or more, it is empty.")
            _check_shares("k_rounds", self.k_rounds)
        if self.keep_share is not None:
            _check_shares("keep_share", (self.keep_share,))
        if self.k_within is not None:
            _check_shares("k_within", self.k_within)
            low, high = self.k_within
            if low > high:
                raise InputError(
                    f"k_within must be a lower and a higher K, not {self.k_within}."
                )
            if self.keep_share is None:
                raise InputError(
                    "k_within bounds the K that keep_share fits; give keep_share too, or leave "
                    "it out."
                )


def says_nothing_of_k(rule: DropRule) -> bool:
    """Whether a rule leaves open where its thresholds come from."""
    return all(getattr(rule, name) is None for name in THRESHOLDS)


def with_threshold(rule: DropRule, labels: np.ndarray) -> DropRule:
    """The rule, and where it says nothing of K, with a share to keep of photos `labels` (n,).

    It is `KEEP_SHARE`, or as much more as `LEAST_SHARE` of the three largest classes needs.
    """
    if not says_nothing_of_k(rule):
        return rule
    majorities = largest_classes(labels)
    of_majorities = np.isin(labels, majorities).mean()
    least = 1 - (1 - LEAST_SHARE) * of_majorities
    least_of_three_digits = math.ceil(1000 * least) / 1000
    return replace(rule, keep_share=max(KEEP_SHARE, least_of_three_digits))


def _check_shares(name: str, values: tuple[float, ...]) -> None:
    are_shares = all(0 <= value <= 1 for value in values)
    if not are_shares:
        raise InputError(f"{name} must lie in 0..1, not {values}.")


@dataclass(frozen=True)
class Decision:
    """Photos kept for the next round (n,), how many were rescued, and the K of each majority, as
    likelihoods and as logits (of a fitted K the exact ones: a likelihood near 1 may round to 1)."""

    kept: np.ndarray
    rescued: int
    thresholds: tuple[float, ...]
    logit_thresholds: tuple[float, ...] = ()
    logits: np.ndarray | None = None
    """(n,) that were compared with K; None where no K decided."""
    is_rescued: np.ndarray | None = None
    """(n,) whether a photo is below K and stays as one of the likeliest of its score."""


def largest_classes(labels: np.ndarray) -> list[int]:
    """Scores of the three largest classes, largest first; of equally large ones the lower score.

    >>> largest_classes(np.array([5, 4, 4, 3, 3, 6]))
    [3, 4, 5]
    """
    scores, sizes = np.unique(labels, return_counts=True)
    largest_first = np.argsort(-sizes, kind="stable")
    return scores[largest_first][:3].tolist()


def decide(
    rule: DropRule,
    labels: np.ndarray,
    own: np.ndarray,
    top: np.ndarray,
    *,
    after_round: int,
) -> Decision:
    """Apply a rule to all original training photos after a round.

    `labels` (n,) are their scores, `own` (n,) the logits of their own class, `top` (n,) those of
    max1; not likelihoods. With fewer than three classes the rule uses those there are. Raises
    `InputError` when nothing is left to train on.
    """
    # Slow to import, and help needs the rule's settings alone.
    from scipy.special import expit, logit

    rule = with_threshold(rule, labels)
    logits = own if rule.rule == "own-class" else top
    logits = np.asarray(logits, np.float64)
    majorities = largest_classes(labels)  # max1, max2, max3
    if rule.keep_share is not None:
        fitted = _fitted(rule, labels, logits, majorities)
        logit_thresholds = (fitted,) * len(majorities)
        thresholds = (float(expit(fitted)),) * len(majorities)
    else:
        thresholds = _given(rule, len(majorities), after_round)
        # Minus infinity keeps all, infinity none.
        logit_thresholds = tuple(float(logit(k)) for k in thresholds)

    kept = np.ones(len(labels), bool)
    is_rescued = np.zeros(len(labels), bool)
    for majority, logit_k in zip(majorities, logit_thresholds, strict=True):
        members = np.flatnonzero(labels == majority)
        is_above = logits[members] >= logit_k
        stays = is_above.copy()
        if stays.sum() < rule.min_per_class:
            most_likely_first = np.argsort(-logits[members], kind="stable")
            most_likely = most_likely_first[: rule.min_per_class]
            stays[most_likely] = True
        kept[members] = stays
        is_rescued[members] = stays & ~is_above
    if not kept.any():
        raise InputError(
            f"After round {after_round} every photo fell below K = {thresholds}; lower k, or give "
            "min_per_class above 0."
        )
    rescued = int(is_rescued.sum())
    return Decision(kept, rescued, thresholds, logit_thresholds, logits, is_rescued)


def _fitted(
    rule: DropRule, labels: np.ndarray, logits: np.ndarray, majorities: Sequence[int]
) -> float:
    """The logit from which on photos of the majorities stay, so that the asked share of all does,
    or as near to that as the bounds of K allow."""
    from scipy.special import logit

    share = rule.keep_share
    photos = len(labels)
    of_majorities = logits[np.isin(labels, majorities)]
    largest_first = np.sort(of_majorities)[::-1]
    others = photos - len(of_majorities)
    stay = round(share * photos) - others
    if stay < 0 and rule.k_within is None:
        raise InputError(
            f"keep_share {share} cannot be reached: the scores outside the {len(majorities)} "
            f"largest classes hold {others / photos:.0%} of the photos and are never "
            "dropped; raise it."
        )
    stay = min(max(stay, 1), len(of_majorities))
    fitted = float(largest_first[stay - 1])
    if rule.k_within is None:
        return fitted
    low, high = rule.k_within
    return float(np.clip(fitted, logit(low), logit(high)))


def _given(rule: DropRule, majorities: int, after_round: int) -> tuple[float, ...]:
    """K of each of the majorities, as likelihoods, where it is not fitted."""
    if rule.k_rounds is not None:
        decision = min(after_round, len(rule.k_rounds)) - 1
        return (rule.k_rounds[decision],) * majorities
    k = rule.k
    if len(k) == 1:
        k = k * 3
    elif rule.rule == "top-class":
        k1, k2 = k
        k = (k1, k2, k2)
    return tuple(k[:majorities])
