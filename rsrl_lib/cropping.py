"""Crops around what a network finds good (AWCU-2018): the bounding box of the largest connected
part where its high level's map, at the 256 px view, reaches 30 % of the maximum. Or by the map of
an attribute, or by both, where their boxes agree.

Boxes are left, top, right, foot; a crop's is exact to 1/256 of the photo's sides.
"""

import io
import re
import warnings
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import torch
from PIL import Image
from PIL.ExifTags import IFD, Base
from torchvision.ops import box_iou

from rsrl_lib.activation import ActivationMaps
from rsrl_lib.files import InputError
from rsrl_lib.pixels import SIDE, at_size, largest_part
from rsrl_lib.reading.pictures import upright
from rsrl_lib.settings import check_type

Box = tuple[int, int, int, int]
CropMap = Literal["aes", "att", "both"]
THRESHOLD = 0.3
AGREEMENT = 0.3
"""IoU of two boxes from which on they agree; the document asks for more than it, which differs at
an exact tie alone."""
# Tags of EXIF 2.32 that are true of every part of a photo: who took it with what, when, how and
# where. What tells of all its pixels, of its file, or is of an unknown kind is not in a crop.
OF_PARTS = (270, 271, 272, 282, 283, 296, 305, 306, 315, 316, 18246, 18249, 33432)
OF_PARTS += tuple(range(40091, 40096))
EXPOSURE = (
    33434,
    33437,
    34850,
    34852,
    34855,
    *range(34864, 34870),
    36864,
    36867,
    36868,
)
EXPOSURE += (*range(36880, 36883), *range(37377, 37387), 37510, *range(37520, 37523))
EXPOSURE += (
    *range(37888, 37894),
    40960,
    40961,
    41483,
    *range(41486, 41489),
    41493,
    41495,
)
EXPOSURE += (
    *range(41728, 41731),
    *range(41985, 41997),
    *range(42032, 42038),
    42080,
    42240,
)
PLACE = range(32)
TRUE_OF_PARTS = {None: OF_PARTS, IFD.Exif: EXPOSURE, IFD.GPSInfo: PLACE}
# Descriptions of the file's pixels.
OWN_WORDS = re.compile(rb'ImageJ=|\{"shape"|<\?xml|<OME')


def region(values: np.ndarray, *, threshold: float = THRESHOLD) -> np.ndarray:
    """Where a map (S, S) reaches `threshold` of its maximum, (256, 256) of booleans.

    Nowhere where no value is positive.
    """
    large = at_size(values.astype(np.float32), (SIDE, SIDE))
    highest = large.max()
    is_high = large >= threshold * highest
    return is_high & (highest > 0)


def largest_region(
    values: np.ndarray, *, threshold: float = THRESHOLD
) -> np.ndarray | None:
    """Largest connected part (256, 256) of the `region` of a map (S, S), None without one."""
    is_inside = region(values, threshold=threshold)
    return largest_part(is_inside) if is_inside.any() else None


def region_box(values: np.ndarray, *, threshold: float = THRESHOLD) -> Box | None:
    """Box of the `largest_region` of a map in pixels of the 256 px view, None without one."""
    part = largest_region(values, threshold=threshold)
    if part is None:
        return None
    return Image.fromarray(part).getbbox()


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    boxes = torch.tensor([a, b], dtype=torch.float64)
    iou = box_iou(boxes[:1], boxes[1:])  # (1, 1)
    return iou.item()


def agreement(a: np.ndarray, b: np.ndarray, *, threshold: float = THRESHOLD) -> float:
    """Intersection over union of the boxes of two maps (S, S), NaN where one of them has none."""
    boxes = region_box(a, threshold=threshold), region_box(b, threshold=threshold)
    return overlap(*boxes) if all(boxes) else float("nan")


def check_shares(**shares: float) -> None:
    """`InputError` where a named share, such as a threshold, does not lie in 0..1."""
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise InputError(f"{name} must lie in 0..1, not {share:g}.")


def maps_to_crop_by(
    maps: ActivationMaps, which: CropMap
) -> tuple[np.ndarray, np.ndarray | None]:
    """The map to crop by, and the one beside it whose box may be averaged with its (AWCU-2018).

    They are AesAM of the high level, AttAM of the first attribute of `maps`, or the one beside the
    other. Raises `InputError` where an attribute is needed and there is none.
    """
    check_type("map", which, CropMap)
    if which == "aes":
        return maps.high, None
    if not maps.attributes:
        raise InputError(
            f"Cropping by map {which!r} needs a network with attributes, this one has none; take "
            "map 'aes'."
        )
    att = next(iter(maps.attributes.values()))
    return (att, None) if which == "att" else (maps.high, att)


