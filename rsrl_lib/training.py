"""One readable training loop, and the likelihoods of its network.

Everything a round does to a network happens here. There are no worker processes: the photos are
already bytes in memory.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import ceil

import numpy as np
import pandas as pd
import torch
from scipy.special import expit, log_softmax, logsumexp
from torch.nn import functional
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LambdaLR,
    LRScheduler,
    StepLR,
)
from tqdm.auto import tqdm

from rsrl_lib.backbones import check_side
from rsrl_lib.deciding import DecisionRule, moments
from rsrl_lib.files import InputError
from rsrl_lib.machine import (
    ahead,
    all_shares,
    as_the_first_has_them,
    autocast,
    averaged,
    device,
    own_share,
    shared,
    team,
)
from rsrl_lib.network import AestheticNet
from rsrl_lib.pixels import Pixels, normalised, views_of
from rsrl_lib.recipe import Training

JUDGED_AT_ONCE = 64

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Mean loss of a batch, from its logits and targets."""


@dataclass(frozen=True)
class Batch:
    """Photos of one step: all of them, or of several processes the share of this one."""

    crops: torch.Tensor
    """(photos, 3, S, S), uint8."""
    targets: torch.Tensor
    """(photos, ...)."""
    size: int
    """Photos of the whole batch."""
    weight: float
    """Of the mean loss of this share: 1 where there is one process."""


def fine_tune(
    network: AestheticNet,
    pixels: Pixels,
    rows: np.ndarray,
    targets: torch.Tensor,
    training: Training,
    *,
    loss: Loss = functional.cross_entropy,
    seed: int,
    title: str = "fine-tuning",
) -> float:
    """Fine-tune a network in place on some photos; returns the mean loss of the last epoch, which
    `steps` may have cut short.

    `rows` (n,) are positions in `pixels`, `targets` (n, ...) what `loss(logits, targets)` compares
    a batch with, by its mean: for softmax cross-entropy the nodes of the scores, for `joint_loss`
    what `joint_targets` packs. The same seed gives the same network on the same processor. The
    processes of a `team` share each batch and train as one would, but for dropout, which each draws
    for itself, and batch normalisation by its share (ResNet-18). Raises `InputError` when the loss
    is no longer finite, and where the photos are of another side than the network's.
    """
    check_side(pixels.side, network.side, network.backbone)
    rows = torch.as_tensor(rows)
    network.to(device(), memory_format=torch.channels_last).train()
    learner = shared(network)
    steps_an_epoch = ceil(len(rows) / training.batch)
    steps = training.steps or training.epochs * steps_an_epoch
    optimiser, schedule = _optimiser(network, training, steps)
    # A generator of its own: others draw dropout elsewhere.
    draw = torch.Generator().manual_seed(seed)
    rank = team()[0]
    shrink_to = training.view["shrink_to"]

    with torch.random.fork_rng():
        torch.manual_seed(seed + rank)
        epochs = range(0, steps, steps_an_epoch)
        bar = tqdm(
            epochs, title, unit="epoch", mininterval=5, disable=rank > 0 or not title
        )
        for done in bar:
            total = torch.zeros((), device=device())
            seen = 0
            batches = _batches(pixels, rows, targets, training, draw)
            for batch in ahead(islice(batches, steps - done)):
                with autocast(training.precision):
                    photos = normalised(batch.crops, shrink_to=shrink_to)
                    outputs = learner(photos)  # (photos, nodes)
                batch_loss = loss(outputs, batch.targets) * batch.weight

                optimiser.zero_grad(set_to_none=True)
                batch_loss.backward()
                optimiser.step()
                schedule.step()

                total += batch_loss.detach() * batch.size
                seen += batch.size
            mean_loss = averaged(total).item() / seen
            _check_finite(mean_loss, title, training)
            bar.set_postfix(loss=f"{mean_loss:.3f}")
    as_the_first_has_them(network.buffers())
    return mean_loss


