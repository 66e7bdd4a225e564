"""What a sceptic compares dropping with. Each control changes one thing in the loop of `rounds`.

Dropping promises more than fewer photos: that the *right* ones go. So it stands beside dropping
as many at random, the usual answers to imbalance (resampling, weights, losses) and to wrong labels
(confident learning), and one variant of its own, whose network does not judge what it has
memorised. `CONTROLS` says what each of them changes. Controls that drop act from the second round
on, all others from the first.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf

import numpy as np
import pandas as pd
import torch
from sklearn.utils.class_weight import compute_sample_weight

from rsrl_lib.drop_rules import Decision, DropRule, decide, largest_classes
from rsrl_lib.files import needing
from rsrl_lib.losses import LevelLoss, cross_entropy, emd, focal, logit_adjusted
from rsrl_lib.protocols import fold_of_each
from rsrl_lib.recipe import OWN, ControlName


@dataclass(frozen=True)
class Judged:
    """The original training photos (n,) after a round, for whoever decides which to keep."""

    labels: np.ndarray
    """(n,) scores."""
    own: np.ndarray
    """(n,) logits of the photos' own scores."""
    top: np.ndarray
    """(n,) logits of the largest class."""
    kept: np.ndarray
    """(n,) whether the round was trained on them."""
    unseen: np.ndarray | None
    """(n, scores) logits of networks that have not seen the photo, where a control needs them."""
    after_round: int
    seed: int


def all_of(count: int) -> Decision:
    """Keep so many photos, all of them."""
    kept = np.ones(count, bool)
    return Decision(kept, rescued=0, thresholds=())


def keep_all(rule: DropRule, judged: Judged) -> Decision:
    """Keep every photo."""
    return all_of(len(judged.labels))


def keep_by_rule(rule: DropRule, judged: Judged) -> Decision:
    """Keep what the papers' rule keeps."""
    return decide(
        rule,
        judged.labels,
        judged.own,
        judged.top,
        after_round=judged.after_round,
    )


def keep_as_many_at_random(rule: DropRule, judged: Judged) -> Decision:
    """Keep as many photos of every class as the rule, but others in every round."""
    decision = keep_by_rule(rule, judged)
    labels = judged.labels
    next_round = judged.after_round + 1
    rng = np.random.default_rng([judged.seed, next_round, 1])
    kept = np.zeros(len(labels), bool)
    for score in np.unique(labels):
        members = np.flatnonzero(labels == score)
        count = decision.kept[members].sum()
        drawn = rng.choice(members, count, replace=False)
        kept[drawn] = True
    return replace(decision, kept=kept, is_rescued=np.zeros(len(labels), bool))


def keep_as_many_of_one_order(rule: DropRule, judged: Judged) -> Decision:
    """Keep as many photos of every class as the rule, the first in one order for all rounds.

    So the same photos go again and again, as by likelihood. A new draw in every round hardly does
    that: over a run it shows the network all of them.
    """
    decision = keep_by_rule(rule, judged)
    labels = judged.labels
    rng = np.random.default_rng([judged.seed, 0, 1])
    order = rng.random(len(labels))
    kept = as_many_first(decision.kept, labels, order)
    return replace(decision, kept=kept, is_rescued=np.zeros(len(labels), bool))


def as_many_first(
    kept: np.ndarray, labels: np.ndarray, order: np.ndarray
) -> np.ndarray:
    """A decision (n,) that keeps as many photos of every class, the first in an order (n,)."""
    photos = pd.DataFrame({"kept": kept, "order": order})
    by_class = photos.groupby(labels)
    rank = by_class.order.rank()
    count = by_class.kept.transform("sum")
    return (rank <= count).to_numpy()


def keep_by_unseen(rule: DropRule, judged: Judged) -> Decision:
    """Keep what the rule keeps by logits of networks that have not seen the photo."""
    labels = judged.labels
    logits = judged.unseen
    scores, nodes = np.unique(labels, return_inverse=True)
    max1 = largest_classes(labels)[0]
    node_of_max1 = np.searchsorted(scores, max1)
    photos = np.arange(len(labels))
    unseen = replace(
        judged,
        own=logits[photos, nodes],
        top=logits[:, node_of_max1],
    )
    return keep_by_rule(rule, unseen)


