"""Glass-box photos: little photos drawn by a seeded generator, so that their truth is known.

Six craft attributes are drawn at random first, then painted: quality is a stated function of what
can be seen, a score is quality plus a photographer's own noise. Realism was traded for speed and
truth: a scene is gradients, noise, polygons and solids of revolution."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from PIL import ExifTags, Image
from scipy.special import ndtr

from rsrl_lib.drawing.easel import THIRDS_REACH as THIRDS_REACH
from rsrl_lib.drawing.easel import Easel
from rsrl_lib.drawing.failures import spoiled
from rsrl_lib.files import WORK, File, InputError, replacing, size_of
from rsrl_lib.photos import ScoredPhotos
from rsrl_lib.reading.pictures import open_rgb, read_unscored
from rsrl_lib.reading.tables import read_ours
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
FAILING = 1  # the same of the failures that are made in photos
# Quantiles of quality plus noise over 4 million draws, at the shares known of xiheAA.
BORDERS = (0.1954, 0.3817, 0.6299, 0.7395, 0.8242, 0.9184, 0.9946)
SCORE_NOISE = 0.057
RATERS = 60
VOTES = 15
MARKER = "glassbox.json"
"""File beside a set of glass-box photos."""
TRUTH = ("quality", "noise_free_score", "border_distance", "mislabelled")
"""Columns of their table that only the generator knows."""


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
    shape = (7, count) if count else 7
    care, *own_scores = rng.standard_normal(shape)
    attributes = {}
    for name, own in zip(ATTRIBUTES, own_scores, strict=True):
        merit = 0.2**0.5 * care + 0.8**0.5 * own
        attributes[name] = ndtr(np.sign(WEIGHTS[name]) * merit)
    return attributes


def quality(attributes: Mapping[str, float | np.ndarray]) -> float | np.ndarray:
    """Quality in 0..1: .20 distinctness + .14 placement + .18 (1 - clutter) + .18 sharpness
    + .17 exposure + .13 harmony; of numbers, arrays or a table's columns."""
    weighted = sum(WEIGHTS[name] * attributes[name] for name in ATTRIBUTES)
    return weighted - WEIGHTS["clutter"]


def score_of(value: float | np.ndarray) -> np.ndarray:
    """Score 2..9 of a quality, cut at the fixed `BORDERS`; a border belongs to the score above."""
    return SCORES[0] + np.searchsorted(BORDERS, value, side="right")


def draw(seed: int, index: int, *, scenes: Sequence[str] = DEMO_SCENES) -> GlassPhoto:
    """Draw photo `index` of the set `seed`; the same pair gives the same photo in any set."""
    rng = np.random.default_rng([seed, index])
    attributes = {}
    for name, value in sample_attributes(rng).items():
        attributes[name] = round(float(value), 4)
    scene = str(rng.choice(scenes))
    easel = Easel(rng, attributes, scene)
    easel.paint(scene)
    return GlassPhoto(
        image=easel.develop(),
        mask=easel.mask,
        scene=scene,
        attributes=attributes,
        tags={tag: tag in easel.tags for tag in TAGS},
        distractors=np.reshape(easel.distractors, (-1, 2)),
    )


def write(
    folder: Path, count: int, *, seed: int = 0, scenes: Sequence[str] = DEMO_SCENES
) -> Path:
    """Draw `count` photos and their votes into `folder`; returns `photos.csv`, written last.

    Columns: photo, score, crowd_mean, quality, noise_free_score, border_distance (from quality to
    the nearest class border), mislabelled (0/1), scene, mask, attributes, tags (0/1); votes.csv:
    rater, photo, score. A finished folder of the same call stays as it is, an unfinished one is
    drawn again; raises `InputError` for other folders that are not empty, a count below 1 and a
    seed below 0."""
    folder = Path(folder)
    if _is_there(folder, count, seed, json.dumps([DRAWING, count, seed, *scenes])):
        return folder / "photos.csv"
    scenes = tuple(scenes)
    store = partial(_store, folder, seed, scenes=scenes)
    return _write_all(folder, store, count)


