"""Photos as one array of bytes: decoded once, then cropped and mirrored as tensors.

A retraining loop reads each photo hundreds of times, so every photo is decoded, turned upright
and resized to 256 x 256 once, into an uncompressed memory map. Traded away: aspect ratio (as in
the papers) and disk, 197 kB a photo. A network that was made for larger photos gets larger ones;
its crops are the same share of them.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch.nn.functional import interpolate
from tqdm.auto import tqdm

from rsrl_lib.files import (
    CACHE,
    InputError,
    locked,
    reading,
    replacing,
    size_of,
    to_disk,
    writing,
)
from rsrl_lib.reading.pictures import open_rgb
from rsrl_lib.recipe import CROP, SIDE

READING = 2
"""Counted up where a file becomes another picture than before: then it is decoded anew."""
CHUNK = 512
"""Photos, about 100 MB, after which decoding notes how far it is."""
PASSING = {
    errno.EIO,
    errno.ESTALE,
    errno.ENOTCONN,
    errno.ETIMEDOUT,
    errno.EMFILE,
    errno.ENOMEM,
}
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Pixels:
    """Decoded photos."""

    array: np.ndarray
    """(n, side, side, 3), uint8; the side is 256 where no network needs more."""
    fingerprint: str = ""
    """Of the contents of the photos' files; empty where they come from none."""
    digests: np.ndarray | None = None
    """Of the content of each photo's file (n,), where they come from files."""
    folder: Path | None = None
    """Where they are kept, where they are."""

    def __len__(self) -> int:
        return len(self.array)

    @property
    def side(self) -> int:
        """Side of the photos, in pixels."""
        return self.array.shape[1]

    @property
    def name(self) -> str:
        """Of their file, and the beginning of the names of files that are made of it."""
        return _name(self.fingerprint, self.side)

    def crops(
        self,
        rows: Sequence[int] | np.ndarray,
        *,
        view: str | tuple,
        draw: torch.Generator | None = None,
        share: slice = slice(None),
    ) -> torch.Tensor:
        """Bytes of some photos in one of six views, (batch, 3, side, side), channels last; crops,
        which networks learn and judge by, on the GPU where the photos are held there.

        `view` is `"random"` (crop at a random place, mirrored for half of the photos), `"five"`
        (one of the `five_corners`, drawn for each photo), `"centre"` (the centre crop), a crop's
        top and left, `"whole"` (all of the photo), or `"mirrored"` (all of it, turned about).
        Crops of 256 px photos have 227 px. Places are drawn by `draw`, else by torch's global
        generator, for all `rows`; `share` says which of them are cut.
        """
        rows = torch.as_tensor(rows)
        count = len(rows)
        is_whole = view in ("whole", "mirrored")
        side = self.side if is_whole else crop_of(self.side)
        corners = torch.zeros(count, 2, dtype=int)
        mirrored = torch.zeros(count, dtype=bool)
        if view == "random":
            places = self.side - side + 1
            corners = torch.randint(places, (count, 2), generator=draw)
            mirrored = torch.rand(count, generator=draw) < 0.5
        elif view == "five":
            which = torch.randint(5, (count,), generator=draw)
            corners = torch.tensor(five_corners(self.side))[which]
        elif view == "centre":
            corners += torch.tensor(five_corners(self.side)[-1])
        elif isinstance(view, tuple):
            corners += torch.tensor(view)
        elif view == "mirrored":
            mirrored[:] = True
        elif view != "whole":
            raise ValueError(f"view must be one of the six above, not {view!r}")
        place = rows[share], corners[share], mirrored[share], side
        if view == "whole" or self.on_gpu is None:
            cut = windows(self.array, *place)
        else:
            cut = windows_at_once(self.on_gpu, *place)
        return cut.permute(0, 3, 1, 2)

    @cached_property
    def on_gpu(self) -> torch.Tensor | None:
        """The array in the GPU's memory, where it takes at most two thirds of what is free."""
        if not torch.cuda.is_available():
            return None
        free = torch.cuda.mem_get_info()[0]
        if self.array.nbytes >= 2 / 3 * free:
            return None
        held = torch.empty(self.array.shape, dtype=torch.uint8, device="cuda")
        for first in range(0, len(self), CHUNK):
            chunk = slice(first, first + CHUNK)
            held[chunk] = torch.tensor(self.array[chunk])
        return held