def keep_what_is_well_labelled(rule: DropRule, judged: Judged) -> Decision:
    """Keep what confident learning keeps after round 1, from then on (Northcutt et al. 2021).

    It finds wrong labels by networks that have not seen the photo. Raises `InputError` without the
    package `cleanlab`.
    """
    if judged.after_round > 1:
        return Decision(judged.kept, rescued=0, thresholds=())
    with needing("Confident learning", "study"):
        from cleanlab.filter import find_label_issues
    _, nodes = np.unique(judged.labels, return_inverse=True)
    logits = torch.from_numpy(judged.unseen).double()
    probabilities = logits.softmax(1).numpy()
    is_wrong = find_label_issues(nodes, probabilities, n_jobs=1)
    return Decision(~is_wrong, rescued=0, thresholds=())


def every_photo(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Positions (n,) of all photos."""
    return np.arange(len(labels))


def balanced(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Positions (n,) of as many photos as there are, drawn from all classes equally often."""
    scores = np.unique(labels)
    members = [np.flatnonzero(labels == score) for score in scores]
    classes = rng.integers(len(scores), size=len(labels))
    chosen = [rng.choice(members[drawn]) for drawn in classes]
    return np.array(chosen)


def undersampled(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Positions (m,): of each of the three largest classes as many as the fourth has.

    Of fewer than four classes: as many as the smallest has.
    """
    scores, counts = np.unique(labels, return_counts=True)
    largest_first = np.sort(counts)[::-1]
    fourth = min(3, len(counts) - 1)
    at_most = largest_first[fourth]
    chosen = []
    for score in scores:
        members = np.flatnonzero(labels == score)
        if len(members) > at_most:
            members = rng.choice(members, at_most, replace=False)
        chosen.append(members)
    return np.sort(np.concatenate(chosen))


def all_alike(labels: np.ndarray) -> np.ndarray:
    """Weight 1 of each photo (n,)."""
    return np.ones(len(labels))


def inverse_to_class(labels: np.ndarray) -> np.ndarray:
    """Weight of each photo (n,), inverse to the share of its class."""
    return compute_sample_weight("balanced", labels)


def adjusted(labels: np.ndarray) -> LevelLoss:
    """Logit adjustment by the shares of the training photos' scores."""
    _, counts = np.unique(labels, return_counts=True)
    return logit_adjusted(counts)


@dataclass(frozen=True)
class Control:
    """What a control does: where it says nothing, plain training that drops nothing."""

    keep: Callable[[DropRule, Judged], Decision] = keep_all
    """Which of the original training photos the next round is trained on."""
    sample: Callable[[np.ndarray, np.random.Generator], np.ndarray] = every_photo
    """Positions of the kept photos that a round learns from, by their labels."""
    weights: Callable[[np.ndarray], np.ndarray] = all_alike
    """Weight of each photo in the loss, by the labels of all original training photos."""
    level_loss: Callable[[np.ndarray], LevelLoss] = lambda labels: cross_entropy
    """Loss of the level, by the labels of all original training photos."""
    reads_unseen_until: float = 0
    """Last round after which `keep` reads networks that have not seen the photo."""
    follows_rule: bool = False
    """Whether the drop rule of the recipe decides how many photos stay."""

    def reads_unseen(self, after_round: int) -> bool:
        """Whether networks of halves are needed to decide after a round."""
        return after_round <= self.reads_unseen_until


CONTROLS: dict[ControlName, Control] = {
    "none": Control(keep_by_rule, follows_rule=True),
    "random-drop": Control(keep_as_many_at_random, follows_rule=True),
    "random-drop-same": Control(keep_as_many_of_one_order, follows_rule=True),
    "cross-fitted": Control(keep_by_unseen, reads_unseen_until=inf, follows_rule=True),
    "confident-learning": Control(keep_what_is_well_labelled, reads_unseen_until=1),
    "undersample": Control(sample=undersampled),
    "class-balanced": Control(sample=balanced),
    "class-weighted": Control(weights=inverse_to_class),
    "focal": Control(level_loss=lambda labels: focal),
    "logit-adjusted": Control(level_loss=adjusted),
    "emd": Control(level_loss=lambda labels: emd),
    OWN: Control(),  # what it does, only the Python program knows that it comes from
}
"""Every control by its name in a recipe; "none" is the method itself."""


def half_of_each(
    labels: np.ndarray,
    seed: int,
    groups: np.ndarray | None = None,
    *,
    each_counts: bool = False,
) -> np.ndarray:
    """Half (n,), 0 or 1, that each training photo belongs to, stratified by label.

    For `cross-fitted` and `confident-learning` two more networks go through the rounds, each
    trained on one half only; a photo is judged by the one that has never seen it, nor another
    photo of its group: `groups` (n,) and `each_counts` are those of `protocols.split`.
    """
    how = {"folds": 2, "seed": seed, "each_counts": each_counts}
    return 1 - fold_of_each(labels, groups, **how)
