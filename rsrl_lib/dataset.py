"""What the rounds of a run know of the photos: labels, parts, weights, attributes.

It is made once, before the first round, and is the same in all of them.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rsrl_lib.controls import CONTROLS, Control
from rsrl_lib.deciding import borders_of, is_of_one_scale
from rsrl_lib.duplicates import NearDuplicates, near_duplicates
from rsrl_lib.files import InputError
from rsrl_lib.heads import Frozen
from rsrl_lib.losses import sample_weights
from rsrl_lib.photos import ScoredPhotos
from rsrl_lib.pixels import Pixels
from rsrl_lib.protocols import (
    check_trained,
    joined_groups,
    low_high,
    merge_rare,
    resplit,
    split,
)
from rsrl_lib.provenance import common_folder
from rsrl_lib.recipe import Recipe
from rsrl_lib.runs import Run

Strangers = tuple[pd.DataFrame, Pixels]
"""Unscored photos of another source: a table with `photo`, and their pixels."""


@dataclass(frozen=True)
class Dataset:
    """The photos (n,) of a run, in the order of `pixels`, as its recipe takes them."""

    table: pd.DataFrame
    """photo, score, label (a rare score merged into its neighbour, or a level), part, digest and,
    where it is given, group."""
    pixels: Pixels
    weights: np.ndarray
    """(n,) of the photos in the loss, before they are scaled (AWCU-2018 eq. 9)."""
    mean_scores: np.ndarray
    """(n,) of the photos; the scores where no means are known, or means on another scale."""
    borders: tuple[float, ...]
    """Mean scores between one label and the next."""
    attributes: pd.DataFrame
    """(n, any) targets of sigmoids, in 0..1, NaN where unknown."""
    merged_scores: dict[int, int]
    """From each score that was merged to the label that its photos carry."""
    fingerprint: dict[str, str]
    """What must not change while a run goes on: photos, scores, photos of another source."""
    other: Strangers | None = None
    groups: np.ndarray | None = None
    """(n,) number of what each photo is kept together with, where groups are given or
    near-duplicates were looked for: copies of a file among them."""
    near: NearDuplicates | None = None
    parts_are_given: bool = False
    """By the user, for each photo."""
    control: Control = CONTROLS["none"]
    """What the rounds do that the recipe's control says, or one of your own."""
    origin: dict[str, object] | None = None
    """Where the photos were read, if that is known."""
    rater: dict | None = None
    """How well whoever scored the photos repeats a score, where that is known."""
    frozen: Frozen | None = None
    """What the body sees in the photos before it is trained, where a round needs the best head."""

    @property
    def folder_of_other(self) -> str | None:
        """Where the photos of another source lie, if there are any and they are files."""
        if self.other is None or "path" not in self.other[0]:
            return None
        return common_folder(self.other[0])

    @property
    def labels(self) -> np.ndarray:
        return self.table.label.to_numpy()

    @property
    def scores(self) -> list[int]:
        """All labels, in order."""
        return np.unique(self.labels).tolist()

    @property
    def training_rows(self) -> np.ndarray:
        """Positions of the original training photos."""
        return np.flatnonzero(self.table.part == "train")

    @property
    def groups_count_each(self) -> bool:
        """Whether the photos of a group each count, unlike copies of a file."""
        return self.groups is not None

    @property
    def _together(self) -> np.ndarray | None:
        """What keeps photos together: their groups, or else the digests of their files."""
        return self.pixels.digests if self.groups is None else self.groups

    def groups_of(self, rows: np.ndarray) -> np.ndarray | None:
        """What the photos at `rows` are kept together by, where it is known."""
        together = self._together
        return None if together is None else together[rows]

    def parts(self, recipe: Recipe, i: int) -> pd.Series:
        """Part of each photo in round `i`: as it was divided, or anew, by a leak to be shown."""
        return resplit(
            self.table.part,
            self.labels,
            recipe.resplit,
            round=i,
            seed=recipe.seed,
            groups=self._together,
        )


