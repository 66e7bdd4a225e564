"""The best linear head on features that stay: a round without learning rate, epochs or chance.

The loss of `losses.joint_loss` plus a penalty on the weights of the head is convex (for
cross-entropy, the papers' loss), so it has one optimum, which does not depend on where the search
starts. Features are taken in units of their spread over the original training photos. How strongly
large weights are punished is chosen once a run, by cross-fitting: photos are judged by heads that
have not seen them. Traded away: whatever the body could have learned.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize

from rsrl_lib.files import InputError
from rsrl_lib.losses import LevelLoss, cross_entropy, joint_loss
from rsrl_lib.network import AestheticNet

STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""C of scikit-learn's `LogisticRegression`: the smaller, the more large weights are punished."""
STEPS = 10_000
IN_MEMORY = 2**27
"""Numbers of features that are held as float64, 1 GB; more are converted by chunks."""
CHUNK = 8192
SLOPE = 1e-6
"""Largest slope at which a search ends, of the loss per photo in the frame's coordinates."""


@dataclass(frozen=True)
class Frame:
    """Coordinates in which heads are fitted, of the original training photos.

    Along `directions`, scaled by the spread of the features, the loss curves about alike in all
    directions, so that a search needs few steps. The optimum is the same in any coordinates.
    """

    mean: np.ndarray
    """(width,) of the features."""
    spread: np.ndarray
    """(width,) of the features; 1 where they are all alike."""
    directions: np.ndarray
    """(width, r) principal directions of the features in units of their spread."""
    variances: np.ndarray
    """(r,) of the photos along them."""


def frame_of(features: np.ndarray) -> Frame:
    """The frame of features (n, width)."""
    count, width = features.shape
    mean = features.mean(0, dtype=np.float64)
    spread = features.std(0, dtype=np.float64)
    spread[spread <= 1e-9 * np.abs(mean)] = 1
    if (
        count < width
    ):  # fewer photos than features: their products are the smaller matrix
        units = (features - mean) / spread
        variances, photos = np.linalg.eigh(units @ units.T / count)
        known = variances > 1e-10 * variances.max(initial=0)
        variances = variances[known]
        directions = units.T @ photos[:, known] / np.sqrt(count * variances)
    else:
        products = np.zeros((width, width))
        for first in range(0, count, CHUNK):
            units = (features[first : first + CHUNK] - mean) / spread
            products += units.T @ units
        variances, directions = np.linalg.eigh(products / count)
        known = variances > 1e-10 * variances.max(initial=0)
        variances = variances[known]
        directions = directions[:, known]
    return Frame(mean, spread, directions, variances)


@dataclass(frozen=True)
class Frozen:
    """What a body that stays sees in the photos of a run, and how heads are fitted to it."""

    features: np.ndarray
    """(n, width) of all photos."""
    other: np.ndarray | None
    """(m, width) of photos of another source."""
    frame: Frame
    """Of the original training photos."""
    folds: np.ndarray
    """Fold of each original training photo, in which it is judged by who has not seen it."""
    strength: float
    """How little large weights are punished; chosen by cross-fitting."""


def freeze(
    features: np.ndarray,
    other: np.ndarray | None,
    rows: np.ndarray,
    targets: torch.Tensor,
    folds: np.ndarray,
    *,
    scores: int,
    level_loss: LevelLoss = cross_entropy,
) -> Frozen:
    """Prepare heads on features (n, width) by the original training photos, those at `rows` (m,).

    `targets` (m, 2 + attributes) and `folds` (m,) are theirs.
    """
    of_training = features[rows]
    frame = frame_of(of_training)
    how = {"scores": scores, "level_loss": level_loss}
    strength = chosen_strength(of_training, targets, folds, frame, **how)
    return Frozen(features, other, frame, folds, strength)


def fit_head(
    network: AestheticNet,
    frozen: Frozen,
    rows: np.ndarray,
    targets: torch.Tensor,
    *,
    level_loss: LevelLoss = cross_entropy,
) -> float:
    """Give a network the best head for the photos at `rows` (n,), in place; returns the mean loss.

    `targets` (n, 2 + attributes) are theirs, as `joint_targets` packs them. The head minimises the
    sum of the losses plus the squared weights, in units of the features' spread, over 2 x
    `frozen.strength`; biases are free. Raises `InputError` where no optimum is found.
    """
    weights, biases, loss = best_head(
        frozen.features[rows],
        targets,
        frozen.frame,
        scores=len(network.scores),
        strength=frozen.strength,
        level_loss=level_loss,
    )
    heads = [network.head]
    if network.attribute_head is not None:
        heads.append(network.attribute_head)
    first = 0
    with torch.no_grad():
        for head in heads:
            own = slice(first, first + head.out_features)
            head.weight.copy_(weights[own])
            head.bias.copy_(biases[own])
            first = own.stop
    return loss


