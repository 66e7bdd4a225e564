"""What a TIFF says of its samples, and which way EXIF, a small TIFF, and XMP say is up.

Pillow takes several kinds of samples for one another, some of them wrongly; so those are listed
here of which it is tested that the same picture comes out, and all others are refused by name.
"""

import io
import re
import struct
from collections.abc import Collection, Iterator
from typing import BinaryIO

import numpy as np

from rsrl_lib.files import File, InputError

HEADS = tuple(a + b for a in (b"II", b"MM") for b in (b"*\0", b"\0*", b"+\0", b"\0+"))
ORIENTATION = 274
# Of types: bytes, 16 and 32 bits, fractions, 64 bits.
NUMBERS = {1: "B", 3: "H", 4: "L", 5: "LL", 16: "Q"}

Tags = dict[str, tuple[float, ...]]
TAGS = {
    "reduced": 254,
    "bits": 258,
    "compression": 259,
    "colour": 262,
    "fill": 266,
    "turn": ORIENTATION,
    "samples": 277,
    "planes": 284,
    "inner": 330,
    "further": 338,
    "kind": 339,
    "ycbcr": 529,
    "subsampling": 530,
    "range": 532,
}
DEFAULTS = {
    "reduced": (0,),
    "bits": (1,),
    "compression": (1,),
    "colour": (),
    "fill": (1,),
    "turn": (),
    "samples": (1,),
    "planes": (1,),
    "inner": (),
    "further": (),
    "kind": (1,),
    "ycbcr": (0.299, 0.587, 0.114),
    "subsampling": (2, 2),
    "range": (0, 255, 128, 255, 128, 255),
}

WHITE_IS_ZERO, GREY, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6
COLOURS = {
    0: "white-is-zero grey",
    1: "grey",
    2: "RGB",
    3: "palette",
    5: "CMYK",
    6: "YCbCr",
    8: "CIELab",
    9: "ICCLab",
    10: "ITULab",
    32803: "a sensor's",
    34892: "a sensor's",
}
KINDS = {
    1: "",
    2: "signed ",
    3: "float ",
    4: "undefined ",
    5: "complex ",
    6: "complex float ",
}
UNUSED, PREMULTIPLIED, ALPHA = MORE = 0, 1, 2  # what a further sample is
FAX = {2, 3, 4}
JPEG = {6, 7}
LOSSLESS = {1, 5, 8, 32773, 32946}  # none, LZW, Deflate, PackBits, Deflate
COMPRESSIONS = LOSSLESS | FAX | JPEG | {34925, 50000}  # and LZMA, Zstandard

# Colour, bits of a sample and further samples.
TOGETHER = {(WHITE_IS_ZERO, bits, ()) for bits in (1, 2, 4, 8, 16)}
TOGETHER |= {(GREY, bits, ()) for bits in (1, 2, 4, 8, 16)}
TOGETHER |= {(PALETTE, bits, ()) for bits in (1, 2, 4, 8)}
TOGETHER |= {(colour, 8, ()) for colour in (RGB, CMYK, YCBCR)}
TOGETHER |= {(colour, 16, ()) for colour in (RGB, CMYK)}
TOGETHER |= {(GREY, 8, (more,)) for more in MORE}
TOGETHER |= {(RGB, bits, (more,)) for bits in (8, 16) for more in MORE}
TOGETHER |= {(RGB, 8, (more, UNUSED)) for more in MORE}
TOGETHER |= {(RGB, 8, (more, UNUSED, UNUSED)) for more in MORE}
TOGETHER |= {(PALETTE, 8, (UNUSED,)), (PALETTE, 8, (ALPHA,))}
TOGETHER |= {(CMYK, 8, (UNUSED,)), (CMYK, 8, (UNUSED, UNUSED))}
# Scaled by `pictures`, which looks at the 32 bits.
UNPACKED = {(GREY, 12, ()), (GREY, 32, ())}
# Pillow does not know these otherwise.
LITTLE_ENDIAN = UNPACKED | {(WHITE_IS_ZERO, 16, ())}
# Where every sample has a plane of its own, as it is or compressed.
APART = {(colour, 8, ()) for colour in (GREY, RGB, PALETTE, CMYK)}
APART |= {(RGB, 8, (ALPHA,))}
COMPRESSED_APART = APART | {(colour, 16, ()) for colour in (GREY, RGB, CMYK)}


