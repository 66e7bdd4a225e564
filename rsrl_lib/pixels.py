"""Photos as one array of bytes: decoded once, then cropped and mirrored as tensors.

A retraining loop reads each photo hundreds of times, so every photo is decoded, turned upright
and resized to 256 x 256 once, into an uncompressed memory map. Traded away: aspect ratio (as in
the papers) and disk, 197 kB a photo.
"""

import hashlib
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch.nn.functional import interpolate
from tqdm.auto import tqdm

from rsrl_lib.photos import ROOT, InputError, open_rgb

CACHE = ROOT / "data" / "cache"
SIDE = 256
CROP = 227
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Pixels:
    """Decoded photos: `array` (n, 256, 256, 3) of uint8, and `fingerprint`, a hash of the files."""

    array: np.ndarray
    fingerprint: str

    def __len__(self) -> int:
        return len(self.array)

    def crops(self, rows: Sequence[int] | np.ndarray, *, view: str | tuple) -> torch.Tensor:
        """Bytes of some photos in one of five views, (batch, 3, side, side), channels last.

        `view` is `"random"` (227 px crop at a random place, mirrored for half of the photos, from
        torch's global generator), `"five"` (one of the `five_corners`, drawn for each photo),
        `"centre"` (the 227 px centre), a crop's top and left, or `"whole"` (all 256 px).
        """
        photos = torch.from_numpy(self.array[np.asarray(rows)])  # (batch, 256, 256, 3)
        if view == "whole":
            return photos.permute(0, 3, 1, 2)
        if view == "centre" or isinstance(view, tuple):
            top, left = five_corners()[-1] if view == "centre" else view
            window = photos[:, top : top + CROP, left : left + CROP]
            return window.contiguous().permute(0, 3, 1, 2)
        crops = torch.empty(len(photos), CROP, CROP, 3, dtype=torch.uint8)
        if view == "random":
            corners = torch.randint(SIDE - CROP + 1, (len(photos), 2)).tolist()
            mirrored = (torch.rand(len(photos)) < 0.5).tolist()
        elif view == "five":
            corners = [five_corners()[i] for i in torch.randint(5, (len(photos),))]
            mirrored = [False] * len(photos)
        else:
            raise ValueError(f"view must be one of the five above, not {view!r}")
        for crop, photo, (top, left), mirror in zip(crops, photos, corners, mirrored, strict=True):
            window = photo[top : top + CROP, left : left + CROP]
            crop.copy_(window.flip(1) if mirror else window)
        return crops.permute(0, 3, 1, 2)


def five_corners() -> list[tuple[int, int]]:
    """Top and left of the five crops of AWCU-2018: the four corners, then the centre."""
    far, middle = SIDE - CROP, (SIDE - CROP) // 2
    return [(0, 0), (0, far), (far, 0), (far, far), (middle, middle)]


def normalised(crops: torch.Tensor, *, shrink_to: int | None = None) -> torch.Tensor:
    """Bytes 0..255 (batch, 3, h, w) to what ImageNet networks expect: float32, mean 0, spread 1;
    of another size where `shrink_to` names a side in pixels."""
    if shrink_to:
        crops = interpolate(crops.float(), (shrink_to, shrink_to), mode="bilinear", antialias=True)
    scale = torch.tensor([1 / (255 * s) for s in STD], device=crops.device).view(3, 1, 1)
    shift = torch.tensor([m / s for m, s in zip(MEAN, STD, strict=True)], device=crops.device)
    return crops.float().mul_(scale).sub_(shift.view(3, 1, 1))


def square(photo: Image.Image) -> np.ndarray:
    """An upright RGB photo as every network here sees it: bilinear to (256, 256, 3) uint8."""
    return np.array(photo.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def decode(
    table: pd.DataFrame, *, strict: bool = True, cache: Path = CACHE
) -> tuple[Pixels, pd.DataFrame]:
    """Decode the photos of a table once and keep them in a file named by their contents.

    `table` has the columns `photo` and `path`. Returned are the pixels of the readable photos, in
    the table's order, and a table (photo, reason) of those left out. With `strict` the first
    unreadable photo raises `InputError` instead, and nothing is kept.
    """
    paths = list(table["path"])
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = list(pool.map(_digest, paths))
        fingerprint = hashlib.sha256("".join(digests).encode()).hexdigest()[:16]
        target, broken_list = cache / f"{fingerprint}.npy", cache / f"{fingerprint}.broken.npy"
        if not (target.exists() and broken_list.exists()):
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cache) as scratch:
                partial = Path(scratch) / "partial.npy"
                array = _new_map(partial, len(paths))

                def decode_row(row: int) -> bool:
                    try:
                        array[row] = square(open_rgb(paths[row]))
                    except InputError:
                        return False
                    return True

                rows = tqdm(
                    pool.map(decode_row, range(len(paths))),
                    "decoding",
                    len(paths),
                    unit="photo",
                    mininterval=2,
                )
                readable = np.fromiter(rows, bool, len(paths))
                broken = np.flatnonzero(~readable)
                if len(broken) and strict:
                    raise InputError(_why(paths[broken[0]], len(broken), len(paths)))
                if len(broken):
                    whole, partial = array, Path(scratch) / "readable.npy"
                    array = _new_map(partial, int(readable.sum()))
                    for row, source in enumerate(np.flatnonzero(readable)):
                        array[row] = whole[source]
                array.flush()
                np.save(Path(scratch) / "broken.npy", broken)
                (Path(scratch) / "broken.npy").replace(broken_list)
                partial.replace(target)
    broken = np.load(broken_list)
    if len(broken) and strict:
        raise InputError(_why(paths[broken[0]], len(broken), len(paths)))
    left_out = table[["photo"]].iloc[broken].reset_index(drop=True)
    left_out["reason"] = [_reason(paths[row]) for row in broken]
    return Pixels(np.load(target, mmap_mode="r"), fingerprint), left_out


def _new_map(path: Path, count: int) -> np.memmap:
    return np.lib.format.open_memmap(path, "w+", np.uint8, (count, SIDE, SIDE, 3))


def _reason(path: str) -> str:
    """Why a photo cannot be read: asked anew, since the list names it by its row alone."""
    try:
        open_rgb(path)
    except InputError as error:
        return str(error)
    return f"{path} could not be read when the photos were decoded."


def _why(path: str, broken: int, total: int) -> str:
    return (
        f"{_reason(path).rstrip('.')} ({broken} of {total} photos are unreadable; --skip-broken, "
        "or a reader's strict=False, leaves them out)."
    )


def _digest(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        # Decoding names the photo and says what to do; here it only has to be told apart.
        return f"unreadable {path}: {error.strerror}"