def head_logits(network: AestheticNet, features: np.ndarray) -> np.ndarray:
    """Logits (n, scores), float32, that a network's head gives for features (n, width)."""
    head = network.head
    place = head.weight.device
    judged = []
    with torch.inference_mode():
        for first in range(0, len(features), CHUNK):
            chunk = torch.tensor(features[first : first + CHUNK], device=place)
            judged.append(head(chunk).cpu())
    return torch.cat(judged).numpy()


def best_head(
    features: np.ndarray,
    targets: torch.Tensor,
    frame: Frame,
    *,
    scores: int,
    strength: float,
    level_loss: LevelLoss = cross_entropy,
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Weights (nodes, width) and biases (nodes,), float64, as `fit_head` says, and the mean loss.

    The nodes are `scores`, then those of the attributes.
    """
    count = len(features)
    nodes = scores + targets.shape[1] - 2
    batches = _Batches(features, targets, frame)
    punishment = 1 / (strength * count)
    # About the curvature of the loss along each direction, so that steps there are of one length.
    scale = torch.from_numpy((0.2 * frame.variances + punishment) ** -0.5)
    directions = torch.from_numpy(frame.directions) * scale  # (width, r)

    def loss_and_slope(flat: np.ndarray) -> tuple[float, np.ndarray]:
        free = torch.from_numpy(flat).view(nodes, -1).requires_grad_()
        weights = free[:, :-1] @ directions.T
        loss = punishment / 2 * (free[:, :-1] * scale).square().sum()
        for units, target in batches:
            logits = units @ weights.T + free[:, -1]
            mean_loss = joint_loss(logits, target, level_loss=level_loss)
            loss = loss + mean_loss * len(units) / count
        (slope,) = torch.autograd.grad(loss, free)
        return loss.item(), slope.numpy().ravel()

    start = np.zeros(nodes * (directions.shape[1] + 1))
    options = {"gtol": SLOPE, "ftol": 0, "maxiter": STEPS, "maxcor": 20}
    end = minimize(loss_and_slope, start, jac=True, method="L-BFGS-B", options=options)
    steepest = np.abs(end.jac).max()
    if not steepest <= 100 * SLOPE:
        raise InputError(
            f"No best head was found in {end.nit} steps (slope {steepest:.1e}); are all features "
            "finite? Take other weights."
        )
    free = torch.from_numpy(end.x).view(nodes, -1)
    of_units = free[:, :-1] @ directions.T
    weights = of_units / torch.from_numpy(frame.spread)
    biases = free[:, -1] - weights @ torch.from_numpy(frame.mean)
    squares = (free[:, :-1] * scale).square().sum().item()
    return weights, biases, end.fun - punishment / 2 * squares


class _Batches:
    """Features in units of their spread and targets, as float64: at once, or by chunks."""

    def __init__(self, features: np.ndarray, targets: torch.Tensor, frame: Frame):
        self.features, self.targets, self.frame = features, targets.double(), frame
        self.held = None
        if features.size <= IN_MEMORY:
            self.held = [self._units(slice(0, len(features)))]

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        if self.held is not None:
            return iter(self.held)
        starts = range(0, len(self.features), CHUNK)
        return (self._units(slice(first, first + CHUNK)) for first in starts)

    def _units(self, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
        units = (self.features[rows] - self.frame.mean) / self.frame.spread
        return torch.from_numpy(units), self.targets[rows]


def cross_fitted(
    features: np.ndarray,
    targets: torch.Tensor,
    kept: np.ndarray,
    folds: np.ndarray,
    frame: Frame,
    *,
    scores: int,
    strength: float,
    level_loss: LevelLoss = cross_entropy,
) -> np.ndarray:
    """Logits (n, scores), float32, of photos by heads that have not seen them.

    A head for each of `folds` (n,) learns from the photos of the other folds that are `kept` (n,)
    and judges all photos of its own.
    """
    judged = np.empty((len(features), scores), np.float32)
    how = {"scores": scores, "strength": strength, "level_loss": level_loss}
    for fold in np.unique(folds):
        own = folds == fold
        others = kept & ~own
        weights, biases, _ = best_head(features[others], targets[others], frame, **how)
        logits = features[own] @ weights.numpy().T + biases.numpy()
        judged[own] = logits[:, :scores]
    return judged


def chosen_strength(
    features: np.ndarray,
    targets: torch.Tensor,
    folds: np.ndarray,
    frame: Frame,
    *,
    scores: int,
    level_loss: LevelLoss = cross_entropy,
) -> float:
    """The strength whose heads judge photos best that they have not seen, by the level's loss.

    From the smallest of `STRENGTHS` on, until the mean loss (of cross-entropy: the mean log
    likelihood, negative) rises.
    """
    everything = np.ones(len(features), bool)
    nodes = targets[:, 0].long()
    best, least = STRENGTHS[0], np.inf
    for strength in STRENGTHS:
        how = {"scores": scores, "strength": strength, "level_loss": level_loss}
        logits = cross_fitted(features, targets, everything, folds, frame, **how)
        loss = level_loss(torch.from_numpy(logits), nodes).mean().item()
        if loss >= least:
            break
        best, least = strength, loss
    return best
