"""Glass-box photos: little photos drawn by a seeded generator, so that their truth is known.

Six craft attributes are drawn at random first, then painted: quality is a stated function of what
can be seen, a score is quality plus a photographer's own noise. Realism was traded for speed and
truth: a scene is gradients, noise, polygons and solids of revolution."""

import colorsys
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from PIL import ExifTags, Image, ImageDraw, ImageFilter
from scipy.interpolate import pchip_interpolate
from scipy.special import ndtr

from rsrl_lib.files import WORK, InputError, replacing
from rsrl_lib.photos import ScoredPhotos
from rsrl_lib.sources import read_folder

ATTRIBUTES = (
    "distinctness",
    "placement",
    "clutter",
    "sharpness",
    "exposure",
    "harmony",
)
WEIGHTS = dict(zip(ATTRIBUTES, (0.20, 0.14, -0.18, 0.18, 0.17, 0.13), strict=True))
TAGS = ("water", "reflection", "sunset", "bokeh", "flower", "warm_light", "night")
DEMO_SCENES = ("lake", "flower", "sunset", "still_life")
STARTER_SCENES = ("lighthouse", "balloon", "apple", "lamp")
OTHER_SCENES = ("pagoda", "mushroom")
SCORES = range(2, 10)
DRAWING = 1  # raise it when pictures change: a set drawn before is then not taken for finished
# Quantiles of quality plus noise over 4 million draws, at the shares known of xiheAA.
BORDERS = (0.1954, 0.3817, 0.6299, 0.7395, 0.8242, 0.9184, 0.9946)
SCORE_NOISE, RATERS, VOTES = 0.057, 60, 15
THIRDS_REACH = (
    0.30  # distance from a thirds point, in sides of the photo, where placement is 0
)
MOODS = {  # (hue, saturation, value) of sky above, sky at horizon and land; the accent's hue
    "golden": ((0.60, 0.35, 0.62), (0.09, 0.60, 1.00), (0.07, 0.55, 0.26), 0.02),
    "dusk": ((0.70, 0.50, 0.36), (0.96, 0.45, 0.88), (0.72, 0.45, 0.17), 0.08),
    "day": ((0.58, 0.62, 0.80), (0.55, 0.20, 0.97), (0.30, 0.50, 0.34), 0.04),
    "mist": ((0.58, 0.36, 0.66), (0.10, 0.16, 0.95), (0.50, 0.32, 0.34), 0.06),
    "night": ((0.64, 0.75, 0.13), (0.60, 0.60, 0.42), (0.63, 0.55, 0.09), 0.12),
}
BOAT = [  # polygons x y ... over -1..1, y downwards: hull, mast and two sails
    *("-.85 .62 .9 .55 .6 .95 -.6 .95", "-.03 -1 .03 -1 .03 .6 -.03 .6"),
    *("-.07 -.8 -.07 .45 -.7 .45", ".07 -.92 .08 .45 .85 .42 .5 -.2"),
]
LATHED = {  # solids of revolution: y radius ... downwards
    "fir": "-1.1 .01 -.7 .24 -.68 .12 -.3 .4 -.28 .22 .15 .54 .17 .3 .7 .66 .72 .09 1 .11",
    "jug": "-1 .3 -.85 .24 -.5 .25 -.1 .55 .4 .66 .8 .5 1 .36",
    "bottle": "-1.1 .15 -1.02 .15 -1 .11 -.5 .13 -.25 .36 .3 .4 .95 .4 1 .34",
    "balloon": "-1 .02 -.93 .35 -.5 .72 -.2 .76 .2 .58 .58 .16 .6 .02 .84 .02 .85 .13 1.05 .11",
    "lighthouse": "-1.1 .01 -.86 .22 -.85 .14 -.63 .14 -.62 .28 -.56 .28 -.55 .2 .2 .27 1 .36",
    "apple": "-.8 .05 -.74 .32 -.45 .7 0 .82 .38 .72 .66 .44 .76 .1",
    "pagoda": "-1.1 .01 -.9 .05 -.7 .3 -.66 .14 -.36 .16 -.3 .46 -.25 .2 .1 .22 .2 .6 .26 .28 1 .3",
    "mushroom": "-.8 .05 -.74 .3 -.5 .62 -.15 .8 -.05 .74 -.03 .24 .5 .22 .9 .32 1 .3",
    "lamp": "-.9 .28 -.2 .62 -.16 .06 .6 .08 .85 .2 .95 .45 1 .46",
}