def write_from(
    folder: Path, originals: Path, count: int | None = None, *, seed: int = 0
) -> Path:
    """Make glass-box photos of good photos, by failures of known size; returns `photos.csv`.

    `originals` is a folder of good photos, each of which is taken once, or as often as `count`
    photos need. Score, votes and truth are made of the attributes as `write` makes them; columns as
    there, with `source` (the original's name) and without scene, mask and tags. Raises `InputError`
    as `write` does, and where an original cannot be read.
    """
    folder = Path(folder)
    if folder.resolve().is_relative_to(Path(originals).resolve()):
        raise InputError(
            f"{folder} lies in {originals}, and its photos would count as good ones another time; "
            "name a folder beside it."
        )
    good = read_unscored(originals)
    if len(good) < 2:
        raise InputError(
            f"Needed are two good photos or more, {originals} holds {len(good)}; add others."
        )
    count = len(good) if count is None else count
    sizes = [size_of(path) for path in good.path]
    content = hashlib.sha256(repr([*zip(good.photo, sizes, strict=True)]).encode())
    recipe = ["failures", FAILING, count, seed, content.hexdigest()[:16]]
    if _is_there(folder, count, seed, json.dumps(recipe)):
        return folder / "photos.csv"
    return _write_all(folder, partial(_spoil, folder, good, seed), count)


def _is_there(folder: Path, count: int, seed: int, recipe: str) -> bool:
    """Whether a folder holds a finished set of a recipe; else it is made ready for that.

    Raises `InputError` for a folder of something else, and for numbers that make no set.
    """
    for name, value, least in (("count", count, 1), ("seed", seed, 0)):
        if value < least:
            raise InputError(
                f"Needed is a {name} of at least {least}, found is {value}; raise it."
            )
    table = folder / "photos.csv"
    marker = folder / MARKER
    is_ours = marker.exists() and marker.read_text() == recipe
    if is_ours and table.exists():
        return True
    is_unfinished = marker.exists() and not table.exists()
    is_new = not folder.exists() or not any(folder.iterdir())
    if not (is_ours or is_unfinished or is_new):
        raise InputError(
            f"Needed is an empty folder, {folder} holds files; name another one."
        )
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    marker.write_text(recipe)
    return False


def _write_all(
    folder: Path, store: Callable[[int], tuple[dict, pd.DataFrame]], count: int
) -> Path:
    """Store so many photos, and their tables; returns that of the photos."""
    processes = Parallel(n_jobs=-1 if count > 100 else 1)
    drawn = processes(delayed(store)(index) for index in range(count))
    rows, votes = zip(*drawn, strict=True)
    pd.concat(votes).to_csv(folder / "votes.csv", index=False)
    table = folder / "photos.csv"
    with replacing(table) as partial_table:
        pd.DataFrame(rows).to_csv(partial_table, index=False)
    return table


def set_folder(count: int, seed: int, scenes: Sequence[str] = DEMO_SCENES) -> Path:
    """Folder in which the notebooks keep a set."""
    kind = "demo" if tuple(scenes) == DEMO_SCENES else "-".join(scenes)
    return WORK / "data" / f"glassbox-{kind}-{count}-{seed}"


def open_set(
    count: int, seed: int, scenes: Sequence[str] = DEMO_SCENES
) -> ScoredPhotos:
    """The embedded photos, their votes and attributes: drawn once, then read like any folder."""
    folder = set_folder(count, seed, scenes)
    scored = read_folder(
        folder,
        write(folder, count, seed=seed, scenes=scenes),
        votes=folder / "votes.csv",
        attribute_columns=(*ATTRIBUTES, *TAGS),
    )
    drawn = {"count": count, "seed": seed, "scenes": list(scenes)}
    return replace(scored, origin={"glassbox": drawn})


def truth_of(scored: ScoredPhotos) -> pd.DataFrame | None:
    """What nobody knows of other photos: quality, noise_free_score, border_distance, mislabelled.

    By the names of the photos; None where their table is none of glass-box photos.
    """
    origin = scored.origin or {}
    if "glassbox" in origin:
        folder = set_folder(**origin["glassbox"])
    elif "scores" in origin:
        folder = Path(origin["scores"]).parent
    else:
        return None
    facts = facts_in(folder)
    return None if facts is None else facts.loc[scored.table["photo"], list(TRUTH)]


