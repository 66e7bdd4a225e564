"""One readable training loop, and the likelihoods of its network.

Everything a round does to a network happens here; precision and memory format are chosen here and
nowhere else. There are no worker processes: the photos are already bytes in memory.
"""

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import pandas as pd
import torch
import torchvision
from scipy.special import expit
from torch.nn import functional
from tqdm.auto import tqdm

from rsrl_lib.network import AestheticNet
from rsrl_lib.photos import InputError
from rsrl_lib.pixels import Pixels, normalised


@dataclass(frozen=True)
class Training:
    """How one round fine-tunes: optimiser and schedule start anew, the network goes on."""

    optimiser: Literal["adamw", "sgd"] = "adamw"
    """AdamW, or SGD with momentum 0.9 as in the papers (then learning rates near 0.001 learn)."""
    learning_rate: float = 1e-4
    """Of the transferred layers; falls to zero within each round along a cosine."""
    head_learning_rate: float = 1e-3
    """Of the new fc layer."""
    epochs: int = 5
    """Passes over the kept photos in one round (RSRL-b: 5)."""
    steps: int | None = None
    """Steps of one round, whatever the number of kept photos; instead of whole epochs."""
    batch: int = 32
    """Photos per step."""
    weight_decay: float = 5e-4
    """Decay of all weights."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """bfloat16 where the processor or GPU multiplies it in hardware, else float32."""

    def __post_init__(self):
        for name in ("learning_rate", "head_learning_rate", "epochs", "steps", "batch"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise InputError(f"{name} must be above 0, not {value}.")
        if self.weight_decay < 0:
            raise InputError(f"weight_decay must be 0 or more, not {self.weight_decay}.")


@cache
def device() -> torch.device:
    """The GPU where there is one, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def fast_precision() -> str:
    """`bfloat16` where this machine multiplies it in hardware, else `float32`."""
    if device().type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
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
    a batch with: for softmax cross-entropy the nodes of the scores. Random 227 px crops and
    mirroring; the same seed gives the same network on the same processor. Raises `InputError` when
    the loss is no longer finite.
    """
    rows = np.asarray(rows)
    network.to(device(), memory_format=torch.channels_last).train()
    per_epoch = -(-len(rows) // training.batch)
    left = training.steps or training.epochs * per_epoch
    optimiser, schedule = _optimiser(network, training, left)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        bar = tqdm(range(-(-left // per_epoch)), title, unit="epoch", mininterval=5)
        for _epoch in bar:
            total, seen = torch.zeros((), device=device()), 0
            for batch in torch.randperm(len(rows)).split(training.batch)[:left]:
                crops = pixels.crops(rows[batch.numpy()], view="random")
                target = targets[batch].to(device())
                with _autocast(training.precision):
                    logits = network(normalised(crops.to(device())))  # (batch, scores)
                batch_loss = loss(logits, target)
                optimiser.zero_grad(set_to_none=True)
                batch_loss.backward()
                optimiser.step()
                schedule.step()
                total += batch_loss.detach() * len(batch)
                seen += len(batch)
            left -= per_epoch
            mean_loss = total.item() / seen
            if not np.isfinite(mean_loss):
                raise InputError(
                    f"The training loss became {mean_loss} while {title}; lower the learning rates "
                    f"({training.learning_rate:g} and {training.head_learning_rate:g})."
                )
            bar.set_postfix(loss=f"{mean_loss:.3f}")
    return mean_loss


def logits(
    network: AestheticNet,
    pixels: Pixels,
    rows: Sequence[int] | np.ndarray | None = None,
    *,
    precision: str = "auto",
    batch: int = 64,
) -> np.ndarray:
    """Logits (n, scores) of photos at the centre crop, float32; all photos when `rows` is None."""
    rows = np.arange(len(pixels)) if rows is None else np.asarray(rows)
    network.to(device(), memory_format=torch.channels_last).eval()
    with torch.inference_mode(), _autocast(precision):
        parts = [
            network(
                normalised(pixels.crops(rows[first : first + batch], view="centre").to(device()))
            )
            for first in range(0, len(rows), batch)
        ]
    if not parts:
        return np.empty((0, len(network.scores)), np.float32)
    return torch.cat(parts).float().cpu().numpy()


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
    precision: str = "auto",
) -> pd.DataFrame:
    """What a network says of photos, in one pass; one row a photo.

    Columns: `label` (NA where `labels` is None), `assigned` (the score of the largest node), and in
    float32 `assigned_likelihood`, `own_likelihood` (of the label), `top_likelihood` (of
    `top_score`).
    """
    judged = likelihoods(logits(network, pixels, precision=precision))  # (photos, scores)
    scores = np.array(network.scores)
    table = pd.DataFrame({"label": pd.array([pd.NA] * len(judged), dtype="Int64")})
    own = np.full(len(judged), np.nan)
    if labels is not None:
        own = judged[np.arange(len(judged)), np.searchsorted(scores, labels)]
        table["label"] = pd.array(labels, dtype="Int64")
    return table.assign(
        assigned=scores[judged.argmax(1)],
        assigned_likelihood=judged.max(1).astype(np.float32),
        own_likelihood=own.astype(np.float32),
        top_likelihood=judged[:, network.scores.index(top_score)].astype(np.float32),
    )


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
    head = list(network.head.parameters())
    groups = [
        {"params": list(network.body.parameters()), "lr": training.learning_rate},
        {"params": head, "lr": training.head_learning_rate},
    ]
    if training.optimiser == "adamw":
        optimiser = torch.optim.AdamW(groups, weight_decay=training.weight_decay, fused=True)
    else:
        optimiser = torch.optim.SGD(
            groups, momentum=0.9, weight_decay=training.weight_decay, fused=True
        )
    return optimiser, torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