def read_tags(
    stream: BinaryIO, wanted: Collection[int]
) -> dict[int, tuple[float, ...]]:
    """Numbers of some tags of a TIFF's first directory, 16 of each at the most (TIFF 6.0, BigTIFF).

    Raises `ValueError` or `struct.error` where it is damaged or one of them stands there twice.
    """
    head = stream.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None:
        raise ValueError("the head of a TIFF is neither II nor MM")
    is_big = 43 in head[2:4]
    if is_big:
        pointer = struct.Struct(f"{order}Q")
        (start,) = pointer.unpack_from(head, 8)
    else:
        pointer = struct.Struct(f"{order}L")
        (start,) = pointer.unpack_from(head, 4)
    stream.seek(start)
    tags = {}
    for tag, kind, length, value in _directory(stream, order, is_big):
        if tag not in wanted or kind not in NUMBERS:
            continue
        if tag in tags:
            raise ValueError(f"the tag {tag} stands there twice")
        number = NUMBERS[kind]
        numbers = struct.Struct(order + number * min(length, 16))
        size = struct.calcsize(order + number)
        if size * length > pointer.size:
            (place,) = pointer.unpack(value)
            stream.seek(place)
            value = stream.read(numbers.size)
        unpacked = numbers.unpack(value[: numbers.size])
        if number == "LL":
            unpacked = _quotients(unpacked)
        tags[tag] = unpacked
    return tags


def _directory(
    stream: BinaryIO, order: str, is_big: bool
) -> Iterator[tuple[int, int, int, bytes]]:
    """Tag, type, count and value (or where it stands) of the entries of a directory."""
    if is_big:
        count = struct.Struct(f"{order}Q")
        entry = struct.Struct(f"{order}HHQ8s")
    else:
        count = struct.Struct(f"{order}H")
        entry = struct.Struct(f"{order}HHL4s")
    head = stream.read(count.size)
    (entries,) = count.unpack(head)
    most = min(entries, 65535)
    directory = stream.read(most * entry.size)
    whole = len(directory) // entry.size  # it may be cut
    size = whole * entry.size
    return entry.iter_unpack(directory[:size])


def _quotients(numbers: tuple[int, ...]) -> tuple[float, ...]:
    """Fractions, of which above and below stand in turn."""
    numerators = numbers[::2]
    denominators = numbers[1::2]
    quotients = []
    for above, below in zip(numerators, denominators, strict=True):
        quotients.append(above / below if below else np.nan)
    return tuple(quotients)


def orientation(exif: bytes, xmp: bytes) -> int:
    """How a picture is turned, 1 to 8: as EXIF says, else as XMP does, else 1, which is upright.

    So do Pillow and the viewers of Windows and macOS; browsers ask EXIF alone.
    """
    tiff = re.sub(rb"^(Exif\0\0)+", b"", exif)
    try:
        tags = read_tags(io.BytesIO(tiff), {ORIENTATION})
    except (ValueError, OverflowError, struct.error):
        tags = {}  # what is damaged is passed over
    return turn_of(tags.get(ORIENTATION, ()), xmp)


def turn_of(numbers: tuple[float, ...], xmp: bytes) -> int:
    """The same of the numbers of the tag, none where there is no such tag."""
    if not numbers:
        in_xmp = re.search(rb"""tiff:Orientation\s*(?:=\s*["']|>)\s*([1-8])""", xmp)
        return int(in_xmp[1]) if in_xmp else 1
    turn = numbers[0]
    return turn if turn in range(1, 9) else 1


