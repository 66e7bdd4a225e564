"""The best linear head on features that stay: a round without learning rate, epochs or chance.

The loss of `losses.joint_loss` plus a penalty on the weights of the head is convex (for
cross-entropy, the papers' loss), so it has one optimum, which does not depend on where the search
starts. Features are taken in units of their spread over the original training photos. How strongly
large weights are punished is chosen once a run, by cross-fitting: photos are judged by heads that
have not seen them. Traded away: whatever the body could have learned.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from scipy.optimize import minimize
from threadpoolctl import ThreadpoolController

from rsrl_lib.files import InputError
from rsrl_lib.losses import LevelLoss, cross_entropy, joint_loss
from rsrl_lib.machine import threads
from rsrl_lib.network import AestheticNet

STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""C of scikit-learn's `LogisticRegression`: the smaller, the more large weights are punished."""
STEPS = 10_000
IN_MEMORY = 2**27
"""Numbers of features that are held as float64, 1 GB; more are converted by chunks."""
SMALL = 2**22
"""Numbers of features that one thread works on as fast as several."""
CHUNK = 8192
SLOPE = 1e-5
ROUGH = 1e-3
"""Slopes at which a search ends: for a head that is kept, and for one that is only compared."""


@dataclass(frozen=True)
class Frame:
    """Coordinates in which heads are fitted, of the original training photos; all float64.

    Along `directions`, scaled by the spread of the features, the loss curves about alike in all
    directions, so that a search needs few steps. The optimum is the same in any coordinates.
    """

    mean: torch.Tensor
    """(width,) of the features."""
    spread: torch.Tensor
    """(width,) of the features; 1 where they are all alike."""
    directions: torch.Tensor | None = None
    """(width, r) principal directions of the features in units of their spread."""
    variances: torch.Tensor | None = None
    """(r,) of the photos along them."""

    def units(self, features: np.ndarray) -> torch.Tensor:
        """Features (n, width) as differences from the mean, in units of their spread."""
        return (torch.tensor(features, dtype=torch.float64) - self.mean) / self.spread


def frame_of(features: np.ndarray) -> Frame:
    """The frame of features (n, width)."""
    count, width = features.shape
    mean = features.mean(0, dtype=np.float64)
    spread = features.std(0, dtype=np.float64)
    spread[spread <= 1e-9 * np.abs(mean)] = 1
    frame = Frame(*map(torch.from_numpy, (mean, spread)))
    if (
        count < width
    ):  # fewer photos than features: their products are the smaller matrix
        units = frame.units(features)
        variances, of_photos = torch.linalg.eigh(units @ units.T / count)
        known = variances > 1e-10 * variances.max()
        variances = variances[known]
        directions = units.T @ of_photos[:, known] / (count * variances).sqrt()
    else:
        products = torch.zeros(width, width, dtype=torch.float64)
        for rows in _chunks(count):
            units = frame.units(features[rows])
            products += units.T @ units
        variances, directions = torch.linalg.eigh(products / count)
        known = variances > 1e-10 * variances.max()
        variances = variances[known]
        directions = directions[:, known]
    return replace(frame, directions=directions, variances=variances)