def _batches(
    pixels: Pixels,
    rows: torch.Tensor,
    targets: torch.Tensor,
    training: Training,
    draw: torch.Generator,
) -> Iterator[Batch]:
    """All photos once, in an order of their own."""
    rank, processes = team()
    is_on_gpu = device().type == "cuda"
    if is_on_gpu:
        torch.cuda.set_device(device())  # `ahead` has a thread, and each thread its own
    order = torch.randperm(len(rows), generator=draw)
    for batch in order.split(training.batch):
        # A process for which no photo is left looks at one of another's, which counts nothing.
        has_share = rank < len(batch)
        first = rank if has_share else 0
        share = slice(first, None, processes)
        view = "whole" if training.crops == "resized" else training.crops
        crops = pixels.crops(rows[batch], view=view, draw=draw, share=share)
        target = targets[batch[share]]
        counted = len(target) if has_share else 0
        weight = counted * processes / len(batch)
        if is_on_gpu:
            if not crops.is_cuda:
                crops = crops.pin_memory()
            crops = crops.to(device(), non_blocking=True)
            target = target.to(device(), non_blocking=True)
        yield Batch(crops, target, len(batch), weight)


def _check_finite(mean_loss: float, title: str, training: Training) -> None:
    if not np.isfinite(mean_loss):
        raise InputError(
            f"The training loss became {mean_loss} while {title}; lower the learning rates "
            f"({training.learning_rate:g} and {training.head_learning_rate:g})."
        )


def _optimiser(
    network: AestheticNet, training: Training, steps: int
) -> tuple[Optimizer, LRScheduler]:
    """One learning rate for the transferred layers and one for the new ones, and how they fall."""
    transferred = list(network.body.parameters())
    new = []
    for name, values in network.named_parameters():
        if not name.startswith("body."):
            new.append(values)
    groups = [
        {"params": transferred, "lr": training.learning_rate},
        {"params": new, "lr": training.head_learning_rate},
    ]

    decay = training.weight_decay
    if training.optimiser == "adamw":
        optimiser = AdamW(groups, weight_decay=decay, fused=True)
    else:
        optimiser = SGD(groups, momentum=0.9, weight_decay=decay, fused=True)

    if training.decay == "constant":
        return optimiser, LambdaLR(optimiser, lambda step: 1.0)
    if training.decay == "tenths":
        third = ceil(steps / 3)
        return optimiser, StepLR(optimiser, third)
    return optimiser, CosineAnnealingLR(optimiser, steps)


def logits(
    network: AestheticNet,
    pixels: Pixels,
    rows: Sequence[int] | np.ndarray | None = None,
    **view,
) -> np.ndarray:
    """Logits (n, scores), float32, of all photos or some `rows`; see `logits_of_all_nodes`."""
    of_nodes = logits_of_all_nodes(network, pixels, rows, **view)
    return of_nodes[:, : len(network.scores)]


def logits_of_all_nodes(
    network: AestheticNet,
    pixels: Pixels,
    rows: Sequence[int] | np.ndarray | None = None,
    *,
    precision: str = "auto",
    crops: str = "random",
    shrink_to: int | None = None,
) -> np.ndarray:
    """Logits (n, scores + attributes), float32, of all photos or some `rows`.

    `crops` says how the network was trained: by "random" ones, then it judges the centre, or by
    "five", then its answer is the mean over these, or on "resized" photos, then it judges such a
    one, or on features of "whole" photos, then it is the mean over the photo and its mirror.
    Raises `InputError` where the photos are of another side than the network's.
    """
    check_side(pixels.side, network.side, network.backbone)
    if rows is None:
        rows = np.arange(len(pixels))
    rows = torch.as_tensor(rows)
    views = views_of(crops, pixels.side)
    network.to(device(), memory_format=torch.channels_last).eval()
    nodes = len(network.scores) + len(network.attributes)
    judged = [torch.empty(0, nodes, device=device())]
    with torch.inference_mode(), autocast(precision):
        for some in own_share(rows).split(JUDGED_AT_ONCE):
            total = 0
            for view in views:
                photos = pixels.crops(some, view=view).to(device())
                photos = normalised(photos, shrink_to=shrink_to)
                total = total + network(photos)  # (photos, nodes)
            mean = total / len(views)
            judged.append(mean.float())
    own = torch.cat(judged).cpu()
    return all_shares(own, len(rows)).numpy()


