"""One readable training loop, and the likelihoods of its network.

Everything a round does to a network happens here; precision and memory format are chosen here and
nowhere else. There are no worker processes: the photos are already bytes in memory.
"""

import atexit
import os
import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torchvision
from scipy.special import expit
from torch import distributed
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from tqdm.auto import tqdm

from rsrl_lib.files import InputError
from rsrl_lib.network import AestheticNet
from rsrl_lib.photos import ScoredPhotos
from rsrl_lib.pixels import Pixels, five_corners, normalised
from rsrl_lib.recipe import Training

cross_entropy = partial(functional.cross_entropy, reduction="none")


@cache
def device() -> torch.device:
    """The GPU where there is one, one for each process of `torchrun`, else the processor."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())


@cache
def team() -> tuple[int, int]:
    """Which of how many processes this is that train a network together: those of `torchrun`."""
    if not distributed.is_torchelastic_launched():
        return 0, 1
    if device().type == "cuda":
        torch.cuda.set_device(device())
    distributed.init_process_group("nccl" if device().type == "cuda" else "gloo")
    atexit.register(distributed.destroy_process_group)
    return distributed.get_rank(), distributed.get_world_size()


def ahead(items: Iterable) -> Iterator:
    """The same items, each being made while the one before it is worked on."""
    items = iter(items)
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Work by so many threads of torch; afterwards it has as many as before.

    For a photo or two, one is as fast as several, and waits for nobody: several wait for the
    slowest at every step, which beside other work may not get a core.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def cores(root: Path = Path("/")) -> int:
    """Cores that this process may keep busy: those it may run on, or fewer by a container's quota.

    `root` is where the files of the system are (cgroups, version 2 and 1).
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    group = root / "sys" / "fs" / "cgroup"
    for names in (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]):
        try:
            quota, period = " ".join((group / name).read_text() for name in names).split()
        except (OSError, ValueError):
            continue
        if quota.isdigit():  # neither "max" nor -1, which mean none
            allowed = min(allowed, max(1, -(-int(quota) // int(period))))
    return allowed


# Torch counts the cores of the machine, also where a container gets a part of their time.
if "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > cores():
    torch.set_num_threads(cores())
OWN_THREADS = torch.get_num_threads()


def threads_of(machine: dict[str, object]) -> int:
    """How many threads go on with a run that was begun on this `machine`: as many as before.

    Their number changes the last digits. Another one, by `OMP_NUM_THREADS` or
    `torch.set_num_threads`, is kept, and so is a smaller one of a smaller machine; both are told.
    """
    now = torch.get_num_threads()
    before = machine.get("threads", now)
    is_asked_for = "OMP_NUM_THREADS" in os.environ or now != OWN_THREADS
    if before == now or not (is_asked_for or before > cores()):
        return before
    found = f"This run was begun by {before} threads and goes on by {now}"
    tqdm.write(f"{found}: its last digits can differ.", file=sys.stderr)
    return now


def fast_precision() -> str:
    """`bfloat16` where this machine multiplies it in hardware, else `float32`."""
    if device().type == "cuda":
        is_fast = torch.cuda.is_bf16_supported(including_emulation=False)
        return "bfloat16" if is_fast else "float32"
    has_bfloat16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if has_bfloat16 else "float32"


def fine_tune(
    network: AestheticNet,
    pixels: Pixels,
    rows: np.ndarray,
    targets: torch.Tensor,
    training: Training,
    *,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = functional.cross_entropy,
    seed: int,
    title: str = "fine-tuning",
) -> float:
    """Fine-tune a network in place on some photos; returns the mean loss of the last epoch.

    `rows` (n,) are positions in `pixels`, `targets` (n, ...) what `loss(logits, targets)` compares
    a batch with, by its mean: for softmax cross-entropy the nodes of the scores, for `joint_loss`
    what `joint_targets` packs. The same seed gives the same network on the same processor. The
    processes of a `team` share each batch and train as one would, but for dropout, which each draws
    for itself, and batch normalisation by its share (ResNet-18). Raises `InputError` when the loss
    is no longer finite.
    """
    rows = torch.as_tensor(rows)
    network.to(device(), memory_format=torch.channels_last).train()
    rank, processes = team()
    shared = DistributedDataParallel(network) if processes > 1 else network
    per_epoch = -(-len(rows) // training.batch)
    left = training.steps or training.epochs * per_epoch
    optimiser, schedule = _optimiser(network, training, left)
    draw = torch.Generator().manual_seed(seed)  # of its own: others draw dropout elsewhere

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor, int, float]]:
        """Crops and targets of this process, photos of the batch, weight of this share of them."""
        if device().type == "cuda":
            torch.cuda.set_device(device())  # `ahead` has a thread, and each thread its own
        for batch in torch.randperm(len(rows), generator=draw).split(training.batch)[:left]:
            share = slice(rank if rank < len(batch) else 0, None, processes)
            crops = pixels.crops(rows[batch], view=training.crops, draw=draw, share=share)
            target, here = targets[batch[share]], rank < len(batch)
            if device().type == "cuda":
                crops = crops if crops.is_cuda else crops.pin_memory()
                crops, target = (x.to(device(), non_blocking=True) for x in (crops, target))
            yield crops, target, len(batch), here * len(target) * processes / len(batch)

    with torch.random.fork_rng():
        torch.manual_seed(seed + rank)
        epochs = range(-(-left // per_epoch))
        bar = tqdm(epochs, title, unit="epoch", mininterval=5, disable=rank > 0)
        for _epoch in bar:
            total, seen = torch.zeros((), device=device()), 0
            for crops, target, count, share in ahead(batches()):
                with _autocast(training.precision):
                    # (batch, nodes)
                    logits = shared(normalised(crops, shrink_to=training.shrink_to))
                batch_loss = loss(logits, target) * share
                optimiser.zero_grad(set_to_none=True)
                batch_loss.backward()
                optimiser.step()
                schedule.step()
                total += batch_loss.detach() * (count / processes)
                seen += count
            left -= per_epoch
            if processes > 1:
                distributed.all_reduce(total)
            mean_loss = total.item() / seen
            if not np.isfinite(mean_loss):
                raise InputError(
                    f"The training loss became {mean_loss} while {title}; lower the learning rates "
                    f"({training.learning_rate:g} and {training.head_learning_rate:g})."
                )
            bar.set_postfix(loss=f"{mean_loss:.3f}")
    for buffer in network.buffers() if processes > 1 else ():
        distributed.broadcast(buffer, 0)
    return mean_loss


def sample_weights(
    mean_scores: np.ndarray, ambiguous: tuple[float, float], ab: tuple[float, float]
) -> np.ndarray:
    """Weight a of photos (n,) of a mean score inside the open interval, else b (AWCU-2018 eq. 9).

    >>> sample_weights(np.array([3.0, 4.0, 5.2]), (4, 6), (1, 7)).tolist()
    [7.0, 7.0, 1.0]
    """
    inside = (ambiguous[0] < mean_scores) & (mean_scores < ambiguous[1])
    return np.where(inside, *map(float, ab))


def soft_attributes(photos: ScoredPhotos, names: Sequence[str], train: np.ndarray) -> pd.DataFrame:
    """Some attributes as targets of a sigmoid: a row a photo, values in 0..1, NaN if not known.

    A name stands for its column, or for all columns `name=value`. What lies within 0..1 on the
    training photos (positions `train`) is taken as it is; on another scale it becomes 1 above its
    median over them, else 0. Raises `InputError` where none of them has the attribute.
    """
    known = photos.table[[]] if photos.attributes is None else photos.attributes
    seen = known.iloc[train].dropna(axis=1, how="all")
    columns = {name: [c for c in seen if name in (c, c.split("=")[0])] for name in names}
    if lacking := [name for name, own in columns.items() if not own]:
        there = ", ".join(dict.fromkeys(c.split("=")[0] for c in seen)) or "none"
        raise InputError(
            f"The attribute {lacking[0]!r} is needed, known of the training photos are {there}; "
            "choose among them, or add it to the table of scores."
        )
    chosen = [column for own in columns.values() for column in own]
    values, seen = known[chosen].astype(np.float32), seen[chosen]
    above = (values > seen.median()).astype(np.float32).where(values.notna())
    scaled = (seen.min() >= 0) & (seen.max() <= 1)
    return pd.DataFrame(np.where(scaled, values, above), columns=chosen)


def joint_targets(
    nodes: torch.Tensor, weights: np.ndarray, attributes: np.ndarray, *, literal: bool = False
) -> torch.Tensor:
    """Targets (n, 2 + attributes) of `joint_loss`: level's node, weight, attributes (n, any).

    Unless `literal`, weights (n,) are scaled to mean 1 and so do not change the learning rate.
    Raises `InputError` where all are 0.
    """
    if not weights.any():
        found = f"all {len(weights)} training photos are ambiguous and have weight 0"
        raise InputError(f"Photos to learn from are needed, {found}; narrow the interval.")
    weights = weights if literal else weights / weights.mean()
    return torch.from_numpy(np.column_stack([nodes, weights, attributes]).astype(np.float32))


def joint_loss(
    logits: torch.Tensor,
    targets: torch.Tensor,
    *,
    level_loss: Callable = cross_entropy,
) -> torch.Tensor:
    """Weighted softmax cross-entropy of the level plus sigmoid cross-entropies of the attributes,
    of `logits` (batch, levels + attributes); unknown (NaN) ones add 0 (AWCU-2018 eq. 3 and 9).

    `level_loss` (logits, nodes) is another loss (batch,) of the level.
    """
    node, weight, attributes = targets[:, 0].long(), targets[:, 1], targets[:, 2:]
    level, attribute = logits.tensor_split([logits.shape[1] - attributes.shape[1]], 1)
    of_level = weight * level_loss(level, node)  # (batch,)
    known, truth = attributes.isfinite().float(), attributes.nan_to_num()
    bce = functional.binary_cross_entropy_with_logits(attribute, truth, known, reduction="sum")
    return of_level.mean() + bce / len(targets)


def logits(
    network: AestheticNet,
    pixels: Pixels,
    rows: Sequence[int] | np.ndarray | None = None,
    *,
    precision: str = "auto",
    crops: str = "random",
    shrink_to: int | None = None,
) -> np.ndarray:
    """Logits (n, scores), float32, of all photos or some `rows`; at the centre crop, or where
    `crops` is "five" the mean over the five crops.
    """
    rows = torch.arange(len(pixels)) if rows is None else torch.as_tensor(rows)
    rank, processes = team()
    network.to(device(), memory_format=torch.channels_last).eval()
    views = five_corners() if crops == "five" else ["centre"]
    parts = [torch.empty(0, len(network.scores), device=device())]
    with torch.inference_mode(), _autocast(precision):
        for some in rows[rank::processes].split(64):
            bytes_of = (pixels.crops(some, view=view).to(device()) for view in views)
            photos = (normalised(crops, shrink_to=shrink_to) for crops in bytes_of)
            mean = sum(map(network, photos)) / len(views)  # (batch, nodes)
            parts.append(mean[:, : len(network.scores)].float())
    found = [torch.cat(parts).cpu()] * processes
    if processes > 1:
        distributed.all_gather_object(found, found[0])
    judged = torch.empty(len(rows), len(network.scores))
    for n, own in enumerate(found):
        judged[n::processes] = own
    return judged.numpy()


def likelihoods(logits: np.ndarray) -> np.ndarray:
    """Likelihood fc_s(x) = sigmoid of the fc node of score s, not the softmax (RSRL eq. 1-3).

    >>> likelihoods(np.array([0.0, 2.0])).round(3).tolist()
    [0.5, 0.881]
    """
    return expit(logits)


def judge(
    network: AestheticNet,
    pixels: Pixels,
    *,
    top_score: int,
    labels: np.ndarray | None = None,
    **view,
) -> pd.DataFrame:
    """What a network says of photos, in one pass; one row a photo. `view` is that of a `Training`.

    Columns: `label` (NA where `labels` is None), `assigned` (the score of the largest logit), and
    of the assigned score, of the label (`own`) and of `top_score` (`top`), in float32, logit and
    likelihood: `assigned_logit`, `assigned_likelihood`, `own_logit`, ... Photos are ranked by
    logits: a float32 likelihood is 1 for every logit above about 17.
    """
    values = logits(network, pixels, **view)  # (photos, scores)
    scores, rows = np.array(network.scores), np.arange(len(values))
    table = pd.DataFrame({"label": pd.array([pd.NA] * len(values), dtype="Int64")})
    own = np.full(len(values), np.nan, np.float32)
    if labels is not None:
        own = values[rows, np.searchsorted(scores, labels)]
        table["label"] = pd.array(labels, dtype="Int64")
    assigned = values.argmax(1)
    table["assigned"] = scores[assigned]
    top = values[:, network.scores.index(top_score)]
    for name, logit in {"assigned": values[rows, assigned], "own": own, "top": top}.items():
        table[f"{name}_logit"] = logit
        table[f"{name}_likelihood"] = likelihoods(logit)
    return table


def machine(precision: str) -> dict[str, object]:
    """What numbers depend on beside recipe and photos: device, precision, threads, versions."""
    names = {"torch": torch, "torchvision": torchvision, "numpy": np}
    versions = {name: module.__version__ for name, module in names.items()}
    return {
        "device": torch.cuda.get_device_name() if device().type == "cuda" else "cpu",
        "precision": fast_precision() if precision == "auto" else precision,
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version()} | versions,
    }


def _autocast(precision: str) -> torch.autocast:
    chosen = fast_precision() if precision == "auto" else precision
    return torch.autocast(device().type, torch.bfloat16, enabled=chosen == "bfloat16")


def _optimiser(network: AestheticNet, training: Training, steps: int):
    heads = [values for name, values in network.named_parameters() if not name.startswith("body.")]
    groups = [{"params": list(network.body.parameters()), "lr": training.learning_rate}]
    groups += [{"params": heads, "lr": training.head_learning_rate}]
    how = {"weight_decay": training.weight_decay, "fused": True}
    if training.optimiser == "adamw":
        optimiser = torch.optim.AdamW(groups, **how)
    else:
        optimiser = torch.optim.SGD(groups, momentum=0.9, **how)
    if training.decay == "tenths":
        return optimiser, torch.optim.lr_scheduler.StepLR(optimiser, -(-steps // 3))
    return optimiser, torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