@dataclass(frozen=True)
class GlassPhoto:
    """One drawn photo: RGB image, 0/255 subject mask of the same size, and what was drawn.

    `distractors` (n, 2) are the x and y, in pixels, of what clutters it.
    """

    image: Image.Image
    mask: Image.Image
    scene: str
    attributes: dict[str, float]
    tags: dict[str, bool]
    distractors: np.ndarray


def sample_attributes(
    rng: np.random.Generator, count: int = 0
) -> dict[str, np.ndarray]:
    """Draw the attributes, uniform on 0..1; normal scores of two merits correlate by 0.2 (care)."""
    care, *own = rng.standard_normal((7, count) if count else 7)
    merits = zip(WEIGHTS.items(), own, strict=True)
    return {
        name: ndtr(np.sign(w) * (0.2**0.5 * care + 0.8**0.5 * z))
        for (name, w), z in merits
    }


def quality(attributes: Mapping[str, float | np.ndarray]) -> float | np.ndarray:
    """Quality in 0..1: .20 distinctness + .14 placement + .18 (1 - clutter) + .18 sharpness
    + .17 exposure + .13 harmony; of numbers, arrays or a table's columns."""
    return (
        sum(WEIGHTS[name] * attributes[name] for name in ATTRIBUTES)
        - WEIGHTS["clutter"]
    )


def score_of(value: float | np.ndarray) -> np.ndarray:
    """Score 2..9 of a quality, cut at the fixed `BORDERS`; a border belongs to the score above."""
    return SCORES[0] + np.searchsorted(BORDERS, value, side="right")


def draw(seed: int, index: int, *, scenes: Sequence[str] = DEMO_SCENES) -> GlassPhoto:
    """Draw photo `index` of the set `seed`; the same pair gives the same photo in any set."""
    rng = np.random.default_rng([seed, index])
    attributes = {
        name: round(float(v), 4) for name, v in sample_attributes(rng).items()
    }
    easel = _Easel(rng, attributes, scene := str(rng.choice(scenes)))
    easel.paint(scene)
    tags = {tag: tag in easel.tags for tag in TAGS}
    distractors = np.reshape(easel.distractors, (-1, 2))
    return GlassPhoto(easel.develop(), easel.mask, scene, attributes, tags, distractors)


