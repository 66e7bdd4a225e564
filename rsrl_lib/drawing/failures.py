"""Failures of craft, made in good photos: noise, blur, exposure, tilt, framing, cast, clutter.

Each is graded by the attribute of glass-box photos that it spoils. What the photo itself is worth
is not known: it counts as faultless. Nobody told where its subject is either: it is taken to be
where the picture has most detail. Traded away: failures that depend on what is shown.
"""

from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from scipy.ndimage import gaussian_filter, sobel

SHORT_SIDE = 384
"""Of the pictures that are made, in pixels."""
LONGEST = 8
"""How often the shorter side of a photo goes into the longer one, at most."""
FRAME = 0.72
"""Share of the photo's width and height that is framed."""
EDGE = 0.06
"""Where the subject lies, as a share of the frame, where it is placed worst."""
STOPS = 2.4
"""Of exposure too much or too little, at worst."""
BLUR = 0.013
"""Standard deviation of the blur, at worst, as a share of the shorter side."""
GRAIN = 0.17
"""Standard deviation of the noise, at worst, in 0..1."""
TILT = 11.0
"""Degrees, at worst."""
CAST = 0.45
"""By which share a cast changes a colour, at worst."""
PATCHES = 7
"""Pasted pieces of other photos, at worst."""
CASTS = np.array([[1, -0.5, -0.5], [-0.5, 1, -0.5], [-0.5, -0.5, 1], [0.7, 0.7, -1]])


def spoiled(
    photo: Image.Image,
    clutter: Image.Image,
    attributes: Mapping[str, float],
    rng: np.random.Generator,
) -> Image.Image:
    """A good photo (RGB) with the failures that its attributes (0..1) ask for.

    `clutter` is another photo, of which pieces are pasted. What an attribute does: distinctness
    goes with noise, placement with tilt and framing, clutter with pasted pieces, sharpness with
    blur, exposure with light, harmony with a cast. Faultless ones change nothing but the frame.
    """
    photo = _of_short_side(_not_too_long(photo), SHORT_SIDE / FRAME)
    clutter = _not_too_long(clutter)
    subject = centre_of_detail(photo)
    photo = _pasted(photo, clutter, attributes["clutter"], subject, rng)
    photo = _framed(photo, subject, attributes["placement"], rng)
    light = (np.asarray(photo, np.float32) / 255) ** 2.2
    light = _exposed(light, attributes["exposure"], rng)
    light = _with_cast(light, attributes["harmony"], rng)
    pixels = np.clip(light, 0, 1) ** (1 / 2.2)
    pixels = _blurred(pixels, attributes["sharpness"])
    grain = rng.standard_normal(pixels.shape) * GRAIN * (1 - attributes["distinctness"])
    noisy = np.clip(pixels + grain, 0, 1)
    return Image.fromarray((255 * noisy).round().astype(np.uint8))


def centre_of_detail(photo: Image.Image) -> tuple[float, float]:
    """Where a photo has most detail: x and y as shares of its width and height."""
    small = photo.convert("L").resize((64, 64), Image.Resampling.BOX)
    grey = np.asarray(small, np.float32)
    detail = np.hypot(sobel(grey, 0), sobel(grey, 1))
    detail = gaussian_filter(detail, 4)
    weight = np.maximum(detail - np.quantile(detail, 0.8), 0) + 1e-6
    places = (np.arange(64) + 0.5) / 64
    x = float((weight.sum(0) * places).sum() / weight.sum())
    y = float((weight.sum(1) * places).sum() / weight.sum())
    return x, y


def _of_short_side(photo: Image.Image, side: float) -> Image.Image:
    factor = side / min(photo.size)
    size = [max(1, round(length * factor)) for length in photo.size]
    return photo.resize(size, Image.Resampling.LANCZOS)