def make_dataset(
    photos: ScoredPhotos,
    pixels: Pixels,
    recipe: Recipe,
    run: Run,
    *,
    other: Strangers | None = None,
    control: Control | None = None,
) -> Dataset:
    """Divide the photos, or keep to how a run has begun, and prepare what its rounds learn from.

    `control` is one of your own, which the recipe calls 'own'. Raises `InputError` where the photos
    cannot be divided, or lack what the recipe asks for.
    """
    near = _near_duplicates(pixels, recipe)
    groups = _groups(photos, pixels, near)
    labels, merged, parts = _divided(photos, pixels, recipe, run, groups)
    _check_choosing(parts, recipe)
    table = photos.table[["photo", "score"]].assign(label=labels, part=parts)
    table["digest"] = pixels.digests
    if "group" in photos.table:
        table["group"] = photos.table.group
    train = np.flatnonzero(parts == "train")

    attributes = soft_attributes(photos, recipe.attributes, train)
    if recipe.untagged == "none":
        attributes = attributes.fillna(0.0)
    mean_scores = photos.table.mean_score.to_numpy()
    weights = sample_weights(mean_scores, recipe.ambiguous, recipe.weights_ab)
    learned = np.column_stack([labels, weights, attributes])
    fingerprint = _fingerprints(photos, pixels, other, learned)

    control = control or CONTROLS[recipe.control]
    weights[train] *= control.weights(labels[train])
    borders = (recipe.cut,)
    if recipe.levels == "scores":
        scores = table.score.to_numpy()
        borders = borders_of(labels, scores)
        if not is_of_one_scale(scores, mean_scores):
            mean_scores = scores.astype(float)
    return Dataset(
        table,
        pixels,
        weights,
        mean_scores,
        borders,
        attributes,
        merged,
        fingerprint,
        other,
        groups,
        near,
        control=control,
        parts_are_given="part" in photos.table,
        origin=photos.origin,
        rater=photos.rater,
    )


def divide(
    photos: ScoredPhotos, pixels: Pixels, recipe: Recipe
) -> tuple[np.ndarray, dict[int, int], pd.Series]:
    """Label of each photo, from each score that was merged to its label, and part of each photo.

    As a new run has them: the parts are those that are given, or else the recipe divides. Raises
    `InputError` where it cannot.
    """
    groups = _groups(photos, pixels, _near_duplicates(pixels, recipe))
    return _divided_anew(photos, pixels, recipe, groups)


def _near_duplicates(pixels: Pixels, recipe: Recipe) -> NearDuplicates | None:
    """What looks alike, where that is asked for."""
    if recipe.near_duplicates is None:
        return None
    return near_duplicates(pixels.array, recipe.near_duplicates)


def _groups(
    photos: ScoredPhotos, pixels: Pixels, near: NearDuplicates | None
) -> np.ndarray | None:
    """Number of what each photo is kept together with; None where at most copies are known."""
    given = photos.table.group.to_numpy() if "group" in photos.table else None
    alike = None
    if near is not None:
        alike = np.where(near.group > 0, near.group, None)
    if given is None and alike is None:
        return None
    return joined_groups(pixels.digests, given, alike)


def _divided(
    photos: ScoredPhotos,
    pixels: Pixels,
    recipe: Recipe,
    run: Run,
    groups: np.ndarray | None,
) -> tuple[np.ndarray, dict[int, int], pd.Series]:
    """Label of each photo, scores that were merged, and part.

    A run that has begun keeps its own, even if they would be divided differently by now.
    """
    if run.has_begun:
        divided = run.split
        now = photos.table[["photo", "score"]].assign(digest=pixels.digests)
        then = divided.reindex(columns=now.columns)
        if then.astype(str).equals(now.astype(str)):
            return divided.label.to_numpy(), run.merged_scores, divided.part
    return _divided_anew(photos, pixels, recipe, groups)


def _divided_anew(
    photos: ScoredPhotos, pixels: Pixels, recipe: Recipe, groups: np.ndarray | None
) -> tuple[np.ndarray, dict[int, int], pd.Series]:
    together = pixels.digests if groups is None else groups
    parts_are_given = "part" in photos.table
    labels, merged, names = labels_of(photos, recipe, together)
    if parts_are_given:
        if recipe.resplit != "never":
            raise InputError(
                f"The part of each photo is given, and resplit {recipe.resplit!r} divides them "
                "anew in every round; leave one of the two out."
            )
        parts = photos.table.part
        remedy = "give one of them the part train, or leave these photos out"
        check_trained(labels, parts.to_numpy(), names, remedy)
        return labels, merged, parts
    parts = split(
        labels,
        fold=recipe.fold,
        seed=recipe.seed,
        groups=together,
        names=names,
        train_share=recipe.train_share,
        rare_train=recipe.rare == "train",
        each_counts=groups is not None,
    )
    return labels, merged, parts


