"""What a sceptic compares dropping with. Each control changes one thing in the loop of `rounds`.

Dropping promises more than fewer photos: that the *right* ones go. So it stands beside dropping
as many at random, the usual answers to imbalance (resampling, weights, losses) and to wrong labels
(confident learning), and one variant of its own, whose network does not judge what it has
memorised. From which round a control works: all but those that drop from the first on.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from sklearn.model_selection import StratifiedKFold
from sklearn.utils.class_weight import compute_sample_weight
from torch.nn import functional

from rsrl_lib.drop_rules import Decision, DropRule, decide, largest_classes
from rsrl_lib.files import needing
from rsrl_lib.protocols import one_of_each
from rsrl_lib.recipe import Control
from rsrl_lib.training import cross_entropy

DROPPING: tuple[Control, ...] = ("none", "random-drop", "random-drop-same", "cross-fitted")
HALVED: tuple[Control, ...] = ("confident-learning", "cross-fitted")
LevelLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def focal(logits: torch.Tensor, nodes: torch.Tensor) -> torch.Tensor:
    """Loss (batch,) of logits (batch, scores) and nodes (batch,): cross-entropy times (1 - p)^2, so
    that photos that are right already count little (Lin et al. 2017, gamma 2)."""
    loss = cross_entropy(logits, nodes)
    return (1 - torch.exp(-loss)) ** 2 * loss


def emd(logits: torch.Tensor, nodes: torch.Tensor) -> torch.Tensor:
    """Root of the mean squared difference of the cumulative distributions of answer and label, so
    that a near miss costs less than a far one (NIMA's loss, Talebi & Milanfar 2018, for labels)."""
    label = functional.one_hot(nodes, logits.shape[1])
    gap = (logits.softmax(1) - label).cumsum(1)
    return (gap.square().mean(1) + 1e-12).sqrt()  # a root has no finite slope at 0


def logit_adjusted(counts: np.ndarray) -> LevelLoss:
    """Cross-entropy of logits plus the log of the classes' shares, known from `counts` (scores,):
    the network need not learn how common a score is (Menon et al. 2021, eq. 10, tau 1)."""
    prior = torch.log(torch.from_numpy(counts / counts.sum()).float())
    return lambda logits, nodes: cross_entropy(logits + prior.to(logits.device), nodes)


def level_loss(control: Control, labels: np.ndarray) -> LevelLoss:
    """Loss of the level, photo by photo, with all training labels (n,) known."""
    if control == "logit-adjusted":
        return logit_adjusted(np.unique(labels, return_counts=True)[1])
    return {"focal": focal, "emd": emd}.get(control, cross_entropy)


def weights(control: Control, labels: np.ndarray) -> np.ndarray:
    """Weight of each photo (n,): inverse to its class's share for `class-weighted`, else 1."""
    if control == "class-weighted":
        return compute_sample_weight("balanced", labels)
    return np.ones(len(labels))


def resampled(control: Control, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Positions (m,) of the photos, with labels (n,), that a round is trained on.

    `class-balanced` draws as many photos as there are, of all classes equally often; `undersample`
    leaves of each of the three largest classes as many as the fourth has (of fewer than four
    classes: as the smallest has). Others train on all.
    """
    classes, counts = np.unique(labels, return_counts=True)
    members = [np.flatnonzero(labels == score) for score in classes]
    if control == "class-balanced":
        which = rng.integers(len(classes), size=len(labels))
        return np.array([rng.choice(members[i]) for i in which])
    if control == "undersample":
        at_most = np.sort(counts)[::-1][min(3, len(counts) - 1)]
        some = [m if len(m) <= at_most else rng.choice(m, at_most, False) for m in members]
        return np.sort(np.concatenate(some))
    return np.arange(len(labels))


def decision(
    control: Control,
    rule: DropRule,
    labels: np.ndarray,
    own: np.ndarray,
    top: np.ndarray,
    *,
    unseen: np.ndarray,
    before: np.ndarray,
    after_round: int,
    rng: np.random.Generator,
) -> Decision:
    """Which training photos to keep after a round: by the rule of `decide`, or by a control.

    Beside the arguments of `decide`: `unseen` (n, scores) are the logits of networks that have not
    seen the photo (for those in `HALVED`), `before` (n,) says what was kept last. `rng` is of the
    round, but for `random-drop-same` one and the same in all rounds.
    """
    classes, nodes = np.unique(labels, return_inverse=True)
    if control == "confident-learning":
        kept = without_label_issues(nodes, unseen) if after_round == 1 else before
        return Decision(kept, 0, ())
    if control not in DROPPING:
        return Decision(np.ones(len(labels), bool), 0, ())
    if control == "cross-fitted":
        max1 = np.flatnonzero(classes == largest_classes(labels)[0])[0]
        own, top = unseen[np.arange(len(labels)), nodes], unseen[:, max1]
    decided = decide(rule, labels, own, top, after_round=after_round)
    if control == "random-drop":
        decided = replace(decided, kept=as_many_at_random(decided.kept, labels, rng))
    if control == "random-drop-same":
        decided = replace(decided, kept=as_many_first(decided.kept, labels, rng.random(len(own))))
    return decided


def reads_unseen(control: Control, *, after_round: int) -> bool:
    """Whether `decision` reads, after a round, networks that have not seen the photo.

    The networks of halves need not be trained in a round after which nobody asks them.
    """
    return control in HALVED and (control != "confident-learning" or after_round == 1)


def as_many_at_random(kept: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A decision (n,) that keeps as many photos of every class, but not the same ones."""
    drawn = np.zeros(len(kept), bool)
    for score in np.unique(labels):
        members = np.flatnonzero(labels == score)
        drawn[rng.choice(members, kept[members].sum(), replace=False)] = True
    return drawn


def as_many_first(kept: np.ndarray, labels: np.ndarray, order: np.ndarray) -> np.ndarray:
    """A decision (n,) that keeps as many photos of every class, the first in an order (n,).

    With one order for all rounds the same photos go again and again, as by likelihood, which a new
    draw in every round hardly does: over a run it shows the network all of them.
    """
    within = pd.DataFrame({"kept": kept, "order": order}).groupby(labels)
    return (within.order.rank() <= within.kept.transform("sum")).to_numpy()


def halves(labels: np.ndarray, seed: int, groups: np.ndarray | None = None) -> np.ndarray:
    """Half (n,), 0 or 1, that each training photo belongs to, stratified by label.

    For `cross-fitted` and `confident-learning` a second pair of networks goes through the rounds,
    each trained on one half only; a photo is judged by the one that has never seen it, nor another
    photo of its group: `groups` (n,) are those of `protocols.split`.
    """
    rows, place = one_of_each(labels, groups)
    own, half = labels[rows], np.zeros(len(rows), int)
    half[next(StratifiedKFold(2, shuffle=True, random_state=seed).split(own, own))[1]] = 1
    return half[place]


def without_label_issues(nodes: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Which photos (n,) to keep by confident learning (Northcutt et al. 2021, package `cleanlab`).

    `nodes` (n,) are those of the labels, `logits` (n, scores) of networks that have not seen the
    photo. Raises `InputError` without the package.
    """
    with needing("Confident learning", "study"):
        from cleanlab.filter import find_label_issues
    probabilities = torch.from_numpy(logits).double().softmax(1).numpy()
    return ~find_label_issues(nodes, probabilities, n_jobs=1)