def likelihoods(logits: np.ndarray) -> np.ndarray:
    """Likelihood fc_s(x) = sigmoid of the fc node of score s, not the softmax (RSRL eq. 1-3).

    >>> likelihoods(np.array([0.0, 2.0])).round(3).tolist()
    [0.5, 0.881]
    """
    return expit(logits)


def judged_together(of_networks: Sequence[np.ndarray]) -> np.ndarray:
    """Logits (n, scores), float32, whose softmax is the mean of that of several networks.

    >>> both = judged_together([np.log([[0.2, 0.8]]), np.log([[0.6, 0.4]])])
    >>> np.allclose(both, np.log([[0.4, 0.6]]))
    True
    """
    if len(of_networks) == 1:
        return of_networks[0]
    logits = np.asarray(of_networks, np.float64)
    log_posteriors = log_softmax(logits, axis=-1)
    mean = logsumexp(log_posteriors, axis=0) - np.log(len(logits))
    return mean.astype(np.float32)


def judge(
    network: AestheticNet,
    pixels: Pixels,
    *,
    labels: np.ndarray | None = None,
    top_score: int | None = None,
    **view,
) -> pd.DataFrame:
    """What a network says of photos, in one pass; one row a photo. `view` is that of a `Training`.

    Columns: `label` (NA where `labels` is None), `assigned` (the score of the largest logit),
    `expected` and `spread` (mean and standard deviation of the score, by the posterior), and of the
    assigned score, of the label (`own`) and of `top_score` (`top`, where it is given), in float32,
    logit and likelihood: `assigned_logit`, `assigned_likelihood`, `own_logit`, ... Photos are
    ranked by logits: a float32 likelihood is 1 for every logit above about 17. Last come the logits
    of all scores, `logit_4`, ...
    """
    rule = DecisionRule(tuple(network.scores))
    node_logits = logits(network, pixels, **view)
    return judgement(rule, node_logits, labels=labels, top_score=top_score)


def judgement(
    rule: DecisionRule,
    node_logits: np.ndarray,
    *,
    together: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    top_score: int | None = None,
) -> pd.DataFrame:
    """The table of `judge` from logits (photos, scores) that are known, decided by a rule.

    The score is decided from those of several networks `together`, where they are given.
    """
    count = len(node_logits)
    photos = np.arange(count)
    scores = np.array(rule.scores)

    decided_from = node_logits if together is None else together
    log_posterior = rule.log_posterior(decided_from)
    node = log_posterior.argmax(1)
    expected, spread = moments(np.exp(log_posterior), rule.scores)
    logits_of = {"assigned": node_logits[photos, node]}
    if labels is None:
        label = pd.array([pd.NA] * count, dtype="Int64")
        logits_of["own"] = np.full(count, np.nan, np.float32)
    else:
        label = pd.array(labels, dtype="Int64")
        own_node = np.searchsorted(scores, labels)
        logits_of["own"] = node_logits[photos, own_node]
    if top_score is not None:
        top_node = rule.scores.index(top_score)
        logits_of["top"] = node_logits[:, top_node]

    table = pd.DataFrame({"label": label, "assigned": scores[node]})
    table["expected"] = expected.astype(np.float32)
    table["spread"] = spread.astype(np.float32)
    for name, logit in logits_of.items():
        table[f"{name}_logit"] = logit
        table[f"{name}_likelihood"] = likelihoods(logit)
    for score, logit in zip(rule.scores, node_logits.T, strict=True):
        table[f"logit_{score}"] = logit
    return table
