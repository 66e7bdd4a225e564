"""Did it work on these photos? One recommendation from numbers, by a rule that was set beforehand.

The rule, which was written before any result was looked at:

1. Up to three questions are asked of the test photos. Has the run learned anything: does its kappa
   lie above 0, which a constant or a random answer has? Is it better than the same run that drops
   nothing? Is it better than the best head on a network that was not trained?
2. The last two are decided by one measure, macro-F1, as every score counts alike in it. Scores with
   fewer than five test photos are counted with their neighbour: one photo would decide too much,
   and resampling would not show it. All other measures are shown and decide nothing.
3. Each question is answered by an interval over test photos of the level 1 - 0.05 / 3, as three
   are asked (Bonferroni), so that all answers together hold in 95 of 100 cases. An interval that
   reaches 0 says nothing.
4. Below 30 test photos nothing is recommended: a resampled interval is too narrow there.
5. What is recommended is the first of these that holds.
   - Nothing was learned for sure: no recommendation, and how small an effect could not be seen.
   - The untrained network's head is better for sure: take it.
   - The run that drops nothing is better for sure: train without dropping.
   - The run is better for sure than the one that drops nothing: take the run.
   - Nothing was dropped, and the run is better than the head for sure, or is that head: take it.
   - Otherwise it cannot be told, and it is said how large a difference would have been seen.

An interval covers the choice of test photos, not another training or another division.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rsrl_lib.measures import (
    confusion,
    interval_over_photos,
    of_confusions,
    paired_differences,
)
from rsrl_lib.protocols import merge_rare

QUESTIONS = 3
LEVEL = 1 - 0.05 / QUESTIONS
FEWEST = 30
"""Test photos below which nothing is recommended."""
FEWEST_OF_A_SCORE = 5
"""Test photos of a score below which it is counted with its neighbour."""

Outcome = Literal["better", "worse", "undecided"]
Kind = Literal["run", "keep_all", "frozen", "unknown"]


@dataclass(frozen=True)
class Estimate:
    """A number and its interval, of level `LEVEL`."""

    value: float
    low: float
    high: float

    @property
    def outcome(self) -> Outcome:
        """On which side of 0 the whole interval lies."""
        if self.low > 0:
            return "better"
        if self.high < 0:
            return "worse"
        return "undecided"

    @property
    def reach(self) -> float:
        """Half of the interval: about the smallest effect that could have been seen."""
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Evidence:
    """What the recommendation rests on."""

    photos: int
    """That test."""
    kappa: Estimate
    against_keep_all: Estimate | None
    """Macro-F1 of the run less that of one that drops nothing; None where it is not known."""
    against_frozen: Estimate | None
    """The same, less that of the best head on the untrained network."""
    drops: bool
    """Whether the run drops photos at all."""
    is_frozen: bool = False
    """Whether the run trains the head alone, so that without dropping it is that head."""
    tests_all: bool = False
    """Whether each photo tests already, in one of the folds."""
    merged: Mapping[int, int] | None = None
    """Scores that were counted with another one, as they have too few test photos."""


@dataclass(frozen=True)
class Recommendation:
    """What to do, in a sentence, and why."""

    kind: Kind
    headline: str
    reasons: list[str]


def evidence(
    labels: np.ndarray,
    assigned: np.ndarray,
    others: Mapping[str, np.ndarray],
    scores: list[int],
    *,
    drops: bool,
    is_frozen: bool = False,
    tests_all: bool = False,
) -> Evidence:
    """Ask the test photos (n,): `others` are the answers by 'keep_all' and 'frozen', where known.

    Of a run that trains the head alone 'keep_all' stands for both.
    """
    counts = confusion(labels, assigned, scores).photos.to_numpy()
    square = counts.reshape(len(scores), len(scores))
    low, high = interval_over_photos(square, scores, level=LEVEL)["kappa"]
    kappa = float(of_confusions(square, scores)["kappa"])
    merged_labels, merged = merge_rare(labels, least=FEWEST_OF_A_SCORE)
    against = {}
    for name, answers in others.items():
        difference = paired_differences(
            merged_labels,
            _merged(assigned, merged),
            _merged(answers, merged),
            scores,
            level=LEVEL,
        ).loc["macro_f1"]
        against[name] = Estimate(
            float(difference.difference), float(difference.low), float(difference.high)
        )
    return Evidence(
        photos=len(labels),
        kappa=Estimate(kappa, low, high),
        against_keep_all=against.get("keep_all") if drops else None,
        against_frozen=None if is_frozen else against.get("frozen"),
        drops=drops,
        is_frozen=is_frozen,
        tests_all=tests_all,
        merged=merged,
    )


def _merged(answers: np.ndarray, merged: Mapping[int, int]) -> np.ndarray:
    """Answers, those of scores that are counted with another one as that."""
    return np.array([merged.get(int(answer), int(answer)) for answer in answers])


def recommended(found: Evidence) -> Recommendation:
    """What the rule above recommends."""
    if found.photos < FEWEST:
        return Recommendation(
            "unknown",
            f"Whether it worked cannot be told from so few photos: {found.photos} test, and "
            f"{FEWEST} are the least.",
            [_more_photos(found)],
        )
    if found.kappa.outcome != "better":
        return _not_learned(found)
    reasons = [
        f"It has learned something of your scores: kappa is {_with_interval(found.kappa)}, and 0 "
        "is chance.",
        *_comparisons(found),
    ]
    if found.against_frozen is not None and found.against_frozen.outcome == "worse":
        headline = (
            "Take the frozen head (--tune head --k 0): training the whole network, as this run "
            "does, made the answers worse."
        )
        return Recommendation("frozen", headline, reasons)
    against_keep_all = found.against_keep_all
    if against_keep_all is not None and against_keep_all.outcome != "undecided":
        if against_keep_all.outcome == "worse":
            headline = (
                "Train without dropping (--k 0): dropping made the answers worse."
            )
            return Recommendation("keep_all", headline, reasons)
        headline = (
            "Take this run: it is better than the same one that keeps all photos."
        )
        return Recommendation("run", headline, reasons)
    if not found.drops and _is_best_of_plain(found):
        return Recommendation("run", "Take this run.", reasons)
    return _undecided(found, reasons)


def _more_photos(found: Evidence) -> str:
    """What would tell more."""
    if found.tests_all:
        return "All photos test already; score more of them to tell more."
    return (
        "More test photos tell more: score more photos, or let each one test in turn "
        "(--folds all)."
    )


def _is_best_of_plain(found: Evidence) -> bool:
    """Whether a run that drops nothing is the frozen head, or better than it."""
    against = found.against_frozen
    return found.is_frozen or (against is not None and against.outcome == "better")


def _not_learned(found: Evidence) -> Recommendation:
    kappa = found.kappa
    is_constant = np.isnan(kappa.value) or kappa.reach == 0
    if is_constant:
        return Recommendation(
            "unknown",
            f"It has learned nothing that shows: all {found.photos} test photos get the same "
            "score.",
            ["Train it longer, by more rounds or --epochs, or score more photos."],
        )
    unseen = (
        f" (a kappa below about {kappa.reach:.2f} cannot be seen with {found.photos} "
        "test photos)"
    )
    return Recommendation(
        "unknown",
        f"Whether it learned anything cannot be told from so few photos{unseen}. Do not trust its "
        "scores yet.",
        [f"Kappa is {_with_interval(kappa)}, and 0 is chance.", _more_photos(found)],
    )


def _comparisons(found: Evidence) -> list[str]:
    """What the two differences of macro-F1 say, in sentences."""
    sentences = []
    named = (
        ("keeping all photos", found.against_keep_all),
        ("the frozen head", found.against_frozen),
    )
    for name, estimate in named:
        if estimate is None:
            continue
        verdict = {
            "better": f"better than {name}",
            "worse": f"worse than {name}",
            "undecided": f"neither better nor worse than {name}, as far as these photos tell",
        }[estimate.outcome]
        sentences.append(
            f"It is {verdict}: macro-F1 differs by {_with_interval(estimate, sign='+')}."
        )
    if found.merged and sentences:
        each = [f"{score} with {label}" for score, label in found.merged.items()]
        sentences.append(
            f"For this, scores with fewer than {FEWEST_OF_A_SCORE} test photos are counted with "
            f"their neighbour: {', '.join(each)}."
        )
    return sentences


def _undecided(found: Evidence, reasons: list[str]) -> Recommendation:
    """Which question stays open, and how large a difference would have been seen."""
    what, estimate = "dropping helps", found.against_keep_all
    if not found.drops:
        what, estimate = "training beyond the head helps", found.against_frozen
    if estimate is None:
        missing = "it was not compared with one that keeps all photos"
        if not found.drops:
            missing = "it was not compared with the frozen head"
        return Recommendation(
            "unknown",
            f"It works, but whether {what} is not known: {missing}.",
            reasons,
        )
    headline = (
        f"Whether {what} cannot be told from so few photos: a difference of macro-F1 below about "
        f"{estimate.reach:.2f} cannot be seen with {found.photos} test photos."
    )
    advice = (
        "Until more photos tell, take what is simplest and fastest: --tune head --k 0."
    )
    is_better = found.against_frozen is not None and (
        found.against_frozen.outcome == "better"
    )
    if found.is_frozen:
        advice = "Until more photos tell, take what is simplest: drop nothing (--k 0)."
    elif found.drops and is_better:
        advice = (
            "Training the whole network was worth it. Until more photos tell, take what is "
            "simplest: drop nothing (--k 0)."
        )
    return Recommendation("unknown", headline, [*reasons, advice, _more_photos(found)])


def _with_interval(estimate: Estimate, *, sign: str = "") -> str:
    numbers = (estimate.value, estimate.low, estimate.high)
    # Without 0.0 a number that is rounded to 0 would keep its sign.
    value, low, high = (format(round(n, 2) + 0.0, f"{sign}.2f") for n in numbers)
    return f"{value} [{low}, {high}]"