def windows(array: np.ndarray, rows, corners, mirrored, side: int) -> torch.Tensor:
    """Windows (n, side, side, 3) of photos, copied one by one, which suits a processor best."""
    copies = np.empty((len(rows), side, side, 3), np.uint8)
    rows = rows.tolist()
    corners = corners.tolist()
    mirrored = mirrored.tolist()
    for number, copy in enumerate(copies):
        top, left = corners[number]
        foot = top + side
        right = left + side
        window = array[rows[number], top:foot, left:right]
        if mirrored[number]:
            window = window[:, ::-1]
        copy[:] = window
    return torch.from_numpy(copies)


def windows_at_once(
    photos: torch.Tensor, rows, corners, mirrored, side: int
) -> torch.Tensor:
    """The same windows in one gathering, which suits a GPU."""
    forwards = torch.arange(side)
    backwards = side - 1 - forwards
    is_mirrored = mirrored[:, None]
    along = torch.where(is_mirrored, backwards, forwards)  # (n, side)
    top = corners[:, :1]
    left = corners[:, 1:]
    down = top + forwards
    across = left + along

    photo_of_pixel = rows[:, None, None]
    row_of_pixel = down[:, :, None]
    column_of_pixel = across[:, None, :]
    indices = []
    for index in (photo_of_pixel, row_of_pixel, column_of_pixel):
        indices.append(index.to(photos.device, non_blocking=True))
    return photos[tuple(indices)]


def crop_of(side: int) -> int:
    """Side of the crops of photos of a side, in pixels.

    >>> crop_of(256), crop_of(325)
    (227, 288)
    """
    return round(side * CROP / SIDE)


def side_for(crop: int) -> int:
    """Side of the photos whose crops are so large, in pixels; 256 at least.

    >>> side_for(224), side_for(288)
    (256, 325)
    """
    return max(SIDE, round(crop * SIDE / CROP))


def views_of(crops: str, side: int = SIDE) -> list[str | tuple[int, int]]:
    """Views of a photo that are judged, for the crops that a network was trained on.

    Of "random" ones the centre, of "five" all of them, of "resized" photos the whole one, of
    "whole" photos also the mirrored one.
    """
    if crops == "resized":
        return ["whole"]
    if crops == "five":
        return five_corners(side)
    if crops == "whole":
        return ["whole", "mirrored"]
    return ["centre"]


def five_corners(side: int = SIDE) -> list[tuple[int, int]]:
    """Top and left of the five crops of AWCU-2018: the four corners, then the centre."""
    far = side - crop_of(side)
    middle = far // 2
    return [
        (0, 0),
        (0, far),
        (far, 0),
        (far, far),
        (middle, middle),
    ]


def normalised(photos: torch.Tensor, *, shrink_to: int | None = None) -> torch.Tensor:
    """Bytes 0..255 (batch, 3, side, side) to what ImageNet networks expect: float32, mean 0,
    spread 1.

    `shrink_to` is the side in pixels that 227 px crops are shrunk to; every other view, those of
    larger photos too, is shrunk by the same factor, as a network knows things by the size that it
    learned them in.
    """
    if shrink_to:
        side = photos.shape[-1]
        shrunk_side = round(side * shrink_to / CROP)
        if photos.is_cuda:  # only a processor resizes bytes, twenty times as fast
            photos = photos.float()
        photos = interpolate(
            photos,
            (shrunk_side, shrunk_side),
            mode="bilinear",
            antialias=True,
        )
    # (photos / 255 - mean) / std, as one product and one difference.
    scale = []
    shift = []
    for mean, std in zip(MEAN, STD, strict=True):
        scale.append(1 / (255 * std))
        shift.append(mean / std)
    scale = torch.tensor(scale, device=photos.device)
    shift = torch.tensor(shift, device=photos.device)
    scaled = photos.float().mul_(scale.view(3, 1, 1))
    return scaled.sub_(shift.view(3, 1, 1))


