"""Crops around what a network finds good: the region of its high level's map (AWCU-2018).

The region is where the map, at the 256 px view, reaches 30 % of its maximum; the crop is the
bounding box of its largest connected part. Boxes are left, top, right, foot; a returned one is in
whole pixels of the upright original and exact to 1/256 of its sides.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from scipy import ndimage

from rsrl_lib.activation import at_size
from rsrl_lib.photos import InputError
from rsrl_lib.pixels import SIDE

Box = tuple[float, float, float, float]
THRESHOLD, AGREEMENT = 0.3, 0.3
# Orientation, and where and how a TIFF keeps its pixels: tags that are not true of a crop.
STORAGE = (*range(254, 267), 273, 274, *range(277, 280), 284, 317, *range(322, 326), 338, 339)


def region_box(values: np.ndarray) -> Box | None:
    """Bounding box of the largest connected part of a map (S, S), in pixels of the 256 px view.

    None where its maximum is not positive: then no place speaks for the level.
    """
    large = at_size(values.astype(np.float32), (SIDE, SIDE))
    if not large.max() > 0:
        return None
    parts, _count = ndimage.label(large >= THRESHOLD * large.max())
    largest = np.bincount(parts.ravel())[1:].argmax()
    rows, columns = ndimage.find_objects(parts)[largest]
    return columns.start, rows.start, columns.stop, rows.stop


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes.

    >>> overlap((0, 0, 2, 2), (1, 0, 3, 2))
    0.3333333333333333
    """
    width, height = (max(0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1))
    areas = [(right - left) * (foot - top) for left, top, right, foot in (a, b)]
    return width * height / (sum(areas) - width * height)


def crop_box(
    aes: np.ndarray,
    size: tuple[int, int],
    *,
    att: np.ndarray | None = None,
    aspect: float | None = None,
    least: int = 1,
) -> tuple[tuple[int, int, int, int], str]:
    """Crop of a photo of `size` (width, height), and why it is the whole photo where it is.

    `aes` (S, S) is the high level's AesAM. With the `att` of an attribute the coordinates of both
    boxes are averaged where their IoU is 0.3 or more (AWCU-2018). `aspect` is width / height, to a
    pixel: the box grows to it about its centre, and shrinks only where the photo ends. `least` is
    the shortest side allowed, in pixels; the box grows to it.
    """
    if (box := region_box(aes)) is None:
        return (0, 0, *size), "the map's maximum is not positive"
    other = None if att is None else region_box(att)
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
    return box, "the region reaches all four edges" if box == (0, 0, *size) else ""


def aspect_ratio(text: str) -> float:
    """Width / height of "3:2" or the like; `InputError` for anything else.

    >>> aspect_ratio("3:2")
    1.5
    """
    try:
        width, height = (float(side) for side in text.split(":"))
        if 0 < width < np.inf and 0 < height < np.inf:
            return width / height
    except ValueError:
        pass
    raise InputError(f"The aspect ratio is {text!r}; give width:height, such as 3:2.")


def save_crop(path: str | Path, box: tuple[int, int, int, int], target: Path) -> None:
    """Write the part of a photo that lies in `box`, in the photo's own format and colours.

    The box is in pixels of the upright photo. EXIF data without the orientation and the ICC
    profile go with it. Raises `InputError` where the format can be read but not written.
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
            raise InputError(
                f"{target} cannot be written as {kind} ({error}); convert the photo to JPEG or PNG."
            ) from error
