"""What the rounds of a run know of the photos: labels, parts, weights, attributes.

It is made once, before the first round, and is the same in all of them.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rsrl_lib.controls import CONTROLS
from rsrl_lib.deciding import borders_of, is_of_one_scale
from rsrl_lib.files import InputError
from rsrl_lib.heads import Frozen
from rsrl_lib.losses import sample_weights
from rsrl_lib.photos import ScoredPhotos
from rsrl_lib.pixels import Pixels
from rsrl_lib.protocols import low_high, merge_rare, resplit, split
from rsrl_lib.recipe import Recipe
from rsrl_lib.runs import Run

Strangers = tuple[pd.DataFrame, Pixels]
"""Unscored photos of another source: a table with `photo`, and their pixels."""


@dataclass(frozen=True)
class Dataset:
    """The photos (n,) of a run, in the order of `pixels`, as its recipe takes them."""

    table: pd.DataFrame
    """photo, score, label (a rare score merged into its neighbour, or a level), part, digest."""
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
    frozen: Frozen | None = None
    """What the body sees in the photos before it is trained, where a round needs the best head."""

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

    def groups_of(self, rows: np.ndarray) -> np.ndarray | None:
        """Digests of the files at `rows`, by which copies are kept together, where known."""
        digests = self.pixels.digests
        return None if digests is None else digests[rows]

    def parts(self, recipe: Recipe, i: int) -> pd.Series:
        """Part of each photo in round `i`: as it was divided, or anew, by a leak to be shown."""
        return resplit(
            self.table.part,
            self.labels,
            recipe.resplit,
            round=i,
            seed=recipe.seed,
            groups=self.pixels.digests,
        )


def make_dataset(
    photos: ScoredPhotos,
    pixels: Pixels,
    recipe: Recipe,
    run: Run,
    *,
    other: Strangers | None = None,
) -> Dataset:
    """Divide the photos, or keep to how a run has begun, and prepare what its rounds learn from.

    Raises `InputError` where the photos cannot be divided, or lack what the recipe asks for.
    """
    labels, merged, parts = _divided(photos, pixels, recipe, run)
    table = photos.table[["photo", "score"]].assign(label=labels, part=parts)
    table["digest"] = pixels.digests
    train = np.flatnonzero(parts == "train")

    attributes = soft_attributes(photos, recipe.attributes, train)
    if recipe.untagged == "none":
        attributes = attributes.fillna(0.0)
    mean_scores = photos.table.mean_score.to_numpy()
    weights = sample_weights(mean_scores, recipe.ambiguous, recipe.weights_ab)
    learned = np.column_stack([labels, weights, attributes])
    fingerprint = _fingerprints(photos, pixels, other, learned)

    control = CONTROLS[recipe.control]
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
    )


def _divided(
    photos: ScoredPhotos, pixels: Pixels, recipe: Recipe, run: Run
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

    groups = pixels.digests
    if recipe.levels == "low-high":
        mean_scores = photos.table.mean_score.to_numpy()
        labels = low_high(mean_scores, recipe.cut)
        merged = {}
        names = {0: "level low", 1: "level high"}
    else:
        scores = photos.table.score.to_numpy()
        labels, merged = merge_rare(scores, groups=groups)
        names = None
    parts = split(
        labels,
        fold=recipe.fold,
        seed=recipe.seed,
        groups=groups,
        names=names,
    )
    return labels, merged, parts


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
    return {
        "photos": pixels.fingerprint,
        "scores": digest.hexdigest()[:16],
        "photos of another source": of_other,
    }


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