def _not_too_long(photo: Image.Image) -> Image.Image:
    """The middle of a photo that is longer than `LONGEST`: enlarged, a line of pixels would need
    more memory than there is."""
    most = LONGEST * min(photo.size)
    width, height = (min(length, most) for length in photo.size)
    left = (photo.width - width) // 2
    top = (photo.height - height) // 2
    return photo.crop((left, top, left + width, top + height))


def _pasted(
    photo: Image.Image,
    clutter: Image.Image,
    strength: float,
    subject: tuple[float, float],
    rng: np.random.Generator,
) -> Image.Image:
    """Round pieces of another photo, away from the subject."""
    photo = photo.copy()
    shorter = min(photo.size)
    clutter = _of_short_side(clutter, shorter)
    for _ in range(round(PATCHES * strength)):
        side = int(shorter * rng.uniform(0.07, 0.13))
        away = rng.uniform(0.18, 0.34)
        angle = rng.uniform(0, 2 * np.pi)
        where = (subject[0] + away * np.cos(angle), subject[1] + away * np.sin(angle))
        corner = [
            int(np.clip(share * length - side / 2, 0, length - side))
            for share, length in zip(where, photo.size, strict=True)
        ]
        left = int(rng.integers(0, clutter.width - side))
        top = int(rng.integers(0, clutter.height - side))
        piece = clutter.crop((left, top, left + side, top + side))
        shape = Image.new("L", (side, side))
        ImageDraw.Draw(shape).ellipse((1, 1, side - 2, side - 2), fill=255)
        photo.paste(piece, corner, shape.filter(ImageFilter.GaussianBlur(1)))
    return photo


def _framed(
    photo: Image.Image,
    subject: tuple[float, float],
    placement: float,
    rng: np.random.Generator,
) -> Image.Image:
    """The part that is framed: the subject at a third, or towards an edge; and tilted."""
    fault = 1 - placement
    width, height = (FRAME * length for length in photo.size)
    across, down = (_target(share, fault, rng) for share in subject)
    x, y = (share * length for share, length in zip(subject, photo.size, strict=True))
    left = np.clip(x - across * width, 0, photo.width - width)
    top = np.clip(y - down * height, 0, photo.height - height)
    angle = rng.choice([-1, 1]) * TILT * fault
    centre = (left + width / 2, top + height / 2)
    tilted = photo.rotate(angle, Image.Resampling.BICUBIC, center=centre)
    # Within the frame, what a rotation leaves whole.
    turn = np.deg2rad(abs(angle))
    ratio = max(width / height, height / width)
    whole = 1 / (np.cos(turn) + ratio * np.sin(turn))
    half = (whole * width / 2, whole * height / 2)
    box = (
        centre[0] - half[0],
        centre[1] - half[1],
        centre[0] + half[0],
        centre[1] + half[1],
    )
    size = (round(width), round(height))
    return tilted.resize(size, Image.Resampling.LANCZOS, box=box)


def _target(share: float, fault: float, rng: np.random.Generator) -> float:
    """Where in the frame the subject is to lie: from the nearer third towards an edge."""
    third = 1 / 3 if share < 0.5 else 2 / 3
    edge = rng.choice([EDGE, 1 - EDGE])
    return third + fault * (edge - third)


def _exposed(
    light: np.ndarray, exposure: float, rng: np.random.Generator
) -> np.ndarray:
    stops = rng.choice([-1, 1]) * STOPS * (1 - exposure)
    return light * 2.0**stops


def _with_cast(
    light: np.ndarray, harmony: float, rng: np.random.Generator
) -> np.ndarray:
    cast = rng.choice([-1, 1]) * CASTS[rng.integers(len(CASTS))]
    return light * (1 + CAST * (1 - harmony) * cast).astype(np.float32)


def _blurred(pixels: np.ndarray, sharpness: float) -> np.ndarray:
    sigma = BLUR * (1 - sharpness) * min(pixels.shape[:2])
    return gaussian_filter(pixels, (sigma, sigma, 0))
