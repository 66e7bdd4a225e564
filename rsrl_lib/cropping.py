"""Crops around what a network finds good (AWCU-2018): the bounding box of the largest connected
part where its high level's map, at the 256 px view, reaches 30 % of the maximum.

Boxes are left, top, right, foot; a crop's is exact to 1/256 of the photo's sides.
"""

import re
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps
from scipy import ndimage

from rsrl_lib.activation import at_size
from rsrl_lib.files import InputError
from rsrl_lib.pixels import SIDE

Box = tuple[int, int, int, int]
THRESHOLD, AGREEMENT = 0.3, 0.3
# Orientation, and where and how a TIFF keeps its pixels: tags that are not true of a crop.
STORAGE = (*range(254, 267), 273, 274, *range(277, 280), 284, 317, *range(322, 326), 338, 339)


def region(values: np.ndarray, *, threshold: float = THRESHOLD) -> np.ndarray:
    """Where a map (S, S) reaches `threshold` of its maximum, (256, 256) of booleans.

    Nowhere where no value is positive.
    """
    large = at_size(values.astype(np.float32), (SIDE, SIDE))
    return (large >= threshold * large.max()) & (large.max() > 0)


def largest_region(values: np.ndarray, *, threshold: float = THRESHOLD) -> np.ndarray | None:
    """Largest connected part (256, 256) of the `region` of a map (S, S), None without one."""
    parts, count = ndimage.label(region(values, threshold=threshold))
    if not count:
        return None
    return parts == 1 + np.bincount(parts.ravel())[1:].argmax()


def region_box(values: np.ndarray, *, threshold: float = THRESHOLD) -> Box | None:
    """Box of the `largest_region` of a map in pixels of the 256 px view, None without one."""
    if (part := largest_region(values, threshold=threshold)) is None:
        return None
    return Image.fromarray(part).getbbox()


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    width, height = (max(0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1))
    areas = [(right - left) * (foot - top) for left, top, right, foot in (a, b)]
    return width * height / (sum(areas) - width * height)


def crop_box(
    aes: np.ndarray,
    size: tuple[int, int],
    *,
    att: np.ndarray | None = None,
    threshold: float = THRESHOLD,
    aspect: float | None = None,
    least: int = 1,
) -> tuple[Box, str]:
    """Crop of a photo of `size` (width, height) in its pixels, and why it is all of it where it is.

    `aes` (S, S) is the high level's AesAM, `att` an AttAM: where the IoU of their boxes is 0.3 or
    more, coordinates are averaged (AWCU-2018). To `aspect` (width / height) and to a shortest side
    of `least` pixels the box grows about its centre, as far as the photo reaches.
    """
    if (box := region_box(aes, threshold=threshold)) is None:
        return (0, 0, *size), "the map's maximum is not positive"
    other = None if att is None else region_box(att, threshold=threshold)
    if other and overlap(box, other) >= AGREEMENT:
        box = np.mean([box, other], 0)
    start, stop = np.reshape(box, (2, 2)) * size / SIDE
    start, stop = np.floor(start), np.ceil(stop)
    sides = np.maximum(stop - start, least)
    if aspect is not None:
        sides = np.array([aspect, 1]) * max(sides[0] / aspect, sides[1])
        sides *= min(1, *(size / sides))
    sides = np.clip(sides.round(), 1, size)
    if min(sides) < least:
        return (0, 0, *size), f"no crop with sides of {least} pixels or more fits"
    start = np.clip(((start + stop - sides) / 2).round(), 0, size - sides)
    box = tuple(np.concatenate([start, start + sides]).astype(int).tolist())
    return box, "the crop reaches all four edges" if box == (0, 0, *size) else ""


def aspect_ratio(text: str) -> float:
    """Width / height of "3:2" or the like; `InputError` for anything else."""
    sides = re.fullmatch(r"(\d*\.?\d+):(\d*\.?\d+)", text)
    if not sides or float(sides[1]) * float(sides[2]) == 0:
        raise InputError(f"The aspect ratio is {text!r}; give width:height, such as 3:2.")
    return float(sides[1]) / float(sides[2])


def save_crop(path: str | Path | BinaryIO, box: Box, target: Path | BinaryIO) -> None:
    """Write the part in `box` of the upright photo in its own format, with EXIF and ICC profile.

    Raises `InputError` where the format can be read but not written.
    """
    with Image.open(path) as image:
        exif = image.getexif()
        upright = ImageOps.exif_transpose(image)
        for tag in STORAGE:
            exif.pop(tag, None)
        kept = {"exif": exif, "icc_profile": image.info.get("icc_profile")}
        kind = "JPEG" if image.format == "MPO" else image.format
        kept |= {"quality": 95} if kind in ("JPEG", "WEBP") else {}
        try:
            upright.crop(box).save(target, kind, **kept)
        except (OSError, KeyError, ValueError) as error:
            found = f"{getattr(target, 'name', 'The crop')} cannot be written as {kind} ({error})"
            raise InputError(f"{found}; convert the photo to JPEG or PNG.") from error