def labels_of(
    photos: ScoredPhotos, recipe: Recipe, together: np.ndarray | None = None
) -> tuple[np.ndarray, dict[int, int], dict[int, str] | None]:
    """Label of each photo, from each score that was merged to its label, and names of levels.

    `together` (n,) are the groups of the photos. Scores are merged that are too rare to be in every
    part, where the recipe makes the parts and asks for it.
    """
    if recipe.levels == "low-high":
        mean_scores = photos.table.mean_score.to_numpy()
        names = {0: "level low", 1: "level high"}
        return low_high(mean_scores, recipe.cut), {}, names
    scores = photos.table.score.to_numpy()
    is_divided = recipe.train_share < 1 and "part" not in photos.table
    if not is_divided or recipe.rare == "train":
        return scores, {}, None
    labels, merged = merge_rare(scores, groups=together)
    return labels, merged, None


def _check_choosing(parts: pd.Series, recipe: Recipe) -> None:
    """`InputError` where there is no photo that the recipe chooses a round or a decision by."""
    needed = {recipe.choose: f"choose {recipe.choose!r}"}
    fits_on_validation = recipe.tune != "head" or recipe.average > 1
    if recipe.decide != "largest" and fits_on_validation:
        needed["validation"] = f"decide {recipe.decide!r}"
    for part, setting in needed.items():
        if part in ("validation", "test") and not (parts == part).any():
            raise InputError(
                f"{setting} needs {part} photos, and there are none among {len(parts)}; leave some "
                "(train_share, or your own parts), or give another setting, such as choose 'last' "
                "(--choose last), which needs none."
            )


def _fingerprints(
    photos: ScoredPhotos, pixels: Pixels, other: Strangers | None, learned: np.ndarray
) -> dict[str, str]:
    """What must not change: the photos, what is learned of them, those of another source."""
    scores = photos.table[["photo", "score"]].to_csv(index=False)
    digest = hashlib.sha256(scores.encode() + learned.tobytes())
    of_other = "none"
    if other is not None:
        _, other_pixels = other
        of_other = other_pixels.fingerprint
    fingerprints = {
        "photos": pixels.fingerprint,
        "scores": digest.hexdigest()[:16],
        "photos of another source": of_other,
    }
    for name, told in (("part", "given parts"), ("group", "groups")):
        if name in photos.table:
            words = photos.table[name].to_csv(index=False)
            fingerprints[told] = hashlib.sha256(words.encode()).hexdigest()[:16]
    return fingerprints


def soft_attributes(
    photos: ScoredPhotos, names: Sequence[str], train: np.ndarray
) -> pd.DataFrame:
    """Some attributes as targets of a sigmoid: a row a photo, values in 0..1, NaN if not known.

    A name stands for its column, or for all columns `name=value`. What lies within 0..1 on the
    training photos (positions `train`) is taken as it is; on another scale it becomes 1 above its
    median over them, else 0. Raises `InputError` where none of them has the attribute.
    """
    of_all = photos.attributes
    if of_all is None:
        of_all = photos.table[[]]
    of_training = of_all.iloc[train].dropna(axis=1, how="all")
    columns = _attribute_columns(list(of_training), names)

    of_training = of_training[columns]
    values = of_all[columns].astype(np.float32)
    is_above = values > of_training.median()
    above = is_above.astype(np.float32).where(values.notna())
    is_in_0_1 = (of_training.min() >= 0) & (of_training.max() <= 1)
    targets = np.where(is_in_0_1, values, above)
    return pd.DataFrame(targets, columns=columns)


def _attribute_columns(columns: list[str], names: Sequence[str]) -> list[str]:
    """Those of the columns that the names stand for; `InputError` where a name has none."""
    chosen = []
    for name in dict.fromkeys(names):
        named = [c for c in columns if name in (c, c.split("=")[0])]
        if not named:
            attributes = dict.fromkeys(c.split("=")[0] for c in columns)
            known = ", ".join(attributes) or "none"
            raise InputError(
                f"The attribute {name!r} is needed, known of the training photos are {known}; "
                "choose among them, or add it to the table of scores."
            )
        chosen += named
    return chosen
