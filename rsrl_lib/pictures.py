"""Pictures as a viewer shows them, and the pictures of a folder.

Traded away: colour management (embedded ICC profiles).
"""

import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageOps

from rsrl_lib.files import File, InputError, reading, size_of

PICTURES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")  # the same, by Pillow's names


def read_unscored(folder: File) -> pd.DataFrame:
    """Pictures anywhere below a folder: photo (path within it), path, sorted; none is an error."""
    files = [p.relative_to(folder).as_posix() for p in Path(folder).rglob("*.*")]
    files = [f for f in files if f.lower().endswith(PICTURES) and not re.search(r"(^|/)\.", f)]
    if not files:
        raise InputError(f"{folder} holds no photos; name a folder with {' '.join(PICTURES)}.")
    with reading(folder, "folder of photos", "rename those whose names are not UTF-8"):
        table = pd.DataFrame({"photo": sorted(files)})
        return table.assign(path=f"{folder}/" + table["photo"])


def open_rgb(
    path: File, content: bytes | None = None, *, at_least: int | None = None
) -> Image.Image:
    """Upright RGB picture as a viewer shows it (16 bits scaled, alpha on white) or `InputError`.

    A JPEG is decoded at a half, quarter or eighth where each side keeps `at_least` so many pixels,
    several times faster. Of an upload, its `content` is decoded and `path` is but a name.
    """
    size = size_of(path) if content is None else len(content)
    try:
        if size < 0:  # opening a pipe would wait forever
            raise FileNotFoundError(path)
        given = (path,) if content is None else (io.BytesIO(content), "r", FORMATS)
        with Image.open(*given) as image:
            if image.format == "EPS":  # Pillow would run Ghostscript
                raise ValueError("PostScript is a program")
            if image.width * image.height > (Image.MAX_IMAGE_PIXELS or np.inf):
                raise ValueError(f"{image.width} x {image.height} pixels are too many")
            if at_least:
                image.draft(None, (at_least, at_least))
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I"):
                image = image.convert("I").point(lambda value: value / 257 + 0.5).convert("L")
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            return image.convert("RGB")
    except Exception as error:  # damaged files make Pillow's plugins raise anything
        reason = re.sub(" <_io.+", "", str(error))  # how Pillow calls an upload
        found = f"{size} bytes, {reason}" if size >= 0 else "no file"
        raise InputError(f"{path} is no whole picture ({found}); copy or shrink it.") from error
