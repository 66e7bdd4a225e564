"""What a network sees in photos before it is trained: features, computed once, kept on the disk.

With `tune = "head"` a round trains the last layer alone. All before it gives the same features in
every round, fold and arm, and for transferred weights with every seed. So they are computed once
for the same photos, weights and view, and lie beside the decoded photos. Traded away: what random
crops would add to the training photos.
"""

import hashlib
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from rsrl_lib.files import InputError, locked, reading, replacing, writing
from rsrl_lib.machine import autocast, chosen_precision, device
from rsrl_lib.network import AestheticNet
from rsrl_lib.pixels import READING, Pixels, normalised, views_of

AT_ONCE = {"cpu": 16, "cuda": 256}
"""Photos of a batch: few where their maps stay in the processor's cache, many on a GPU."""
PIECE = 2048
"""Photos after which an embedding that is stopped goes on."""


def features(
    network: AestheticNet,
    pixels: Pixels,
    *,
    precision: str = "auto",
    crops: str = "whole",
    shrink_to: int | None = None,
) -> np.ndarray:
    """Features (n, width), float32, of photos: what the head sees, the mean over their views.

    A linear head gives the mean of a photo's logits for the mean of its features. Photos that were
    decoded to a folder have a file of features there, which is mapped, not read. Raises
    `InputError` where a feature is not finite, and where the disk cannot be written.
    """
    view = {"precision": precision, "crops": crops, "shrink_to": shrink_to}
    if pixels.folder is None:
        return np.concatenate(list(_embedded(network, pixels, 0, view)))
    name = f"{READING}-{pixels.fingerprint}-{_fingerprint(network, view)}.features"
    target = pixels.folder / f"{name}.npy"
    if not target.exists():
        with writing(target), locked(pixels.folder / f"{name}.lock", wait=True):
            if not target.exists():  # another process may have made it in the meantime
                _embed(network, pixels, view, target)
    with reading(target, "array of features", "delete it, and it is made again"):
        values = np.load(target, mmap_mode="r")
        shape = (len(pixels), network.head.in_features)
        if values.dtype != np.float32 or values.shape != shape:
            raise ValueError(f"{values.shape} of {values.dtype}")
    return values


def _fingerprint(network: AestheticNet, view: dict[str, object]) -> str:
    """Of network, view and precision, on which features depend beside the photos.

    Devices and versions of torch differ in the last digits, and share them.
    """
    digest = hashlib.sha256(f"{network.backbone} {network.kind}".encode())
    digest.update(chosen_precision(view["precision"]).encode())
    digest.update(f"{view['crops']} {view['shrink_to']}".encode())
    for values in network.body.state_dict().values():
        digest.update(values.detach().cpu().contiguous().numpy())
    return digest.hexdigest()[:16]


def _embed(
    network: AestheticNet, pixels: Pixels, view: dict[str, object], target: Path
) -> None:
    """Write the features of all photos by pieces, then as one array."""
    pieces = [
        target.with_suffix(f".{first}.piece.npy")
        for first in range(0, len(pixels), PIECE)
    ]
    done = list(takewhile(Path.exists, pieces))
    new_ones = _embedded(network, pixels, len(done) * PIECE, view)
    for piece, values in zip(pieces[len(done) :], new_ones, strict=True):
        with replacing(piece) as partial, partial.open("wb") as file:
            np.save(file, values)
    shape = (len(pixels), network.head.in_features)
    with replacing(target) as partial, partial.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for piece in pieces:
            file.write(np.load(piece).astype("<f4").tobytes())
    for piece in pieces:
        piece.unlink()


def _embedded(
    network: AestheticNet, pixels: Pixels, first: int, view: dict[str, object]
) -> Iterator[np.ndarray]:
    """Features of the photos from position `first` on, by pieces."""
    network.to(device(), memory_format=torch.channels_last).eval()
    total = len(pixels)
    bar = tqdm(None, "features", total, initial=first, unit="photo", mininterval=2)
    with bar:
        for start in range(first, total, PIECE):
            rows = torch.arange(start, min(start + PIECE, total))
            batches = []
            for some in rows.split(AT_ONCE[device().type]):
                batches.append(_of_batch(network.body, pixels, some, view))
                bar.update(len(some))
            piece = torch.cat(batches).cpu().numpy()
            if not np.isfinite(piece).all():
                raise InputError(
                    "A feature is not finite; the weights are broken, take others."
                )
            yield piece


def _of_batch(
    body: nn.Module, pixels: Pixels, rows: torch.Tensor, view: dict[str, object]
) -> torch.Tensor:
    """Features (batch, width) of some photos: the mean over their views."""
    views = views_of(view["crops"])
    total = 0
    with torch.inference_mode(), autocast(view["precision"]):
        for place in views:
            photos = pixels.crops(rows, view=place).to(device())
            seen = body(normalised(photos, shrink_to=view["shrink_to"]))
            total = total + seen.float()
    return total / len(views)