def _chunks(count: int) -> list[slice]:
    return [slice(first, first + CHUNK) for first in range(0, count, CHUNK)]


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
    goes_on: bool = False,
) -> float:
    """Give a network the best head for the photos at `rows` (n,), in place; returns the mean loss.

    `targets` (n, 2 + attributes) are theirs, as `joint_targets` packs them. The head minimises the
    sum of the losses plus the squared weights, in units of the features' spread, over 2 x
    `frozen.strength`; biases are free. Where it `goes_on`, the search begins at the head there is,
    which is shorter and ends at the same head. Raises `InputError` where no optimum is found.
    """
    heads = [network.head]
    if network.attribute_head is not None:
        heads.append(network.attribute_head)
    start = None
    if goes_on:
        start = (
            torch.cat([head.weight for head in heads]),
            torch.cat([head.bias for head in heads]),
        )
    weights, biases, loss = best_head(
        frozen.features[rows],
        targets,
        frozen.frame,
        scores=len(network.scores),
        strength=frozen.strength,
        level_loss=level_loss,
        start=start,
    )
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
    slope: float = SLOPE,
    start: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Weights (nodes, width) and biases (nodes,), float64, as `fit_head` says, and the mean loss.

    The nodes are `scores`, then those of the attributes. The search ends where no `slope` of the
    loss per photo, in the frame's coordinates, is larger. It begins at the weights and biases of
    `start`, or at 0.
    """
    count = len(features)
    nodes = scores + targets.shape[1] - 2
    targets = targets.double()
    punishment = 1 / (strength * count)
    # About the curvature of the loss along each direction, so that steps there are of one length.
    scale = (0.3 * frame.variances + punishment) ** -0.5
    directions = frame.directions * scale  # (width, r)
    batches = _Batches(features, frame, directions)

    def loss_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        free = torch.from_numpy(flat).view(nodes, -1)
        weights = free[:, :-1]
        biases = free[:, -1]
        gradient = torch.zeros_like(free)
        gradient[:, :-1] = punishment * weights * scale**2
        loss = punishment / 2 * (weights * scale).square().sum().item()
        for rows, coordinates in batches:
            logits = (coordinates @ weights.T + biases).requires_grad_()
            share = len(coordinates) / count
            mean_loss = share * joint_loss(logits, targets[rows], level_loss=level_loss)
            (of_logits,) = torch.autograd.grad(mean_loss, logits)
            gradient[:, :-1] += of_logits.T @ coordinates
            gradient[:, -1] += of_logits.sum(0)
            loss += mean_loss.item()
        return loss, gradient.numpy().ravel()

    begin = torch.zeros(nodes, len(scale) + 1, dtype=torch.float64)
    if start is not None:
        before, biases_before = (values.detach().cpu().double() for values in start)
        begin[:, :-1] = before * frame.spread @ frame.directions / scale
        begin[:, -1] = biases_before + before @ frame.mean
    options = {"gtol": slope, "ftol": 0, "maxiter": STEPS, "maxcor": 20}
    how = {"jac": True, "method": "L-BFGS-B", "options": options}
    with _alone() if features.size <= SMALL else nullcontext():
        end = minimize(loss_and_gradient, begin.numpy().ravel(), **how)
    steepest = np.abs(end.jac).max()
    if not steepest <= 10 * slope:
        raise InputError(
            f"No best head was found in {end.nit} steps (slope {steepest:.1e}); are all features "
            "finite? Take other weights."
        )
    free = torch.from_numpy(end.x).view(nodes, -1)
    weights = free[:, :-1] @ directions.T / frame.spread
    biases = free[:, -1] - weights @ frame.mean
    squares = (free[:, :-1] * scale).square().sum().item()
    return weights, biases, end.fun - punishment / 2 * squares


@contextmanager
def _alone() -> Iterator[None]:
    """One thread, for torch and for SciPy, which each have theirs.

    A small product is no faster by several, and those of one wait for those of the other at every
    step, five times as long as they work.
    """
    with threads(1), _libraries().limit(limits=1):
        yield


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()


class _Batches:
    """Features as coordinates along the directions: held at once, or made by chunks each time."""

    def __init__(self, features: np.ndarray, frame: Frame, directions: torch.Tensor):
        self.features = features
        self.frame = frame
        self.directions = directions
        self.held = None
        if features.size <= IN_MEMORY:
            everything = slice(0, len(features))
            self.held = [(everything, self._coordinates(everything))]

    def __iter__(self) -> Iterator[tuple[slice, torch.Tensor]]:
        if self.held is not None:
            return iter(self.held)
        chunks = _chunks(len(self.features))
        return ((rows, self._coordinates(rows)) for rows in chunks)

    def _coordinates(self, rows: slice) -> torch.Tensor:
        return self.frame.units(self.features[rows]) @ self.directions


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
    slope: float = SLOPE,
) -> np.ndarray:
    """Logits (n, scores), float32, of photos by heads that have not seen them.

    A head for each of `folds` (n,) learns from the photos of the other folds that are `kept` (n,)
    and judges all photos of its own.
    """
    judged = np.empty((len(features), scores), np.float32)
    how = {"scores": scores, "strength": strength}
    how |= {"level_loss": level_loss, "slope": slope}
    for fold in np.unique(folds):
        own = folds == fold
        others = kept & ~own
        weights, biases, _ = best_head(features[others], targets[others], frame, **how)
        logits = torch.tensor(features[own]).double() @ weights.T + biases
        judged[own] = logits[:, :scores].numpy()
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
        how = {"scores": scores, "strength": strength}
        how |= {"level_loss": level_loss, "slope": ROUGH}
        logits = cross_fitted(features, targets, everything, folds, frame, **how)
        loss = level_loss(torch.from_numpy(logits), nodes).mean().item()
        if loss >= least:
            break
        best, least = strength, loss
    return best