def crop_box(
    values: np.ndarray,
    size: tuple[int, int],
    *,
    att: np.ndarray | None = None,
    threshold: float = THRESHOLD,
    iou: float = AGREEMENT,
    aspect: float | None = None,
    least: int = 1,
) -> tuple[Box, str]:
    """Crop of a photo of `size` (width, height) in its pixels, and why it is all of it where it is.

    `values` (S, S) is the map to crop by, `att` an AttAM beside it: where the IoU of their boxes is
    `iou` or more, coordinates are averaged (AWCU-2018). To `aspect` (width / height) and to a
    shortest side of `least` pixels the box grows about its centre, as far as the photo reaches.
    Raises `InputError` where `threshold` or `iou` does not lie in 0..1.
    """
    check_shares(threshold=threshold, iou=iou)
    whole = (0, 0, *size)
    box = region_box(values, threshold=threshold)
    if box is None:
        return whole, "the map's maximum is not positive"
    if att is not None:
        attribute_box = region_box(att, threshold=threshold)
        if attribute_box and overlap(box, attribute_box) >= iou:
            box = np.mean([box, attribute_box], 0)
    # From the 256 px view to the photo: its pixels that the box touches.
    corners = np.reshape(box, (2, 2))
    start, stop = corners * size / SIDE
    start = np.floor(start)
    stop = np.ceil(stop)

    sides = np.maximum(stop - start, least)
    if aspect is not None:
        sides = _sides_of_aspect(sides, aspect, size)
    sides = np.clip(sides.round(), 1, size)
    if min(sides) < least:
        return whole, f"no crop with sides of {least} pixels or more fits"

    centred = (start + stop - sides) / 2
    start = np.clip(centred.round(), 0, size - sides)
    edges = np.concatenate([start, start + sides])
    crop = tuple(edges.astype(int).tolist())
    if crop == whole:
        return crop, "the crop reaches all four edges"
    return crop, ""


def _sides_of_aspect(
    sides: np.ndarray, aspect: float, size: tuple[int, int]
) -> np.ndarray:
    """Width and height that hold these sides and have `aspect`, shrunk to fit in the photo."""
    width, height = sides
    grown_height = max(width / aspect, height)
    grown = np.array([aspect, 1]) * grown_height
    return grown * min(1, *(size / grown))


def aspect_ratio(text: str) -> float:
    """Width / height of "3:2" or the like; `InputError` for anything else."""
    sides = re.fullmatch(r"(\d*\.?\d+):(\d*\.?\d+)", text)
    width = float(sides[1]) if sides else 0
    height = float(sides[2]) if sides else 0
    if width * height == 0:
        raise InputError(
            f"The aspect ratio is {text!r}; give width:height, such as 3:2."
        )
    return width / height


def save_crop(path: str | Path | BinaryIO, box: Box, target: Path | BinaryIO) -> None:
    """Write the part in `box` of the upright photo in its own format, with its ICC profile and
    what of its EXIF is true of the part and can be written.

    Raises `InputError` where the photo cannot be read, or its format be written.
    """
    if isinstance(path, str | Path):
        photo, kind = upright(path, None)
    else:
        photo, kind = upright("The photo", path.read())
    if kind == "MPO":
        kind = "JPEG"
    info = photo.info
    part = photo.crop(box)
    part.info = {}
    for name in ("transparency", "background", "compression"):
        if name in info:
            part.info[name] = info[name]

    options = {}
    profile = info.get("icc_profile")
    if isinstance(profile, bytes):
        options["icc_profile"] = profile
    compression = part.info.get("compression")
    if kind in ("JPEG", "WEBP") or compression in ("jpeg", "tiff_jpeg"):
        options["quality"] = 95
    exif = _exif_of_parts(info.get("exif") or b"")
    comment = info.get("comment", b"")
    try:
        try:
            encoded = _encoded(part, kind, exif=exif, comment=comment, **options)
        except Exception:
            # Pillow raises anything for metadata that a format cannot hold.
            encoded = _encoded(part, kind, **options)
        if isinstance(target, str | Path):
            Path(target).write_bytes(encoded)
        else:
            target.write(encoded)
    except Exception as error:
        name = getattr(target, "name", "The crop")
        raise InputError(
            f"{name} cannot be written as {kind} ({error}); convert the photo to JPEG or PNG."
        ) from error


def _encoded(part: Image.Image, kind: str, **options) -> bytes:
    """The bytes of a picture's file; options that are empty are not given."""
    given = {name: value for name, value in options.items() if value}
    stream = io.BytesIO()
    part.save(stream, kind, **given)
    return stream.getvalue()


def _exif_of_parts(given: bytes | Image.Exif) -> bytes:
    """EXIF with the tags that are true of a part of the photo and come out as they went in."""
    exif = given
    if isinstance(given, bytes):
        exif = Image.Exif()
        with suppress(Exception):  # damaged, for which Pillow raises anything
            exif.load(given)
    kept = Image.Exif()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is damaged, which is not kept
        for ifd, tags in TRUE_OF_PARTS.items():
            for tag in tags:
                value = _writable(exif, ifd, tag)
                if value is not None:
                    _directory(kept, ifd)[tag] = value
    if any(_directory(kept, ifd) for ifd in TRUE_OF_PARTS):
        return kept.tobytes()
    return b""


def _directory(exif: Image.Exif, ifd: int | None) -> MutableMapping:
    """The tags of a part of EXIF, None being the main one."""
    if ifd is None:
        return exif
    return exif.get_ifd(ifd)


def _writable(exif: Image.Exif, ifd: int | None, tag: int) -> object:
    """Value of a tag that Pillow writes so that it reads the same again; else None.

    It guesses how to write a value, and is wrong for a negative height, a fraction that is text,
    or a number of another size than usual.
    """
    try:
        value = _directory(exif, ifd)[tag]
        words = value.encode("latin-1") if isinstance(value, str) else value
        if tag == Base.ImageDescription and OWN_WORDS.match(words):
            return None
        for way in (value, words):  # letters beyond ASCII are written as bytes alone
            written = Image.Exif()
            _directory(written, ifd)[tag] = way
            read_again = Image.Exif()
            read_again.load(written.tobytes())
            if _directory(read_again, ifd)[tag] == value:
                return way
    except Exception:  # such as KeyError: there is no such tag
        pass
    return None