def square(photo: Image.Image, side: int = SIDE) -> np.ndarray:
    """An upright RGB photo as every network here sees it: bilinear to (side, side, 3) uint8."""
    resized = photo.resize((side, side), Image.Resampling.BILINEAR)
    return np.array(resized)


def pixels_of(
    images: Iterable[Image.Image | np.ndarray | torch.Tensor], side: int = SIDE
) -> Pixels:
    """Pixels of pictures that are in memory: PIL's, or bytes (h, w, 3) or (3, h, w), uint8.

    A tensor (n, 3, h, w) is n of them. They become squares as `square` makes them. Raises
    `InputError` for other shapes and kinds.
    """
    squares = [
        square(_as_rgb(image, number), side) for number, image in enumerate(images)
    ]
    array = np.stack(squares) if squares else np.empty((0, side, side, 3), np.uint8)
    digests = [hashlib.sha256(photo.tobytes()).hexdigest() for photo in array]
    fingerprint = hashlib.sha256("".join(digests).encode()).hexdigest()[:16]
    return Pixels(array, fingerprint, np.array(digests))


def _as_rgb(image: Image.Image | np.ndarray | torch.Tensor, number: int) -> Image.Image:
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    values = (
        image.cpu().numpy() if isinstance(image, torch.Tensor) else np.asarray(image)
    )
    if values.ndim == 3 and values.shape[0] == 3 and values.shape[-1] != 3:
        values = values.transpose(1, 2, 0)
    if values.dtype != np.uint8 or values.ndim != 3 or values.shape[-1] != 3:
        raise InputError(
            f"Picture {number} is {values.dtype} of shape {values.shape}; give bytes (uint8) of "
            "shape (height, width, 3) or (3, height, width)."
        )
    return Image.fromarray(np.ascontiguousarray(values))