def write(
    folder: Path, count: int, *, seed: int = 0, scenes: Sequence[str] = DEMO_SCENES
) -> Path:
    """Draw `count` photos and their votes into `folder`; returns `photos.csv`, written last.

    Columns: photo, score, crowd_mean, quality, noise_free_score, border_distance (from quality to
    the nearest class border), mislabelled (0/1), scene, mask, attributes, tags (0/1); votes.csv:
    rater, photo, score. A finished folder of the same call stays as it is, an unfinished one is
    drawn again; raises `InputError` for other folders that are not empty, a count below 1 and a
    seed below 0."""
    folder, recipe = Path(folder), json.dumps([DRAWING, count, seed, *scenes])
    table, marker = folder / "photos.csv", folder / "glassbox.json"
    for name, value, least in (("count", count, 1), ("seed", seed, 0)):
        if value < least:
            raise InputError(
                f"Needed is a {name} of at least {least}, found is {value}; raise it."
            )
    ours = marker.exists() and marker.read_text() == recipe
    if ours and table.exists():
        return table
    if not ours and folder.exists() and any(folder.iterdir()):
        raise InputError(
            f"Needed is an empty folder, {folder} holds files; name another one."
        )
    for part in ("photos", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    marker.write_text(recipe)
    jobs = (
        delayed(_store)(folder, seed, index, tuple(scenes)) for index in range(count)
    )
    rows, votes = zip(*Parallel(n_jobs=-1 if count > 100 else 1)(jobs), strict=True)
    pd.concat(votes).to_csv(folder / "votes.csv", index=False)
    with replacing(table) as partial:
        pd.DataFrame(rows).to_csv(partial, index=False)
    return table


def set_folder(count: int, seed: int, scenes: Sequence[str] = DEMO_SCENES) -> Path:
    """Folder in which the notebooks keep a set."""
    kind = "demo" if scenes == DEMO_SCENES else "-".join(scenes)
    return WORK / "data" / f"glassbox-{kind}-{count}-{seed}"


def open_set(
    count: int, seed: int, scenes: Sequence[str] = DEMO_SCENES
) -> ScoredPhotos:
    """The embedded photos, their votes and attributes: drawn once, then read like any folder."""
    folder = set_folder(count, seed, scenes)
    table = write(folder, count, seed=seed, scenes=scenes)
    known = {"votes": folder / "votes.csv", "attribute_columns": (*ATTRIBUTES, *TAGS)}
    return read_folder(folder, table, **known)


def _store(folder: Path, seed: int, index: int, scenes: Sequence[str]) -> tuple:
    """Write one photo and its mask; returns its row and its votes."""
    photo, rng = (
        draw(seed, index, scenes=scenes),
        np.random.default_rng([seed, index, 1]),
    )
    name, mask = f"photos/{index + 1:05d}.jpg", f"masks/{index + 1:05d}.png"
    image, exif = photo.image, Image.Exif()
    if image.height > image.width and rng.random() < 0.25:
        image, exif[ExifTags.Base.Orientation] = (
            image.transpose(Image.Transpose.ROTATE_90),
            6,
        )
    image.save(folder / name, quality=90, exif=exif)
    photo.mask.save(folder / mask, compress_level=1)
    value = quality(photo.attributes)
    score, truth = (
        score_of(value + SCORE_NOISE * rng.standard_normal()),
        score_of(value),
    )
    severity, spread = (
        np.random.default_rng([seed, 0, 2]).normal(0, (0.06, 0.25), (RATERS, 2)).T
    )
    felt = value + severity + SCORE_NOISE * np.exp(spread) * rng.standard_normal(RATERS)
    raters = np.sort(rng.choice(RATERS, VOTES, replace=False))
    votes = pd.DataFrame(
        {"rater": raters + 1, "photo": name, "score": score_of(felt[raters])}
    )
    row = {
        "photo": name,
        "score": score,
        "crowd_mean": votes["score"].mean(),
        "quality": value,
    }
    row |= {
        "noise_free_score": truth,
        "border_distance": abs(np.array(BORDERS) - value).min(),
    }
    row |= {"mislabelled": int(score != truth), "scene": photo.scene, "mask": mask}
    return row | photo.attributes | {
        tag: int(on) for tag, on in photo.tags.items()
    }, votes


def _planes(image: Image.Image) -> np.ndarray:
    return np.stack([np.asarray(band) for band in image.split()]) * np.float32(1 / 255)


def _image(planes: np.ndarray, mode: str = "RGBA") -> Image.Image:
    planes = (np.clip(planes, 0, 1) * 255).astype(np.uint8)
    return Image.merge(mode, [Image.fromarray(plane) for plane in planes])


def _ink(colour: np.ndarray, alpha: float = 1.0) -> tuple[int, ...]:
    return tuple((np.clip([*np.ravel(colour), alpha], 0, 1) * 255).astype(int).tolist())


def _cut(colour: np.ndarray, inside: np.ndarray) -> np.ndarray:
    alpha = np.clip(inside + 0.5, 0, 1)[None]
    return np.concatenate([colour * alpha, alpha]).astype(np.float32)


class _Easel:
    """A photo being painted, as premultiplied float32 planes (colours and alpha, rows, columns)."""

    def __init__(
        self, rng: np.random.Generator, attributes: dict[str, float], scene: str
    ):
        self.rng, self.a, self.focus_blur, self.distractors = rng, attributes, 0.0, []
        ratio, long = (
            rng.choice([2 / 3, 3 / 4, 1, 4 / 3, 3 / 2, 16 / 9]),
            rng.integers(320, 401),
        )
        self.w, self.h = int(long * min(1, ratio)), int(long * min(1, 1 / ratio))
        self.u, self.light = min(self.w, self.h), int(rng.choice([-1, 1]))
        self.rows, self.cols = (
            n.astype(np.float32) for n in np.ogrid[: self.h, : self.w]
        )
        self.px = np.zeros((3, self.h, self.w), np.float32)
        self.r = int(self.u * (0.16 + 0.11 * attributes["distinctness"]))
        self.blur = 0.02 * self.u * (1 - attributes["sharpness"]) ** 1.4
        self.grid = np.float32(
            np.meshgrid(*[np.linspace(-1.25, 1.25, int(2.5 * self.r))] * 2)
        )
        away, centre = (1 - attributes["placement"]) * THIRDS_REACH, np.zeros(2)
        while (
            abs(centre - 0.5).max() > 0.43
            or np.hypot(*(abs(centre - 0.5) - 1 / 6)) < away - 1e-9
        ):
            angle = rng.uniform(0, 2 * np.pi)
            centre = rng.choice([1 / 3, 2 / 3], 2) + away * np.array(
                [np.cos(angle), np.sin(angle)]
            )
        self.x, self.y = (centre * (self.w, self.h)).tolist()
        mood = str(rng.choice(["golden", "dusk"] if scene == "sunset" else list(MOODS)))
        *colours, self.accent = MOODS[mood]
        self.top, self.low, self.land = (self.colour(*c) for c in colours)
        self.tags = {scene, mood, "warm_light" if mood == "golden" else ""}

    def colour(self, hue: float, saturation: float, value: float) -> np.ndarray:
        """Harmony pulls a hue to the accent or its complement, discord scatters it and shouts."""
        harmony, discord = self.a["harmony"], 1 - self.a["harmony"]
        hue += (
            0.5
            * harmony**2
            * (self.accent + 0.5 * round((hue - self.accent) * 2) - hue)
        )
        hue += discord**1.5 * self.rng.choice([-1, 1]) * self.rng.uniform(0.1, 0.4)
        saturation = np.clip(saturation * (1 - 0.1 * harmony) + 0.5 * discord**2, 0, 1)
        rgb = colorsys.hsv_to_rgb(hue % 1, saturation, value)
        return np.array(rgb, np.float32).reshape(3, 1, 1)

    def noise(self, tall: float, wide: float, rows: int | None = None) -> np.ndarray:
        """Smooth noise of about unit spread; its features measure `tall` x `wide` short sides."""
        total = np.zeros((rows or self.h, self.w), np.float32)
        for k in range(3):
            cells = np.array(total.shape) / self.u / (tall, wide) * 2**k + 2
            knots = Image.fromarray(
                self.rng.standard_normal(cells.astype(int)).astype(np.float32)
            )
            total += np.asarray(knots.resize(total.shape[::-1], 3)) * np.float32(
                0.55**k
            )
        return total

    def spot(self, x: float, y: float, rx: float, ry: float) -> np.ndarray:
        return np.exp(-(((self.cols - x) / rx) ** 2)) * np.exp(
            -(((self.rows - y) / ry) ** 2)
        )

    def blend(self, alpha: np.ndarray, colour: np.ndarray, top: int = 0) -> None:
        part = self.px[:, top:]
        part += np.clip(alpha, 0, 1) * (colour - part)

    def over(self, layer: Image.Image, blur: float = 0.0) -> None:
        if box := layer.getbbox():
            x, y = (max(int(edge - 3 * blur), 0) for edge in box[:2])
            right, foot = np.minimum(np.array(box[2:]) + int(3 * blur), layer.size)
            part = layer.crop((x, y, right, foot))
            part = _planes(part.filter(ImageFilter.GaussianBlur(blur)))
            self.px[:, y:foot, x:right] *= 1 - part[3]
            self.px[:, y:foot, x:right] += part[:3]

    def distract(self, far: float, *stem: float) -> None:
        """Scatter twigs (about a stem) or things that stand below the row `far`."""
        layer, rng = Image.new("RGBa", (2 * self.w, 2 * self.h)), self.rng
        pen, far = ImageDraw.Draw(layer), min(far, 0.85 * self.h)
        pen.line(
            [2 * at for at in stem], _ink(self.colour(0.08, 0.6, 0.25)), self.r // 4
        )
        for y in np.sort(rng.uniform(far, self.h, round(18 * self.a["clutter"]))):
            x = (self.x + rng.uniform(1.2 * self.r, self.w - 1.2 * self.r)) % self.w
            self.distractors.append((x, y))
            size = self.u * rng.uniform(0.2, 0.4) * (1 + (y - far) / self.h)
            a, b, c, d = rng.uniform((0.02, 0.5, 0.1, 0.2), (0.3, 1.4, 0.5, 0.9))
            parts = [-a, 0, a, 0, a, -b, -a, -b], [-c, -b, c, -b, c, -b * d, -c, -b * d]
            if stem:
                parts = (
                    [a, b, a + 0.1, b, d - 0.7, -b],
                    [c, b, d - 0.4, -b, d - 0.5, -b],
                )
            for part, value in zip(parts, (0.1, 0.7), strict=True):
                ink = _ink(self.colour(rng.random(), 0.55, value + rng.uniform(0, 0.3)))
                at = np.reshape(part, (-1, 2)) * size + (2 * x, 2 * y)
                pen.polygon(at.ravel().tolist(), ink)
        self.over(layer.reduce(2))

    def lathe(self, profile: str, tone: np.ndarray) -> np.ndarray:
        (x, y), ys, radii = (
            self.grid,
            *np.array(LATHED[profile].split(), float).reshape(-1, 2).T,
        )
        radius = pchip_interpolate(ys, radii, np.clip(y[:, :1], ys[0], ys[-1]))
        radius = np.float32(np.where((y < ys[0]) | (y > ys[-1]), -1, radius))
        turn = np.clip(x / np.maximum(radius, 1e-3), -1, 1) * self.light
        facing = np.clip(0.62 * np.sqrt(1 - turn**2) + 0.78 * turn, 0, 1)
        shine = 0.3 * np.exp(-(((turn - 0.5) / 0.18) ** 2))
        return _cut(tone * (0.35 + 0.75 * facing) + shine, (radius - abs(x)) * self.r)

    def seat(self, patch: np.ndarray) -> float:
        """Put the centroid of the subject on its place; returns the row of its foot."""
        rows, cols, n = patch[3].sum(1), patch[3].sum(0), np.arange(patch.shape[1])
        left, top = (
            round(self.x - cols @ n / cols.sum()),
            round(self.y - rows @ n / rows.sum()),
        )
        self.subject = Image.new("RGBA", (self.w, self.h))
        self.subject.paste(_image(patch), (left, top))
        self.mask = self.subject.getchannel("A").point(
            lambda alpha: 255 * (alpha > 127)
        )
        return top + float(np.flatnonzero(rows > 0.5)[-1])

    def place(self) -> None:
        """Set the subject into the picture; distinctness is its contrast to what lies behind."""
        d, (x, y, right, foot) = self.a["distinctness"], self.subject.getbbox()
        own = _planes(self.subject.crop((x, y, right, foot)))
        behind = (self.px[:, y:foot, x:right] * own[3]).sum(
            (1, 2), keepdims=True
        ) / own[3].sum()
        bright = own[:3].sum() / 3 / own[3].sum() > behind.mean()
        halo = self.spot(self.x, self.y, 2 * self.r, 2 * self.r) * max(0.7 * d - 0.2, 0)
        self.blend(halo, behind * (0.4 if bright else 1.5))
        contrast = 0.1 + 0.9 * d**0.8
        own[:3] *= contrast * (1 + (0.4 if bright else -0.15) * d)
        own[:3] += (1 - contrast) * behind * own[3]
        self.subject.paste(_image(own), (x, y))
        self.over(self.subject, self.focus_blur)

    def shore(self, foot: float) -> None:
        """Sky, ridges and the subject, then from the row `foot` on the water that mirrors them."""
        horizon, rng = int(np.clip(foot, 1, self.h - 2)), self.rng
        self.px[:] = self.top + (self.low - self.top) * np.clip(
            self.rows / horizon, 0, 1
        )
        self.blend(
            self.noise(0.14, 0.6) * 0.3 - 0.06, self.low * 0.6 + 0.4 * self.low.max()
        )
        warm, x = (
            self.low * 0.5 + np.float32([[[0.3]], [[0.22]], [[0.05]]]),
            rng.uniform(0.1, 0.9),
        )
        for size, strength, glow in (
            (0.7, 0.7, 0.2),
            (0.16, 0.7, 0.35),
            (0.05, 30, 0.6),
        ):
            sun = self.spot(
                x * self.w, horizon - 0.24 * self.u, size * self.u, size * self.u
            )
            self.blend(sun * strength * ("sunset" in self.tags), warm + glow)
        for near in (0.2, 0.5, 0.85):
            line = horizon - 0.12 * self.u * (1.1 - near) * abs(
                1 + 0.5 * self.noise(1, 0.5, 2)[:1]
            )
            top = int(np.clip(line.min(), 0, horizon))
            mist = np.clip((self.rows[top:] - top) * 4 / self.u, 0, 0.6) * (1 - near)
            tint = self.low * 0.95 + (self.land - self.low * 0.95) * near * (1 - mist)
            self.blend(self.rows[top:] - line + 0.5, tint, top)
        self.place()
        below, calm = self.rows[horizon:] - horizon, rng.uniform(0.2, 1)
        depth = below / (self.h - horizon)
        wave = self.noise(0.025, 0.2, 96)[
            (np.log1p(below[:, 0] * 33 / self.h) * 27).astype(int)
        ]
        source = horizon - 1 - 0.9 * below + (1 - calm) * wave * depth * 0.04 * self.h
        source = np.clip(source, 0, horizon - 1).astype(int), np.arange(self.w)
        water = self.px[:, *source] * (0.85 - 0.25 * depth) + 0.07 * self.top
        meadow = self.land * 1.4 + (self.low - self.land) * 0.3 * (1 - depth) ** 3
        wet = "sunset" in self.tags or rng.random() < 0.7
        self.px[:, horizon:] = (water if wet else meadow) * (
            1 + (0.22 - 0.16 * calm) * wave
        )
        self.tags |= {"water" * wet, "reflection" * (wet and calm > 0.5)}
        self.distract(foot)

    def closeup(self, *stem: float) -> None:
        """A melted background with lights, small and hard where focus missed the subject."""
        rng, bright, lights = (
            self.rng,
            self.low * 0.8,
            max(int(self.rng.integers(-10, 40)), 0),
        )
        soft = (
            0.3 + 0.3 * self.noise(0.25, 0.25) + 0.7 * self.spot(0, 0, self.u, self.u)
        )
        self.px[:] = self.land * 0.5 + (bright - self.land * 0.5) * np.clip(soft, 0, 1)
        half = Image.new("RGB", (self.w // 2, self.h // 2))
        for _ in range(lights):
            r = self.u * rng.uniform(0.03, 0.075) * (0.25 + 0.75 * self.a["sharpness"])
            x, y, glow, alpha = rng.uniform((0, 0, 0, 0.15), (*half.size, 0.4, 0.6))
            ink = _ink(bright + glow, alpha)
            ImageDraw.Draw(half, "RGBA").ellipse((x - r, y - r, x + r, y + r), ink)
        self.px += (1 - self.px) * _planes(
            half.filter(ImageFilter.BoxBlur(1)).resize((self.w, self.h))
        )
        self.tags |= {"bokeh" * (lights > 4)}
        self.focus_blur = self.blur
        self.distract(0, *stem)
        self.place()

    def table(self, foot: float) -> None:
        """A wall with window light, a table, and the subject's soft shadow on it."""
        edge = int(np.clip(foot - self.r * self.rng.uniform(0.3, 0.8), 0, self.h - 1))
        window = self.spot(
            self.w * (0.5 + 0.4 * self.light), 0.2 * self.h, 0.6 * self.u, self.h
        )
        self.px[:] = self.land * (1.5 - 0.7 * self.rows / self.h)
        self.blend(window * 0.7, self.low)
        wood = self.colour(0.08, 0.5, 0.5) * (
            1 + 0.06 * self.noise(0.02, 0.5, self.h - edge)
        )
        self.px[:, edge:] = wood * (0.7 + 0.5 * window[edge:])
        self.distract(edge)
        self.px *= 1 - 0.7 * self.spot(
            self.x - self.r * self.light / 2, foot, self.r, self.r / 8
        )
        self.place()

    def paint(self, scene: str) -> None:
        rng, (x, y) = self.rng, self.grid
        hue = self.colour(self.accent + rng.uniform(-0.12, 0.12), 0.75, 0.9)
        match scene:
            case "lake":
                needles = (
                    self.colour(rng.choice([0.05, 0.12, 0.3]), 0.7, 0.7)
                    * self.low.max()
                )
                needles = np.where(
                    y > 0.71, 0.1, needles * rng.uniform(0.5, 1.1, y.shape)
                )
                self.shore(self.seat(self.lathe("fir", needles)))
            case "sunset":
                self.shore(self.seat(self.boat(hue)))
            case "lighthouse":
                bands = np.where((y < -0.85) | (y * 2.6 % 1 < 0.5), hue, 0.95)
                self.shore(self.seat(self.lathe(scene, bands)))
            case "pagoda":
                roofs = np.where(y * 2 % 1 < 0.3, hue, 0.85 * self.low.max())
                self.shore(self.seat(self.lathe(scene, roofs)))
            case "balloon":
                gores = np.where(x / (1.3 - (y + 0.2) ** 2) % 0.3 < 0.15, hue, 1 - hue)
                self.seat(self.lathe(scene, gores))
                self.shore(0.93 * self.h)
            case "flower":
                self.seat(self.flower(hue))
                self.closeup(self.x, self.y, self.x - 0.1 * self.u * self.light, self.h)
            case "apple":
                self.seat(self.lathe(scene, hue * (0.8 + 0.3 * x)))
                self.closeup(
                    self.x, self.y - 0.6 * self.r, self.w * (self.light > 0), 0
                )
            case "mushroom":
                cap = np.where(np.sin(9 * x) * np.sin(9 * y) > 0.55, 0.95, hue)
                self.seat(self.lathe(scene, np.where(y < -0.04, cap, 0.85)))
                self.closeup(self.x, self.y + 0.9 * self.r, self.x, self.h)
            case "lamp":
                self.table(
                    self.seat(self.lathe(scene, hue * np.where(y < -0.17, 1.4, 0.4)))
                )
            case "still_life":
                glaze = hue * (1 - 0.5 * (abs(y - rng.uniform(-0.2, 0.6)) < 0.07))
                self.table(
                    self.seat(self.lathe(str(rng.choice(["jug", "bottle"])), glaze))
                )

    def boat(self, hue: np.ndarray) -> np.ndarray:
        side, hull = 3 * len(self.grid[0]), self.colour(self.accent + 0.5, 0.6, 0.12)
        layer = Image.new("RGBa", (side, side))
        for polygon, colour in zip(BOAT, (hull, hull, hue / 2, hue / 1.5), strict=True):
            at = (np.array(polygon.split(), float) / 2.5 + 0.5) * side
            ImageDraw.Draw(layer).polygon(at.tolist(), _ink(colour))
        return _planes(layer.reduce(3))

    def flower(self, hue: np.ndarray) -> np.ndarray:
        rng, (x, y) = self.rng, self.grid
        rho = np.hypot(x, y / rng.uniform(0.75, 1))
        petals, slim, head = rng.integers(5, 14), rng.uniform(0.3, 0.7), 0
        seeds = self.colour(0.12, 0.8, 0.8) * rng.uniform(0.5, 1.1, rho.shape)
        for k, size in enumerate((1.15, 0.95, 0.72)[: rng.integers(1, 4)]):
            lobe = abs(np.cos(petals / 2 * np.arctan2(y, x) + k * np.pi / 2 + 1))
            tone = 0.1 * k + (0.45 + 0.55 * rho / size) * (0.6 + 0.4 * lobe)
            tone = np.where(rho < 0.26, seeds, hue * (tone + 0.2 * x * self.light))
            ring = _cut(tone, (size * (0.3 + 0.7 * lobe**slim) - rho) * self.r)
            head = ring + head * (1 - ring[3])
        return head

    def develop(self) -> Image.Image:
        """Lens and shutter: focus or shake, exposure, colour cast, vignette and grain."""
        rng, miss, dark = self.rng, 1 - self.a["exposure"], self.rng.random() < 0.5
        cast = 1 + (1 - self.a["harmony"]) ** 2 * rng.uniform(-0.25, 0.25, (3, 1, 1))
        px = self.px * np.float32(np.clip(0.5 / self.px.mean(), 0.6, 1.7) * cast)
        if not self.focus_blur:
            shake = (self.blur * rng.uniform(0.6, 1.4, 2)).tolist()
            px = _planes(_image(px, "RGB").filter(ImageFilter.GaussianBlur(shake)))
        px = (
            px * (1 - 0.76 * miss**1.2)
            if dark
            else px * (1 + 1.2 * miss**1.4) + 0.15 * miss**2
        )
        px *= 0.8 + 0.25 * self.spot(self.w / 2, self.h / 2, 0.8 * self.w, 0.8 * self.h)
        grain = rng.standard_normal((self.h, self.w), np.float32)
        return _image(px + grain * (0.012 + 0.03 * miss * dark), "RGB")
