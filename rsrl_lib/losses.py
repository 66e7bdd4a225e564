"""What a network is fine-tuned to lower: cross-entropy, and the usual answers to imbalance.

A loss of the level takes logits (batch, scores) and nodes (batch,), and gives a loss (batch,), one
a photo. `joint_loss` weighs it, adds the attributes, and takes the mean.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch.nn import functional

from rsrl_lib.files import InputError

LevelLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

cross_entropy: LevelLoss = partial(functional.cross_entropy, reduction="none")


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


def sample_weights(
    mean_scores: np.ndarray, ambiguous: tuple[float, float], ab: tuple[float, float]
) -> np.ndarray:
    """Weight a of photos (n,) of a mean score inside the open interval, else b (AWCU-2018 eq. 9).

    >>> sample_weights(np.array([3.0, 4.0, 5.2]), (4, 6), (1, 7)).tolist()
    [7.0, 7.0, 1.0]
    """
    inside = (ambiguous[0] < mean_scores) & (mean_scores < ambiguous[1])
    return np.where(inside, *map(float, ab))


def joint_targets(
    nodes: torch.Tensor,
    weights: np.ndarray,
    attributes: np.ndarray,
    *,
    literal: bool = False,
) -> torch.Tensor:
    """Targets (n, 2 + attributes) of `joint_loss`: level's node, weight, attributes (n, any).

    Unless `literal`, weights (n,) are scaled to mean 1 and so do not change the learning rate.
    Raises `InputError` where all are 0.
    """
    if not weights.any():
        found = f"all {len(weights)} training photos are ambiguous and have weight 0"
        raise InputError(
            f"Photos to learn from are needed, {found}; narrow the interval."
        )
    weights = weights if literal else weights / weights.mean()
    return torch.from_numpy(
        np.column_stack([nodes, weights, attributes]).astype(np.float32)
    )


def joint_loss(
    logits: torch.Tensor,
    targets: torch.Tensor,
    *,
    level_loss: LevelLoss = cross_entropy,
) -> torch.Tensor:
    """Weighted softmax cross-entropy of the level plus sigmoid cross-entropies of the attributes,
    of `logits` (batch, levels + attributes); unknown (NaN) ones add 0 (AWCU-2018 eq. 3 and 9).

    `level_loss` (logits, nodes) is another loss (batch,) of the level.
    """
    node, weight, attributes = targets[:, 0].long(), targets[:, 1], targets[:, 2:]
    level, attribute = logits.tensor_split([logits.shape[1] - attributes.shape[1]], 1)
    of_level = weight * level_loss(level, node)  # (batch,)
    known, truth = attributes.isfinite().float(), attributes.nan_to_num()
    bce = functional.binary_cross_entropy_with_logits(
        attribute, truth, known, reduction="sum"
    )
    return of_level.mean() + bce / len(targets)
