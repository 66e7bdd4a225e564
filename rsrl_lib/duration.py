"""How long a run will take here: a rehearsal before it starts, and its first round.

Traded away: what the disk takes, and the search for the best head, which is short beside features.
"""

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from math import ceil

import numpy as np
import torch

from rsrl_lib.controls import CONTROLS
from rsrl_lib.features import are_known
from rsrl_lib.files import in_words
from rsrl_lib.network import AestheticNet
from rsrl_lib.pixels import Pixels
from rsrl_lib.recipe import Recipe
from rsrl_lib.training import fine_tune, logits

STEPS = 3
"""Steps that a rehearsal times, after one that it does not."""
JUDGED = 64
"""Photos that it judges at most."""
SHARE_JUDGED = 0.1
"""Of all photos, which it judges at most: of few photos a rehearsal would take as long as they."""
WORTH_TELLING = 10
"""Seconds below which nobody waits for a sentence."""


@dataclass(frozen=True)
class Pace:
    """Seconds that a step takes, and that judging a photo takes."""

    step: float
    judged_photo: float


def rehearse(network: AestheticNet, pixels: Pixels, recipe: Recipe) -> Pace:
    """Time a few steps of a copy of the network, and its answers for a few photos.

    For `tune = "head"` the answers alone, and nothing where the features of all photos are known.
    """
    if recipe.tune == "head" and are_known(network, pixels, **recipe.view):
        return Pace(0.0, 0.0)
    copy = deepcopy(network)
    step = 0.0
    if recipe.tune != "head":
        _learn(copy, pixels, recipe, 1)
        step = _seconds(lambda: _learn(copy, pixels, recipe, STEPS)) / STEPS
    count = min(JUDGED, int(SHARE_JUDGED * len(pixels)))
    few = np.arange(max(1, count))
    logits(copy, pixels, few[:1], **recipe.view)
    judged = _seconds(lambda: logits(copy, pixels, few, **recipe.view))
    return Pace(step, judged / len(few))


def _learn(network: AestheticNet, pixels: Pixels, recipe: Recipe, steps: int) -> None:
    training = replace(recipe.training, steps=steps, epochs=1)
    batch = min(training.batch, len(pixels))
    rows = np.resize(np.arange(batch), steps * training.batch)
    nodes = torch.zeros(len(rows), dtype=torch.long)
    fine_tune(network, pixels, rows, nodes, training, seed=0, title="")


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def expected(
    pace: Pace, recipe: Recipe, *, training_photos: int, photos: int, done: int = 0
) -> float:
    """Seconds that the rounds after `done` take at most, `photos` judged in each of them.

    Fewer are kept than `training_photos` where the recipe says which share; where it gives K,
    nobody knows how many.
    """
    if recipe.tune == "head":
        return pace.judged_photo * photos
    share = recipe.drop.keep_share or 1.0
    steps = 0
    for i in range(done + 1, recipe.rounds + 1):
        learned_from = training_photos if i == 1 else share * training_photos
        steps += _steps_of(recipe, i, learned_from)
    if CONTROLS[recipe.control].reads_unseen(after_round=1):
        steps *= 2  # two more networks, each on a half
    judged = (recipe.rounds - done) * photos
    return pace.step * steps + pace.judged_photo * judged


def _steps_of(recipe: Recipe, i: int, photos: float) -> int:
    training = recipe.training
    if i == 1 and recipe.first_steps:
        return recipe.first_steps
    return training.steps or training.epochs * ceil(photos / training.batch)


class Clock:
    """Tells, once the first round of a call is done, how long the others take."""

    def __init__(self, recipe: Recipe, say: Callable[[str], object]):
        self.recipe = recipe
        self.say = say
        self.begun: float | None = None
        self.told = False

    def round_is_done(self, i: int) -> None:
        """To be called after each round; `i` is its number."""
        now = time.perf_counter()
        begun, self.begun = self.begun, now
        if begun is not None and not self.told:
            self.told = True
            self._tell(i, now - begun)

    def _tell(self, i: int, seconds: float) -> None:
        left = self.recipe.rounds - i
        share = self.recipe.drop.keep_share or 1.0
        rest = left * seconds * (share if i == 1 else 1.0)
        if left and rest >= WORTH_TELLING:
            others = "The other takes" if left == 1 else f"The other {left} take"
            self.say(
                f"Round {i} took {in_words(seconds)}. {others} about {in_words(rest)}, "
                "if no rule stops them earlier."
            )
