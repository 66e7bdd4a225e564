"""Pictures as a viewer shows them, and the pictures of a folder.

Traded away: colour management (embedded ICC profiles).
"""

import io
import os
import re
import struct
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import ExifTags, Image, UnidentifiedImageError, features

from rsrl_lib.files import File, InputError, Note, reading, size_of
from rsrl_lib.reading import pngs, tiffs

PICTURES = (".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg")
PICTURES += (".png", ".tif", ".tiff", ".webp")
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")  # the same, by Pillow's names
AVIF = (".avif",)
HEIF = (".heic", ".heif", ".hif")
HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
RAW = (".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".iiq", ".kdc", ".mef")
RAW += (".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".srw")
RAW += (".x3f",)
OTHERS = (".exr", ".hdr", ".j2k", ".jp2", ".jxl", ".jxr", ".pbm", ".pcx", ".pfm")
OTHERS += (".pgm", ".ppm", ".psb", ".psd", ".tga", ".xcf")
UNREAD = dict.fromkeys(HEIF, ("HEIC photo", "convert to JPEG, or install pillow-heif"))
UNREAD |= dict.fromkeys(AVIF, ("AVIF photo", "convert to JPEG"))
UNREAD |= dict.fromkeys(RAW, ("raw file", "save as JPEG"))
UNREAD |= dict.fromkeys(OTHERS, ("other picture", "save as JPEG or PNG"))
NOT_THE_USERS = {"@eadir", "@recently-snapshot", "@recycle", "@tmp"}
NOT_THE_USERS |= {"#recycle", "#snapshot", "lost+found", "__macosx"}
NOT_THE_USERS |= {"$recycle.bin", "system volume information"}
"""What NAS, macOS and Windows put beside photos: small copies, and what was deleted."""
TURNS = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE"}
TURNS |= {6: "ROTATE_270", 7: "TRANSVERSE", 8: "ROTATE_90"}  # by EXIF's orientation
# Formats whose samples of 16 bits reach from black to white.
SIXTEEN = ("PNG", "TIFF", "PPM")
EIGHT_BITS = ((np.arange(1 << 16) + 128) // 257).astype(np.uint8)  # of 16
SIXTEEN_BITS = np.round(np.arange(1 << 12) * (65535 / 4095)).astype(np.uint16)  # of 12


def endings() -> tuple[str, ...]:
    """Endings of the photos that are read: AVIF where Pillow can, HEIC where pillow-heif is."""
    known = PICTURES
    if _reads_avif():
        known += AVIF
    if _reads_heif():
        known += HEIF
    return known


def _reads_avif() -> bool:
    return "avif" in features.modules and features.check("avif")


def _reads_heif() -> bool:
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def read_unscored(folder: File) -> pd.DataFrame:
    """Pictures anywhere below a folder: photo (path within it), path, sorted; none is an error.

    What looks like a picture and is passed over is counted, with the reason, in a warning (`Note`).
    """
    if not Path(folder).is_dir():
        found = "is a file" if size_of(folder) >= 0 else "is not there"
        raise InputError(f"A folder of photos is needed, {folder} {found}; name one.")
    files, unreadable = files_below(folder)
    known = endings()
    photos = sorted(file for file in files if file.lower().endswith(known))
    others = _passed_over(files, unreadable)
    if not photos:
        but = f" (passed over: {others})" if others else ""
        raise InputError(
            f"{folder} holds no photos{but}; name a folder with {' '.join(known)}."
        )
    if others:
        warnings.warn(f"In {folder} were passed over: {others}.", Note, stacklevel=2)
    with reading(folder, "folder of photos", "rename those whose names are not UTF-8"):
        table = pd.DataFrame({"photo": photos})
        return table.assign(path=f"{folder}/" + table["photo"])


def files_below(folder: File) -> tuple[list[str], dict[str, list[str]]]:
    """Paths within a folder of the files below it; and those that cannot be read, by what they are.

    Hidden names and what a NAS keeps for itself are left out. Folders that are linked are looked
    into after all others, and each folder once, so that a circle of links ends.
    """
    files = []
    unreadable = {"unreadable folder": [], "name without a file": []}
    waiting = [""]
    linked = []
    seen = set()
    while waiting or linked:
        inner_folder = waiting.pop() if waiting else linked.pop(0)
        real = os.path.realpath(Path(folder, inner_folder))
        if real in seen:
            continue
        seen.add(real)
        try:
            entries = sorted(os.scandir(real), key=lambda entry: entry.name)
        except OSError:
            unreadable["unreadable folder"].append(inner_folder or ".")
            continue
        for entry in entries:
            if entry.name.startswith(".") or entry.name.lower() in NOT_THE_USERS:
                continue
            path = f"{inner_folder}{entry.name}"
            kind = _kind(entry)
            if kind == "folder":
                folders = linked if entry.is_symlink() else waiting
                folders.append(f"{path}/")
            elif kind == "file":
                files.append(path)
            elif path.lower().endswith(PICTURES):
                unreadable["name without a file"].append(path)
    return files, unreadable


def _kind(entry: os.DirEntry) -> str:
    """`folder`, `file` or nothing: a pipe, a link that leads nowhere or to itself."""
    try:
        if entry.is_dir():
            return "folder"
        return "file" if entry.is_file() else ""
    except OSError:
        return ""


def _passed_over(files: list[str], unreadable: dict[str, list[str]]) -> str:
    """How many files and folders that may be photos are not read, why, and what to do."""
    known = endings()
    passed = {(name, ""): paths for name, paths in unreadable.items() if paths}
    for file in sorted(files):
        ending = Path(file).suffix.lower()
        if ending in UNREAD and ending not in known:
            passed.setdefault(UNREAD[ending], []).append(file)
    sentences = []
    for (name, remedy), paths in passed.items():
        plural = "s" if len(paths) > 1 else ""
        advice = f"; {remedy}" if remedy else ""
        sentences.append(f"{len(paths)} {name}{plural} (such as {paths[0]}{advice})")
    return ", ".join(sentences)


def upright(
    path: File, content: bytes | None = None, *, at_least: int | None = None
) -> tuple[Image.Image, str]:
    """A picture put upright, in a mode of 8 bits a sample or I;16, and the format of its file.

    Its `info` has, where there are any, `icc_profile`, `exif` (bytes or `Image.Exif`), `comment`,
    `compression` and `transparency`. Arguments and errors are those of `open_rgb`.
    """
    size = size_of(path) if content is None else len(content)
    try:
        if size < 0:  # opening a pipe would wait forever
            raise FileNotFoundError(path)
        return _opened(path, content, at_least)
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{path} is no whole picture ({size} bytes, {error}); shrink it."
        ) from error
    except Exception as error:  # damaged files make Pillow's plugins raise anything
        if size < 0:
            raise InputError(
                f"{path} is no whole picture (no file); "
                "correct its name, or copy the photo there."
            ) from error
        reason = re.sub(" <.+", "", str(error))  # how Pillow calls an upload
        raise InputError(
            f"{path} is no whole picture ({size} bytes, {reason}); "
            "copy it anew, or save it as JPEG."
        ) from error


class _Content(io.BytesIO):
    """Bytes that go by the name of their file."""

    def __init__(self, content: bytes, path: File):
        super().__init__(content)
        self.path = path

    def __str__(self) -> str:
        return str(self.path)


def _opened(
    path: File, content: bytes | None, at_least: int | None
) -> tuple[Image.Image, str]:
    """Decoded by Pillow, once what it would stumble over or take wrongly is put aside."""
    tags = None
    metadata = {}
    given = (path, "r", None)
    if content is not None:
        given = (_Content(content, path), "r", FORMATS + _boxed_formats())
    with Path(path).open("rb") if content is None else io.BytesIO(content) as stream:
        head = stream.read(32)
        stream.seek(0)
        if head.startswith(pngs.HEAD):
            if head[12:16] == b"IHDR":  # told of size before the rest is read
                _check_size(*struct.unpack_from(">LL", head, 16))
            bare, metadata = pngs.bare(stream, path)
            given = (_Content(bare, path), "r", ("PNG",))
        elif head.startswith(tiffs.HEADS):
            if Path(path).suffix.lower() in RAW:
                raise InputError(f"{path} is a raw file; save it as JPEG.")
            tags = tiffs.samples(stream, path)
        elif head[4:8] == b"ftyp":
            _boxed_formats()
    try:
        with Image.open(*given) as image:
            image.info |= metadata
            _check_kind(image, path)
            if at_least:
                image.draft(None, (at_least, at_least))
            return _turned(image, tags, path), image.format
    except UnidentifiedImageError as error:
        kind, remedy = _unread(path, head[4:12])
        if kind:
            raise InputError(f"{path} is {kind}; {remedy}.") from error
        raise


def _check_kind(image: Image.Image, path: File) -> None:
    """Raises where a picture is too large, is a program, or has other samples than 8 or 16 bits."""
    _check_size(image.width, image.height)
    if image.format == "EPS":  # Pillow would run Ghostscript
        raise ValueError("PostScript is a program")
    is_deep = image.mode[0] == "I" and image.format not in SIXTEEN
    if image.mode == "F" or is_deep:
        raise InputError(
            f"{path} has {image.mode} samples; save it with 8 bits a sample."
        )


def _boxed_formats() -> tuple[str, ...]:
    """What of the formats that keep pictures in boxes, as films are kept, is read here."""
    formats = ()
    if _reads_avif():
        formats += ("AVIF",)
    if _reads_heif():
        formats += ("HEIF",)
    return formats


def _unread(path: File, box: bytes) -> tuple[str, str]:
    """What a file is by its name and its first box, and what to do, where it is not read here."""
    if Path(path).suffix.lower() in RAW or box == b"ftypcrx ":
        return "a raw file", "save it as JPEG"
    if box in (b"ftypavif", b"ftypavis") and not _reads_avif():
        return "an AVIF photo", "convert it to JPEG"
    if box[:4] == b"ftyp" and box[4:] in HEIF_BRANDS and not _reads_heif():
        return "a HEIC photo", "convert it to JPEG, or install pillow-heif"
    return "", ""


def _turned(image: Image.Image, tags: tiffs.Tags | None, path: File) -> Image.Image:
    """Decoded, upright, with samples of 8 or 16 bits."""
    xmp = _xmp(image)
    if image.format == "TIFF":
        picture = _turned_tiff(image, tiffs.turn_of(tags["turn"], xmp))
    else:
        if image.format in ("AVIF", "HEIF"):  # their decoders have put its turn aside
            xmp = b""
        exif = image.info.get("exif") or b""
        turn = tiffs.orientation(exif, xmp)
        image.load()
        picture = _transposed(image, turn)
    if picture.mode in ("La", "RGBa"):
        picture = picture.convert(picture.mode.upper())
    if picture.mode.startswith("I"):
        grey = Image.fromarray(_sixteen_bits(np.asarray(picture), tags, path))
        grey.info = picture.info
        return grey
    return picture


def _transposed(image: Image.Image, turn: int) -> Image.Image:
    if turn == 1:
        return image.copy()
    return image.transpose(Image.Transpose[TURNS[turn]])


def _xmp(image: Image.Image) -> bytes:
    xmp = image.info.get("xmp")
    if isinstance(xmp, str):
        return xmp.encode("utf-8", "replace")
    # A TIFF may have numbers in its place.
    return xmp if isinstance(xmp, bytes) else b""


def _turned_tiff(image: Image.Image, turn: int) -> Image.Image:
    """Pillow turns a TIFF while it decodes it, as its EXIF says: only that is told to it."""
    image.info.pop("xmp", None)
    exif = image.getexif()
    for tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo, ExifTags.IFD.Interop):
        try:
            exif.get_ifd(tag)
        # Pillow reads them while it decodes, though no pixel needs them.
        except Exception:
            exif.pop(tag, None)
    exif[ExifTags.Base.Orientation] = turn
    image.load()
    colours = image.tag_v2.get(ExifTags.Base.ColorMap, ())
    if image.mode in ("P", "PA") and max(colours) < 256:  # 8 bits where 16 should be
        palette = np.reshape(colours, (3, -1)).T.astype(np.uint8)
        image.putpalette(palette.tobytes())
    picture = image.copy()
    picture.info["exif"] = exif
    return picture


def _sixteen_bits(
    values: np.ndarray, tags: tiffs.Tags | None, path: File
) -> np.ndarray:
    """Samples of 12, 16 or 32 bits to 16, with 0 for black."""
    bits = tags["bits"][0] if tags else 16
    if bits == 12:
        return SIXTEEN_BITS[values]
    if bits == 32:
        # Which of 32 bits are white? Where the largest value takes 16 bits, these.
        are_16 = 1 << 15 <= values.max() < 1 << 16
        if values.min() < 0 or not are_16:
            raise tiffs.other_samples(tags, path)
    values = values.astype(np.uint16)
    if tags and tags["colour"] == (tiffs.WHITE_IS_ZERO,):
        return ~values
    return values


def open_rgb(
    path: File, content: bytes | None = None, *, at_least: int | None = None
) -> Image.Image:
    """Upright RGB picture as a viewer shows it (16 bits scaled, alpha on white) or `InputError`.

    A JPEG is decoded at a half, quarter or eighth where each side keeps `at_least` so many pixels,
    several times faster. Of an upload, its `content` is decoded and `path` is but a name.
    """
    picture, _ = upright(path, content, at_least=at_least)
    if picture.mode == "I;16":
        values = np.asarray(picture)
        clear = picture.info.get("transparency")
        picture = Image.fromarray(EIGHT_BITS[values])
        if clear is not None:
            picture.putalpha(Image.fromarray(values != clear))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")


def _check_size(width: int, height: int) -> None:
    most = Image.MAX_IMAGE_PIXELS or np.inf
    if width * height > most:
        raise Image.DecompressionBombError(f"{width} x {height} pixels are too many")