def facts_in(folder: File) -> pd.DataFrame | None:
    """All that the table of a folder of glass-box photos says of them, by their names; None where
    the folder is another one."""
    folder = Path(folder)
    if not (folder / MARKER).exists():
        return None
    return read_ours(folder / "photos.csv").set_index("photo")


def _store(
    folder: Path, seed: int, index: int, *, scenes: Sequence[str]
) -> tuple[dict, pd.DataFrame]:
    """Write one photo and its mask; returns its row and its votes."""
    photo = draw(seed, index, scenes=scenes)
    rng = np.random.default_rng([seed, index, 1])
    name = f"photos/{index + 1:05d}.jpg"
    mask = f"masks/{index + 1:05d}.png"
    _save(photo.image, folder / name, rng)
    (folder / "masks").mkdir(exist_ok=True)
    photo.mask.save(folder / mask, compress_level=1)
    row, votes = _judged(name, photo.attributes, seed, rng)
    row |= {"scene": photo.scene, "mask": mask}
    tags = {tag: int(shown) for tag, shown in photo.tags.items()}
    return row | photo.attributes | tags, votes


def _spoil(
    folder: Path, good: pd.DataFrame, seed: int, index: int
) -> tuple[dict, pd.DataFrame]:
    """Write one photo with failures; returns its row and its votes."""
    order = np.random.default_rng([seed, 3]).permutation(len(good))
    place = order[index % len(good)]
    rng = np.random.default_rng([seed, index, 4])
    attributes = {}
    for name, value in sample_attributes(rng).items():
        attributes[name] = round(float(value), 4)
    step = int(rng.integers(1, len(good)))
    clutter = open_rgb(good.path[(place + step) % len(good)])
    photo = spoiled(open_rgb(good.path[place]), clutter, attributes, rng)
    name = f"photos/{index + 1:05d}.jpg"
    photo.save(folder / name, quality=90)
    row, votes = _judged(name, attributes, seed, rng)
    return row | {"source": good.photo[place]} | attributes, votes


def _judged(
    name: str, attributes: Mapping[str, float], seed: int, rng: np.random.Generator
) -> tuple[dict[str, object], pd.DataFrame]:
    """What the photographer and the crowd say of a photo, and what is true."""
    value = quality(attributes)
    score = score_of(value + SCORE_NOISE * rng.standard_normal())
    truth = score_of(value)
    votes = _votes(name, value, seed, rng)
    row = {
        "photo": name,
        "score": score,
        "crowd_mean": votes["score"].mean(),
        "quality": value,
        "noise_free_score": truth,
        "border_distance": abs(np.array(BORDERS) - value).min(),
        "mislabelled": int(score != truth),
    }
    return row, votes


def _save(image: Image.Image, path: Path, rng: np.random.Generator) -> None:
    """Write a photo; some upright ones lie on their side, and EXIF says so."""
    exif = Image.Exif()
    if image.height > image.width and rng.random() < 0.25:
        image = image.transpose(Image.Transpose.ROTATE_90)
        exif[ExifTags.Base.Orientation] = 6
    image.save(path, quality=90, exif=exif)


def _votes(
    name: str, value: float, seed: int, rng: np.random.Generator
) -> pd.DataFrame:
    """Votes of some of the set's raters, who differ in severity and in noise."""
    of_raters = np.random.default_rng([seed, 0, 2])
    severity, spread = of_raters.normal(0, (0.06, 0.25), (RATERS, 2)).T
    noise = SCORE_NOISE * np.exp(spread) * rng.standard_normal(RATERS)
    felt = value + severity + noise
    raters = np.sort(rng.choice(RATERS, VOTES, replace=False))
    votes = {
        "rater": raters + 1,
        "photo": name,
        "score": score_of(felt[raters]),
    }
    return pd.DataFrame(votes)