def at_size(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A map (S, S) at the size (width, height) of a photo: bilinear, float32 (height, width)."""
    as_image = Image.fromarray(values)
    resized = as_image.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(resized)


def decode(
    table: pd.DataFrame, *, strict: bool = True, cache: Path = CACHE, side: int = SIDE
) -> tuple[Pixels, pd.DataFrame]:
    """Decode the photos of a table once and keep them in a file named by their contents.

    `table` has the columns `photo` and `path`, `side` is that of the decoded photos in pixels, as
    `backbones.side_of` tells it. Returned are the pixels of the readable photos, in the table's
    order, and a table (photo, reason) of those left out; with `strict` an unreadable
    photo raises `InputError`, as do too small a disk and one that cannot be written. A decoding
    that was stopped goes on where it was, and a second process waits for the first.
    """
    paths = list(table["path"])
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = []
        for first in range(0, len(paths), CHUNK):  # as every task that waits takes 2 kB
            chunk = paths[first : first + CHUNK]
            digests += pool.map(_digest, chunk)
        all_digests = "".join(digests).encode()
        fingerprint = hashlib.sha256(all_digests).hexdigest()[:16]
        name = _name(fingerprint, side)
        target = cache / f"{name}.npy"
        broken_list = cache / f"{name}.broken.npy"

        def is_there() -> bool:
            return target.exists() and broken_list.exists()

        if not is_there():
            with writing(target), locked(cache / f"{name}.lock", wait=True):
                if not is_there():  # another process may have made it in the meantime
                    _decode(paths, digests, side, pool, target, broken_list)
    with reading(target, "array of decoded photos", "delete it, and it is made again"):
        broken = np.load(broken_list)
        array = np.load(target, mmap_mode="r")
        readable = len(paths) - len(broken)
        has_shape = array.shape == (readable, side, side, 3)
        if array.dtype != np.uint8 or not has_shape:
            raise ValueError(f"{array.shape} of {array.dtype}")
        photos_left_out = table[["photo"]].iloc[broken]
        left_out = photos_left_out.reset_index(drop=True)
    if len(broken) and strict:
        first_broken = paths[broken[0]]
        reason = _reason(first_broken).rstrip(".")
        raise InputError(
            f"{reason} ({len(broken)} of {len(paths)} photos are unreadable; "
            "--skip-broken leaves them out)."
        )
    left_out["reason"] = [_reason(paths[row]) for row in broken]
    digests_of_readable = np.delete(digests, broken)
    return Pixels(array, fingerprint, digests_of_readable, cache), left_out


def _name(fingerprint: str, side: int) -> str:
    """Of the file of decoded photos, by what their files hold and the side they are decoded at."""
    name = f"{READING}-{fingerprint}"
    return name if side == SIDE else f"{name}-{side}px"


def _decode(
    paths: list[str],
    digests: list[str],
    side: int,
    pool: ThreadPoolExecutor,
    target: Path,
    broken_list: Path,
) -> None:
    """Append photos to a file; what the notes beside it call done is on the disk.

    Appended, not mapped: a disk that is full is then an error of writing, not a dead process.
    """
    partial = target.with_suffix(".partial")
    notes = target.with_suffix(".notes")
    done = 0
    broken = []
    if partial.exists() and notes.exists():
        done, broken = json.loads(notes.read_text())
    count = len(paths)
    size = side * side * 3  # bytes of a photo
    _check_room(target.parent, count, (count - done) * size)
    gigabytes = count * size / 1e9
    title = f"decoding to {gigabytes:.2f} GB"
    bar = tqdm(None, title, count, initial=done, unit="photo", mininterval=2)
    mode = "r+b" if done else "w+b"
    with partial.open(mode) as file, bar:
        _keep_photos(file, done - len(broken), side)
        while done < count:
            chunk = slice(done, done + CHUNK)
            photos = pool.map(_decoded, paths[chunk], digests[chunk], repeat(side))
            for row, photo in enumerate(photos, done):
                if photo is None:
                    broken.append(row)
                else:
                    file.write(photo)
                bar.update()
            done = min(done + CHUNK, count)
            file.flush()
            to_disk(file.fileno())
            with replacing(notes) as new:
                new.write_text(json.dumps([done, broken]))
        _keep_photos(file, done - len(broken), side)
    with replacing(broken_list) as new, new.open("wb") as file:
        np.save(file, np.array(broken, int))
    with replacing(target) as new:
        partial.rename(new)
    notes.unlink()


def _check_room(folder: Path, count: int, needed: int) -> None:
    """`InputError` where a disk has no room for the bytes of photos that are not decoded yet."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"Decoding {count} photos takes {needed / 1e9:.2f} GB in {folder}, "
            f"{free / 1e9:.2f} GB are free; free more, or make it a link to a larger disk."
        )


def _keep_photos(file: BinaryIO, count: int, side: int) -> None:
    """Make a file an array of its first photos, ready to have more of them appended."""
    header = {
        "descr": "|u1",
        "fortran_order": False,
        "shape": (count, side, side, 3),
    }
    file.seek(0)
    np.lib.format.write_array_header_1_0(file, header)
    file.seek(count * side * side * 3, os.SEEK_CUR)
    file.truncate()


def _decoded(path: str, digest: str, side: int) -> np.ndarray | None:
    try:
        return square(open_rgb(path, at_least=2 * side), side)
    except InputError as error:
        # A disk, a share or the memory that failed for a moment must not brand a photo for good.
        cause = error.__cause__
        number = getattr(cause, "errno", None)
        is_passing = number in PASSING or isinstance(cause, MemoryError)
        if is_passing or _digest(path) != digest:
            raise
        return None


def _reason(path: str) -> str:
    """Why a photo cannot be read: asked anew, since the list names it by its row alone."""
    try:
        open_rgb(path)
    except InputError as error:
        return str(error)
    return f"{path} could not be read when the photos were decoded."


def _digest(path: str) -> str:
    if size_of(path) < 0:  # opening a pipe would wait forever
        return f"unreadable {path}"
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        # Decoding names the photo and says what to do; here it only has to be told apart.
        return f"unreadable {path}: {error.strerror}"
