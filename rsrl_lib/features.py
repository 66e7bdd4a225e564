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
from tqdm.auto import tqdm

from rsrl_lib.backbones import Body, check_side
from rsrl_lib.files import InputError, locked, reading, replacing, writing
from rsrl_lib.machine import autocast, chosen_precision, device, threads
from rsrl_lib.network import AestheticNet
from rsrl_lib.pixels import Pixels, normalised, views_of
from rsrl_lib.recipe import OWN

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
    decoded to a folder have a file of features there, which is mapped, not read; several backbones
    that are joined have one each, which each alone finds, too. Raises `InputError` where a feature
    is not finite, where the photos are of another side than the network's, and where the disk
    cannot be written.
    """
    check_side(pixels.side, network.side, network.backbone)
    view = {"precision": precision, "crops": crops, "shrink_to": shrink_to}
    of_parts = []
    for part in network.parts:
        if pixels.folder is None:
            values = np.concatenate(list(_embedded(part, pixels, 0, view)))
        else:
            values = _kept(part, network.kind, pixels, view)
        of_parts.append(values)
    return of_parts[0] if len(of_parts) == 1 else np.concatenate(of_parts, 1)


def are_known(
    network: AestheticNet,
    pixels: Pixels,
    *,
    precision: str = "auto",
    crops: str = "whole",
    shrink_to: int | None = None,
) -> bool:
    """Whether `features` of the same finds them all on the disk."""
    if pixels.folder is None:
        return False
    view = {"precision": precision, "crops": crops, "shrink_to": shrink_to}
    files = (_file_of(part, network.kind, pixels, view) for part in network.parts)
    return all(file.exists() for file in files)


def _file_of(body: Body, kind: str, pixels: Pixels, view: dict[str, object]) -> Path:
    return (
        pixels.folder / f"{pixels.name}-{_fingerprint(body, kind, view)}.features.npy"
    )


def _kept(body: Body, kind: str, pixels: Pixels, view: dict[str, object]) -> np.ndarray:
    """The features of a body on the disk, which are made where they are not there."""
    target = _file_of(body, kind, pixels, view)
    if not target.exists():
        with writing(target), locked(target.with_suffix(".lock"), wait=True):
            if not target.exists():  # another process may have made it in the meantime
                _embed(body, pixels, view, target)
    with reading(target, "array of features", "delete it, and it is made again"):
        values = np.load(target, mmap_mode="r")
        shape = (len(pixels), body.width)
        if values.dtype != np.float32 or values.shape != shape:
            raise ValueError(f"{values.shape} of {values.dtype}")
    return values


def _fingerprint(body: Body, kind: str, view: dict[str, object]) -> str:
    """Of body, view and precision, on which features depend beside the photos.

    Devices and versions of torch differ in the last digits, and share them.
    """
    digest = hashlib.sha256(f"{body.name} {kind}".encode())
    digest.update(chosen_precision(view["precision"]).encode())
    digest.update(f"{view['crops']} {view['shrink_to']}".encode())
    if body.prepare is not None:
        digest.update(repr(body.prepare).encode())
    if body.name == OWN:
        digest.update(_answer(body))
    for values in body.module.state_dict().values():
        digest.update(_bytes_of(values))
    return digest.hexdigest()[:16]


def _answer(body: Body) -> bytes:
    """What a module of one's own says of noise: neither its name nor its weights tell all that it
    computes. On one thread, so that it is the same each time."""
    noise = torch.randn(
        1, 3, body.side, body.side, generator=torch.Generator().manual_seed(0)
    )
    body.module.to("cpu").eval()
    with torch.inference_mode(), threads(1):
        return _bytes_of(body(noise))


def _bytes_of(values: torch.Tensor) -> bytes:
    plain = values.detach().cpu().contiguous()
    return plain.flatten().view(torch.uint8).numpy().tobytes()


def _embed(body: Body, pixels: Pixels, view: dict[str, object], target: Path) -> None:
    """Write the features of all photos by pieces, then as one array."""
    pieces = [
        target.with_suffix(f".{first}.piece.npy")
        for first in range(0, len(pixels), PIECE)
    ]
    done = list(takewhile(Path.exists, pieces))
    new_ones = _embedded(body, pixels, len(done) * PIECE, view)
    for piece, values in zip(pieces[len(done) :], new_ones, strict=True):
        with replacing(piece) as partial, partial.open("wb") as file:
            np.save(file, values)
    shape = (len(pixels), body.width)
    with replacing(target) as partial, partial.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for piece in pieces:
            file.write(np.load(piece).astype("<f4").tobytes())
    for piece in pieces:
        piece.unlink()


def _embedded(
    body: Body, pixels: Pixels, first: int, view: dict[str, object]
) -> Iterator[np.ndarray]:
    """Features of the photos from position `first` on, by pieces."""
    body.module.to(device(), memory_format=torch.channels_last).eval()
    total = len(pixels)
    bar = tqdm(None, "features", total, initial=first, unit="photo", mininterval=2)
    with bar:
        for start in range(first, total, PIECE):
            rows = torch.arange(start, min(start + PIECE, total))
            batches = []
            for some in rows.split(AT_ONCE[device().type]):
                batches.append(_of_batch(body, pixels, some, view))
                bar.update(len(some))
            piece = torch.cat(batches).cpu().numpy()
            if not np.isfinite(piece).all():
                raise InputError(
                    "A feature is not finite; the weights are broken, take others."
                )
            yield piece


def _of_batch(
    body: Body, pixels: Pixels, rows: torch.Tensor, view: dict[str, object]
) -> torch.Tensor:
    """Features (batch, width) of some photos: the mean over their views."""
    views = views_of(view["crops"], pixels.side)
    total = 0
    with torch.inference_mode(), autocast(view["precision"]):
        for place in views:
            photos = pixels.crops(rows, view=place).to(device())
            seen = body(normalised(photos, shrink_to=view["shrink_to"]))
            total = total + seen.float()
    return total / len(views)
