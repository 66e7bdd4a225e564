"""The best linear head on features that stay: a round without learning rate, epochs or chance.

The loss of `losses.joint_loss` plus a punishment of large weights is convex where the level's loss
is cross-entropy, as in the papers. Then it has one optimum, which does not depend on where the
search starts. (Of EMD and focal loss it is the optimum nearest to where it starts.) Features are
taken in units of their spread over the original training photos. How free the weights are is chosen
once a run, by cross-fitting: photos are judged by heads that have not seen them. Traded away:
whatever the body could have learned.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from scipy.linalg import block_diag
from scipy.optimize import minimize
from scipy.special import logit
from threadpoolctl import ThreadpoolController
from torch.nn.functional import linear

from rsrl_lib.files import InputError
from rsrl_lib.losses import LevelLoss, cross_entropy, joint_loss
from rsrl_lib.machine import threads
from rsrl_lib.network import AestheticNet

FREEDOMS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""C of scikit-learn's `LogisticRegression`: the larger, the freer are the weights to be large."""
SLOPE = 1e-6
"""Slope at which the search for a head ends that is kept."""
ROUGH = 1e-3
"""And for one that is only compared with others."""
STEPS = 10_000
"""After which a search that has not ended is given up."""
CHUNK = 8192
"""Photos that are converted to float64 at once, where all would not fit into memory."""
IN_MEMORY = 2**27
"""Numbers of features up to which all are held as float64, in 1 GB."""


@dataclass(frozen=True)
class Frame:
    """Directions in which heads are fitted, of the original training photos; all float64.

    Features differ along one independently of the others, so that how the loss curves is known
    before the search (`_Objective`). The optimum is the same in any coordinates.
    """

    centre: torch.Tensor
    """(width,) mean of the features."""
    spread: torch.Tensor
    """(width,) of the features; 1 where they are all alike."""
    directions: torch.Tensor
    """(width, r) principal directions of the features in units of their spread."""
    variances: torch.Tensor
    """(r,) of the photos along them."""

    def units(self, features: np.ndarray) -> torch.Tensor:
        """Features (n, width) as differences from the mean, in units of their spread."""
        return _units(features, self.centre, self.spread)

    def of_directions(self) -> "Frame":
        """The frame of what the training photos are along the directions, (n, r) in such units."""
        count = len(self.variances)
        zeros, ones = torch.zeros(count).double(), torch.ones(count).double()
        return Frame(zeros, ones, torch.diag(ones), self.variances)


def _units(
    features: np.ndarray, mean: torch.Tensor, spread: torch.Tensor
) -> torch.Tensor:
    return (torch.tensor(features, dtype=torch.float64) - mean) / spread


def frame_of(features: np.ndarray) -> Frame:
    """The frame of features (n, width)."""
    count, width = features.shape
    mean, spread = _mean_and_spread(features)
    if count < width:
        # Fewer photos than features: the products of photos are the smaller matrix.
        units = _units(features, mean, spread)
        variances, of_photos = torch.linalg.eigh(units @ units.T / count)
        is_known = variances > 1e-10 * variances.max()
        variances = variances[is_known]
        lengths = (count * variances).sqrt()
        directions = units.T @ of_photos[:, is_known] / lengths
    else:
        products = torch.zeros(width, width, dtype=torch.float64)
        for rows in _chunks(count):
            units = _units(features[rows], mean, spread)
            products += units.T @ units
        variances, directions = torch.linalg.eigh(products / count)
        is_known = variances > 1e-10 * variances.max()
        variances = variances[is_known]
        directions = directions[:, is_known]
    return Frame(mean, spread, directions, variances)


