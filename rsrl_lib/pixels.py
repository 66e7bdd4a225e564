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

    def crops(self, rows: Sequence[int] | np.ndarray, *, view: str) -> torch.Tensor:
        """Bytes of some photos in one of three views, (batch, 3, side, side), channels last.

        `view` is `"random"` (227 px crop at a random place, mirrored for half of the photos, from
        torch's global generator), `"centre"` (the 227 px centre) or `"whole"` (all 256 px).
        """
        photos = torch.from_numpy(self.array[np.asarray(rows)])  # (batch, 256, 256, 3)
        if view == "whole":
            return photos.permute(0, 3, 1, 2)
        if view == "centre":
            first = (SIDE - CROP) // 2
            centre = photos[:, first : first + CROP, first : first + CROP]
            return centre.contiguous().permute(0, 3, 1, 2)
        if view != "random":
            raise ValueError(f"view must be 'random', 'centre' or 'whole', not {view!r}")
        crops = torch.empty(len(photos), CROP, CROP, 3, dtype=torch.uint8)
        corners = torch.randint(SIDE - CROP + 1, (len(photos), 2)).tolist()
        mirrored = (torch.rand(len(photos)) < 0.5).tolist()
        for crop, photo, (top, left), mirror in zip(crops, photos, corners, mirrored, strict=True):
            window = photo[top : top + CROP, left : left + CROP]
            crop.copy_(window.flip(1) if mirror else window)
        return crops.permute(0, 3, 1, 2)


def normalised(crops: torch.Tensor) -> torch.Tensor:
    """Bytes 0..255 (batch, 3, h, w) to what ImageNet networks expect: float32, mean 0, spread 1."""
    scale = torch.tensor([1 / (255 * s) for s in STD], device=crops.device).view(3, 1, 1)
    shift = torch.tensor([m / s for m, s in zip(MEAN, STD, strict=True)], device=crops.device)
    return crops.float().mul_(scale).sub_(shift.view(3, 1, 1))


def square(path: str | Path) -> np.ndarray:
    """One photo as every network here sees it: upright RGB, bilinear to (256, 256, 3) uint8."""
    return np.asarray(open_rgb(path).resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def decode(
    table: pd.DataFrame, *, strict: bool = True, cache: Path = CACHE
) -> tuple[Pixels, pd.DataFrame]:
    """Decode the photos of a table once and keep them in a file named by their contents.

    `table` has the columns `photo` and `path`. Returned are the pixels of the readable photos, in
    the table's order, and a table (photo, reason) of those left out. With `strict` the first
    unreadable photo raises `InputError` instead.
    """
    paths = list(table["path"])
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = list(pool.map(_digest, paths))
        fingerprint = hashlib.sha256("".join(digests).encode()).hexdigest()[:16]
        target = cache / f"{fingerprint}.npy"
        broken = cache / f"{fingerprint}.left_out.csv"
        if not target.exists():
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cache) as scratch:
                partial = Path(scratch) / "partial.npy"
                shape = (len(paths), SIDE, SIDE, 3)
                array = np.lib.format.open_memmap(partial, "w+", np.uint8, shape)

                def decode_row(row: int) -> str:
                    try:
                        array[row] = square(paths[row])
                    except InputError as error:
                        return str(error)
                    return ""

                rows = pool.map(decode_row, range(len(paths)))
                reasons = list(tqdm(rows, "decoding", len(paths), unit="photo", mininterval=2))
                array.flush()
                reasons = pd.DataFrame({"row": range(len(paths)), "reason": reasons})
                reasons[reasons.reason != ""].to_csv(Path(scratch) / "broken.csv", index=False)
                (Path(scratch) / "broken.csv").replace(broken)
                partial.replace(target)
    missing = pd.read_csv(broken)
    if strict and len(missing):
        raise InputError(
            f"{missing.reason[0].rstrip('.')} ({len(missing)} of {len(paths)} photos are "
            "unreadable; --skip-broken leaves them out)."
        )
    array = np.load(target, mmap_mode="r")
    left_out = pd.DataFrame(
        {"photo": table["photo"].to_numpy()[missing.row], "reason": missing.reason}
    )
    if len(missing):
        array = _Rows(array, np.setdiff1d(np.arange(len(paths)), missing.row))
    return Pixels(array, fingerprint), left_out


class _Rows:
    """Some rows of a memory map, without reading the others."""

    def __init__(self, array: np.ndarray, rows: np.ndarray):
        self.array, self.rows = array, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index) -> np.ndarray:
        return self.array[self.rows[index]]


def _digest(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        # Decoding names the photo and says what to do; here it only has to be told apart.
        return f"unreadable {path}: {error.strerror}"