def samples(stream: BinaryIO, path: File) -> Tags:
    """What a TIFF says of its samples, by the names of `TAGS`; `InputError` for other kinds than
    those of which Pillow is known to make the picture that they are."""
    head = stream.read(4)
    stream.seek(0)
    given = read_tags(stream, TAGS.values())
    tags = {}
    for name, tag in TAGS.items():
        tags[name] = given.get(tag) or DEFAULTS[name]
    tags["big-endian"] = (head[:2] == b"MM",)
    tags["BigTIFF"] = (43 in head,)
    is_fax = tags["compression"][0] in FAX
    if is_fax and not tags["colour"]:
        tags["colour"] = (WHITE_IS_ZERO,)
    is_reduced = tags["reduced"][0] & 1
    if is_reduced and tags["inner"]:
        raise InputError(
            f"{path} is a raw file, with a small copy in front; save it as JPEG."
        )
    if not _is_known(tags):
        raise other_samples(tags, path)
    return tags


def _is_known(tags: Tags) -> bool:
    """Whether Pillow makes the picture that they are of such samples."""
    layout = _layout(tags)
    kinds = {*tags["kind"]}
    compression = tags["compression"][0]
    is_compressed = compression != 1
    is_apart = tags["planes"] != (1,)
    has_usual_fill = tags["fill"] == (1,)
    is_big_endian = tags["big-endian"][0]
    is_big = tags["BigTIFF"][0]
    if is_big_endian and (is_big or layout in LITTLE_ENDIAN):
        return False
    if layout in UNPACKED:
        known_kinds = {1} if layout == (GREY, 12, ()) else {1, 2}
        return kinds <= known_kinds and not is_apart and compression in LOSSLESS
    if kinds != {1} or compression not in COMPRESSIONS:
        return False
    if is_apart and is_compressed:
        return layout in COMPRESSED_APART
    if is_apart:
        return layout in APART and has_usual_fill
    if layout == (YCBCR, 8, ()):
        return _is_known_ycbcr(tags, compression)
    if layout == (WHITE_IS_ZERO, 8, ()) and not is_compressed:
        return has_usual_fill
    return layout in TOGETHER


def _is_known_ycbcr(tags: Tags, compression: float) -> bool:
    """The same of 8 bits of YCbCr."""
    if compression in JPEG:  # libtiff makes RGB of it
        return True
    if compression != 1:
        # The default is often no more than unsaid.
        return tags["subsampling"] != DEFAULTS["subsampling"]
    return (
        tags["subsampling"] == (1, 1)
        and tags["ycbcr"] == DEFAULTS["ycbcr"]
        and tags["range"] == DEFAULTS["range"]
    )


def _layout(tags: Tags) -> tuple[float, float, tuple[float, ...]] | None:
    """Colour, bits of a sample and further samples; None where the tags contradict each other."""
    different_bits = {*tags["bits"]}
    if not tags["colour"] or len(different_bits) != 1:
        return None
    colour = tags["colour"][0]
    bits = tags["bits"][0]
    samples = tags["samples"]
    further = tags["further"]
    is_together = tags["planes"] == (1,)
    if colour == RGB and samples == (4,) and not further and is_together:
        further = (ALPHA,)  # as if it were said
    samples_of_colour = {RGB: 3, YCBCR: 3, CMYK: 4}
    expected = samples_of_colour.get(colour, 1) + len(further)
    if samples != (expected,):
        return None
    return colour, bits, further


def other_samples(tags: Tags, path: File) -> InputError:
    """An error that names the kind of a TIFF's samples."""
    different_bits = dict.fromkeys(tags["bits"])
    bits = "/".join(map(str, different_bits))
    different_kinds = dict.fromkeys(tags["kind"])
    names = [KINDS.get(number, f"kind {number} ") for number in different_kinds]
    kind = "/".join(names)
    facts = []
    for colour in tags["colour"]:
        facts.append(COLOURS.get(colour, f"colour {colour}"))
    if not facts:
        facts.append("of a colour that is not said")
    samples = tags["samples"]
    if samples != (1,):
        facts.append(f"{samples[0]} a pixel")
    if tags["planes"] != (1,):
        facts.append("in planes")
    compression = tags["compression"][0]
    if compression not in LOSSLESS:
        facts.append(f"compression {compression}")
    for name in ("big-endian", "BigTIFF"):
        if tags[name][0]:
            facts.append(name)
    return InputError(
        f"{path} has {bits}-bit {kind}samples ({', '.join(facts)}), which may come "
        "out as another picture; save it with 8 or 16 bits a sample, as a usual TIFF or PNG."
    )