def _mean_and_spread(features: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each feature, over the photos; a feature that never differs has the spread 1."""
    count, width = features.shape
    mean = torch.zeros(width, dtype=torch.float64)
    for rows in _chunks(count):
        mean += torch.tensor(features[rows], dtype=torch.float64).sum(0) / count
    variance = torch.zeros(width, dtype=torch.float64)
    for rows in _chunks(count):
        apart = torch.tensor(features[rows], dtype=torch.float64) - mean
        variance += apart.square().sum(0) / count
    spread = variance.sqrt()
    is_constant = spread <= 1e-9 * mean.abs()
    return mean, torch.where(is_constant, 1.0, spread)


def _chunks(count: int) -> list[slice]:
    return [slice(first, first + CHUNK) for first in range(0, count, CHUNK)]


@dataclass(frozen=True)
class Frozen:
    """What a network's body sees in the photos of a run before it is trained, and how heads are
    fitted to it."""

    features: np.ndarray
    """(n, width) of all photos."""
    other: np.ndarray | None
    """(m, width) of photos of another source."""
    frame: Frame
    """Of the original training photos."""
    freedom: float
    """Of the weights, to be large; chosen by cross-fitting."""
    folds: np.ndarray
    """Fold of each original training photo, in which it is judged by who has not seen it."""


_prepared: dict[tuple[bytes, LevelLoss], tuple[Frame, float]] = {}
"""The last frame and freedom, by what they were made of. The arms of a sweep come one after the
other and ask for the same, which takes longer than their rounds."""


def freeze(
    features: np.ndarray,
    other: np.ndarray | None,
    rows: np.ndarray,
    targets: torch.Tensor,
    folds: np.ndarray,
    *,
    levels: int,
    level_loss: LevelLoss = cross_entropy,
) -> Frozen:
    """Prepare heads on features (n, width) by the original training photos, those at `rows` (m,).

    `targets` (m, 2 + attributes) and `folds` (m,) are theirs.
    """
    of_training = features[rows]
    made_of = hashlib.sha256()
    for values in (of_training, targets.numpy(), folds):
        made_of.update(np.ascontiguousarray(values))
    key = made_of.digest(), level_loss
    if key not in _prepared:
        frame = frame_of(of_training)
        how = {"levels": levels, "level_loss": level_loss}
        seen = of_training, targets, folds, frame
        if len(of_training) < of_training.shape[1]:
            # The same heads from fewer numbers, as many are fitted.
            along = frame.units(of_training) @ frame.directions
            seen = along.numpy(), targets, folds, frame.of_directions()
        freedom = chosen_freedom(*seen, **how)
        _prepared.clear()
        _prepared[key] = frame, freedom
    return Frozen(features, other, *_prepared[key], folds)


def fit_head(
    network: AestheticNet,
    frozen: Frozen,
    rows: np.ndarray,
    targets: torch.Tensor,
    *,
    level_loss: LevelLoss = cross_entropy,
    warm_start: bool = False,
) -> float:
    """Give a network the best head for the photos at `rows` (n,), in place; returns the mean loss.

    `targets` (n, 2 + attributes) are theirs, as `joint_targets` packs them. The head minimises the
    sum of the losses plus the squared weights, in units of the features' spread, over 2 x
    `frozen.freedom`; biases are free. With `warm_start` the search begins at the head there is: it
    is shorter and, of a convex loss, ends at the same head. Raises `InputError` where no optimum is
    found.
    """
    heads = [network.head]
    if network.attribute_head is not None:
        heads.append(network.attribute_head)
    start = None
    if warm_start:
        start = (
            torch.cat([head.weight for head in heads]),
            torch.cat([head.bias for head in heads]),
        )
    weights, biases, loss = best_head(
        frozen.features[rows],
        targets,
        frozen.frame,
        levels=len(network.scores),
        freedom=frozen.freedom,
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
    """Logits (n, levels), float32, that a network's head gives for features (n, width)."""
    # On the processor wherever the network lies, so that a resumed run has the same digits.
    weight = network.head.weight.detach().cpu()
    bias = network.head.bias.detach().cpu()
    logits = []
    for rows in _chunks(len(features)):
        of_chunk = linear(torch.tensor(features[rows]), weight, bias)
        logits.append(of_chunk.numpy())
    return np.concatenate(logits)


def best_head(
    features: np.ndarray,
    targets: torch.Tensor,
    frame: Frame,
    *,
    levels: int,
    freedom: float,
    level_loss: LevelLoss = cross_entropy,
    slope: float = SLOPE,
    start: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Weights (nodes, width) and biases (nodes,), float64, as `fit_head` says, and the mean loss.

    The nodes are those of the levels, so many as `levels` says, then those of the attributes. The
    search ends where no slope of the loss per photo, in coordinates along which it curves by about
    1, is larger than `slope`; ten times that is accepted where float64 allows no better. It begins
    at the weights and biases of `start`, or where only the biases tell how common each node is.
    """
    how = {"levels": levels, "freedom": freedom, "level_loss": level_loss}
    objective = _Objective(features, targets, frame, **how)
    begin = objective.coordinates_of(start)
    options = {"gtol": slope, "ftol": 0, "maxiter": STEPS, "maxcor": 20}
    with _alone():
        end = minimize(objective, begin, jac=True, method="L-BFGS-B", options=options)
    steepest = np.abs(end.jac).max()
    if not steepest <= 10 * slope:
        raise InputError(
            f"No best head was found in {end.nit} steps, its freedom being {freedom:g} (the slope "
            f"is {steepest:.1e}, needed is {slope:g}); take other weights to start from."
        )
    weights, biases = objective.head_of(end.x)
    return weights, biases, end.fun - objective.punishment(end.x)


class _Objective:
    """The mean loss of a head plus the punishment of its weights, and the gradient of both.

    A head is here a vector in coordinates along which the loss curves by 1, at the head that knows
    nothing but how common each node is: there the curvature is that of the nodes times that of the
    features. So a search needs few steps.
    """

    def __init__(
        self,
        features: np.ndarray,
        targets: torch.Tensor,
        frame: Frame,
        *,
        levels: int,
        freedom: float,
        level_loss: LevelLoss,
    ):
        self.count = len(features)
        self.features = features
        self.targets = targets.double()
        self.frame = frame
        self.level_loss = level_loss
        self.punished = 1 / (freedom * self.count)
        self.directions = frame.directions.numpy()  # (width, r)

        self.known_biases, of_nodes = _without_features(self.targets, levels)
        curvatures, self.turn = np.linalg.eigh(of_nodes)
        # The level's logits can all rise together, and nothing changes.
        is_flat = curvatures <= 1e-9 * curvatures.max()
        curvatures = np.where(is_flat, 0, curvatures)
        of_weights = np.outer(curvatures, frame.variances.numpy()) + self.punished
        of_biases = np.where(is_flat, 1, curvatures)
        self.scale = np.column_stack([of_weights, of_biases]) ** -0.5  # (nodes, r + 1)

        self.along = None
        if features.size <= IN_MEMORY:
            units = frame.units(features)
            self.along = (units @ frame.directions).numpy()  # (n, r)

    def __call__(self, flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights, biases = self._parts(flat)
        if self.along is not None:
            logits = self.along @ weights.T + biases
            loss, of_logits = self._loss_and_gradient(logits, self.targets)
            of_weights = of_logits.T @ self.along
            of_biases = of_logits.sum(0)
        else:
            loss, of_weights, of_biases = self._by_chunks(weights, biases)
        loss += self._punishment_of(weights)
        of_weights += self.punished * weights
        gradient = np.column_stack([of_weights, of_biases])
        return loss, (self.turn.T @ gradient * self.scale).ravel()

    def _by_chunks(
        self, weights: np.ndarray, biases: np.ndarray
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """Loss and gradients where all the photos would not fit into memory."""
        of_units = weights @ self.directions.T  # (nodes, width)
        loss = 0.0
        gradient = np.zeros_like(of_units)
        of_biases = np.zeros_like(biases)
        for rows in _chunks(self.count):
            units = self.frame.units(self.features[rows]).numpy()
            logits = units @ of_units.T + biases
            of_chunk, of_logits = self._loss_and_gradient(logits, self.targets[rows])
            loss += of_chunk
            gradient += of_logits.T @ units
            of_biases += of_logits.sum(0)
        return loss, gradient @ self.directions, of_biases

    def _loss_and_gradient(
        self, logits: np.ndarray, targets: torch.Tensor
    ) -> tuple[float, np.ndarray]:
        """What some photos add to the mean loss of all, and its gradient by their logits."""
        variable = torch.from_numpy(logits).requires_grad_()
        mean_loss = joint_loss(variable, targets, level_loss=self.level_loss)
        loss = mean_loss * (len(logits) / self.count)
        (gradient,) = torch.autograd.grad(loss, variable)
        return loss.item(), gradient.numpy()

    def punishment(self, flat: np.ndarray) -> float:
        """Of the weights, in units of the features' spread."""
        weights, _ = self._parts(flat)
        return self._punishment_of(weights)

    def _punishment_of(self, weights: np.ndarray) -> float:
        return self.punished / 2 * float(np.square(weights).sum())

    def _parts(self, flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights (nodes, r) along the frame's directions, and biases (nodes,)."""
        coordinates = flat.reshape(self.scale.shape)
        head = self.turn @ (coordinates * self.scale)
        return head[:, :-1], head[:, -1]

    def head_of(self, flat: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights (nodes, width) and biases (nodes,) for features as they are."""
        weights, biases = (torch.from_numpy(values) for values in self._parts(flat))
        of_features = weights @ self.frame.directions.T / self.frame.spread
        return of_features, biases - of_features @ self.frame.centre

    def coordinates_of(
        self, head: tuple[torch.Tensor, torch.Tensor] | None
    ) -> np.ndarray:
        """The vector of a head, or of the one that knows nothing of the features."""
        weights = np.zeros((len(self.turn), len(self.frame.variances)))
        biases = self.known_biases
        if head is not None:
            given, given_biases = (values.detach().cpu().double() for values in head)
            of_units = given * self.frame.spread
            weights = (of_units @ self.frame.directions).numpy()
            biases = (given_biases + given @ self.frame.centre).numpy()
        turned = self.turn.T @ np.column_stack([weights, biases])
        return (turned / self.scale).ravel()


def _without_features(
    targets: torch.Tensor, levels: int
) -> tuple[np.ndarray, np.ndarray]:
    """The best biases (nodes,) of a head without weights, and how its loss curves by the logits
    (nodes, nodes): cross-entropy by the shares p of the levels, as diag(p) - p p^T."""
    values = targets.numpy()
    count = len(values)
    weights = values[:, 1]
    shares = np.bincount(values[:, 0].astype(int), weights, minlength=levels) / count
    shares = np.maximum(shares, 1 / count)  # of a level that is not there, too
    total = shares.sum()

    attributes = values[:, 2:]
    is_known = np.isfinite(attributes)
    known = is_known.mean(0)
    said = np.where(is_known, attributes, 0).mean(0)
    said = np.divide(said, known, out=np.full(len(known), 0.5), where=known > 0)
    said = said.clip(1 / count, 1 - 1 / count)

    # Of the biases that say the same, those whose sum is 0: sigmoids read them, too.
    log_shares = np.log(shares)
    biases = np.concatenate([log_shares - log_shares.mean(), logit(said)])
    of_levels = np.diag(shares) - np.outer(shares, shares) / total
    of_attributes = np.diag(known * said * (1 - said))
    return biases, block_diag(of_levels, of_attributes)


@contextmanager
def _alone() -> Iterator[None]:
    """One thread, for torch, NumPy and SciPy, which each have theirs.

    Products with the few nodes of a head are hardly faster by several, and the threads of one wait
    for those of the others at every step, longer than they work.
    """
    with threads(1), _libraries().limit(limits=1):
        yield


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()


def cross_fitted(
    features: np.ndarray,
    targets: torch.Tensor,
    learned: np.ndarray,
    folds: np.ndarray,
    frame: Frame,
    *,
    levels: int,
    freedom: float,
    level_loss: LevelLoss = cross_entropy,
    slope: float = SLOPE,
) -> np.ndarray:
    """Logits (n, levels), float32, of photos by heads that have not seen them.

    A head for each of `folds` (n,) learns from those of the photos at the positions `learned` (m,)
    that lie in the other folds, and judges all photos of its own.
    """
    judged = np.empty((len(features), levels), np.float32)
    how = {"levels": levels, "freedom": freedom}
    how |= {"level_loss": level_loss, "slope": slope}
    for fold in np.unique(folds):
        own = np.flatnonzero(folds == fold)
        others = learned[folds[learned] != fold]
        weights, biases, _ = best_head(features[others], targets[others], frame, **how)
        for rows in np.split(own, range(CHUNK, len(own), CHUNK)):
            some = torch.tensor(features[rows], dtype=torch.float64)
            logits = some @ weights.T + biases
            judged[rows] = logits[:, :levels].numpy()
    return judged


def chosen_freedom(
    features: np.ndarray,
    targets: torch.Tensor,
    folds: np.ndarray,
    frame: Frame,
    *,
    levels: int,
    level_loss: LevelLoss = cross_entropy,
) -> float:
    """The freedom whose heads judge photos best that they have not seen, by the level's loss.

    It is the first of `FREEDOMS`, from the smallest on, after which the mean loss rises. For
    cross-entropy that loss is minus the log of the softmax of a photo's own level. All photos count
    alike here, whatever their weights.
    """
    everything = np.arange(len(features))
    nodes = targets[:, 0].long()
    best, least = FREEDOMS[0], np.inf
    for freedom in FREEDOMS:
        how = {"levels": levels, "freedom": freedom}
        how |= {"level_loss": level_loss, "slope": ROUGH}
        logits = cross_fitted(features, targets, everything, folds, frame, **how)
        loss = level_loss(torch.from_numpy(logits), nodes).mean().item()
        if loss >= least:
            break
        best, least = freedom, loss
    return best
