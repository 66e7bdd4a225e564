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
    p = torch.exp(-loss)  # softmax of the photo's own node
    return (1 - p) ** 2 * loss


def emd(logits: torch.Tensor, nodes: torch.Tensor) -> torch.Tensor:
    """Root of the mean squared difference of the cumulative distributions of answer and label, so
    that a near miss costs less than a far one (NIMA's loss, Talebi & Milanfar 2018, for labels)."""
    label = functional.one_hot(nodes, logits.shape[1])
    answer = logits.softmax(1)
    gap = (answer - label).cumsum(1)
    mean_square = gap.square().mean(1)
    return (mean_square + 1e-12).sqrt()  # a root has no finite slope at 0


def logit_adjusted(counts: np.ndarray) -> LevelLoss:
    """Cross-entropy of logits plus the log of the classes' shares, known from `counts` (scores,):
    the network need not learn how common a score is (Menon et al. 2021, eq. 10, tau 1)."""
    shares = torch.from_numpy(counts / counts.sum())
    log_prior = torch.log(shares.float())

    def loss(logits: torch.Tensor, nodes: torch.Tensor) -> torch.Tensor:
        adjusted = logits + log_prior.to(logits.device)
        return cross_entropy(adjusted, nodes)

    return loss


def sample_weights(
    mean_scores: np.ndarray, ambiguous: tuple[float, float], ab: tuple[float, float]
) -> np.ndarray:
    """Weight a of photos (n,) of a mean score inside the open interval, else b (AWCU-2018 eq. 9).

    >>> sample_weights(np.array([3.0, 4.0, 5.2]), (4, 6), (1, 7)).tolist()
    [7.0, 7.0, 1.0]
    """
    low, high = ambiguous
    a, b = ab
    is_ambiguous = (low < mean_scores) & (mean_scores < high)
    return np.where(is_ambiguous, float(a), float(b))


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
        raise InputError(
            f"Photos to learn from are needed, all {len(weights)} training photos are "
            "ambiguous and have weight 0; narrow the interval."
        )
    if not literal:
        weights = weights / weights.mean()
    targets = np.column_stack([nodes, weights, attributes])
    return torch.from_numpy(targets.astype(np.float32))


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
    nodes = targets[:, 0].long()
    weights = targets[:, 1]
    attributes = targets[:, 2:]
    levels = logits.shape[1] - attributes.shape[1]
    level_logits, attribute_logits = logits.tensor_split([levels], 1)

    of_level = weights * level_loss(level_logits, nodes)  # (batch,)
    if not attributes.numel():
        return of_level.mean()
    is_known = attributes.isfinite().float()
    of_attributes = functional.binary_cross_entropy_with_logits(
        attribute_logits,
        attributes.nan_to_num(),
        weight=is_known,
        reduction="sum",
    )
    return of_level.mean() + of_attributes / len(targets)
