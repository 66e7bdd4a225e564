"""What the rounds of a run know of the photos: labels, parts, weights, attributes.

It is made once, before the first round, and is the same in all of them.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rsrl_lib.controls import CONTROLS
from rsrl_lib.files import InputError
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
    attributes: pd.DataFrame
    """(n, any) targets of sigmoids, in 0..1, NaN where unknown."""
    merged_scores: dict[int, int]
    """From each score that was merged to the label that its photos carry."""
    fingerprint: dict[str, str]
    """What must not change while a run goes on: photos, scores, photos of another source."""
    other: Strangers | None = None

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

    def parts(self, recipe: Recipe, i: int) -> pd.Series:
        """Part of each photo in round `i`: as it was divided, or anew, by a leak to be shown."""
        how = {"round": i, "seed": recipe.seed, "groups": self.pixels.digests}
        return resplit(self.table.part, self.labels, recipe.resplit, **how)


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
    mean_scores = photos.table.mean_score.to_numpy()
    weights = sample_weights(mean_scores, recipe.ambiguous, recipe.weights_ab)
    learned = np.column_stack([labels, weights, attributes])
    fingerprint = _fingerprints(photos, pixels, other, learned)
    weights[train] *= CONTROLS[recipe.control].weights(labels[train])
    return Dataset(table, pixels, weights, attributes, merged, fingerprint, other)


def _divided(
    photos: ScoredPhotos, pixels: Pixels, recipe: Recipe, run: Run
) -> tuple[np.ndarray, dict[int, int], pd.Series]:
    """Label of each photo, scores that were merged, and part.

    A run that has begun keeps its own, even if they would be divided differently by now.
    """
    if run.has_begun:
        given = photos.table[["photo", "score"]].assign(digest=pixels.digests)
        known = run.split
        if known.reindex(columns=given.columns).astype(str).equals(given.astype(str)):
            return known.label.to_numpy(), run.merged_scores, known.part
    if recipe.levels == "low-high":
        labels, merged = low_high(photos.table.mean_score.to_numpy(), recipe.cut), {}
        names = {0: "level low", 1: "level high"}
    else:
        labels, merged = merge_rare(
            photos.table.score.to_numpy(), groups=pixels.digests
        )
        names = None
    how = {
        "fold": recipe.fold,
        "seed": recipe.seed,
        "groups": pixels.digests,
        "names": names,
    }
    return labels, merged, split(labels, **how)


def _fingerprints(
    photos: ScoredPhotos, pixels: Pixels, other: Strangers | None, learned: np.ndarray
) -> dict[str, str]:
    scores = (
        photos.table[["photo", "score"]].to_csv(index=False).encode()
        + learned.tobytes()
    )
    return {
        "photos": pixels.fingerprint,
        "scores": hashlib.sha256(scores).hexdigest()[:16],
        "photos of another source": "none" if other is None else other[1].fingerprint,
    }


def soft_attributes(
    photos: ScoredPhotos, names: Sequence[str], train: np.ndarray
) -> pd.DataFrame:
    """Some attributes as targets of a sigmoid: a row a photo, values in 0..1, NaN if not known.

    A name stands for its column, or for all columns `name=value`. What lies within 0..1 on the
    training photos (positions `train`) is taken as it is; on another scale it becomes 1 above its
    median over them, else 0. Raises `InputError` where none of them has the attribute.
    """
    known = photos.table[[]] if photos.attributes is None else photos.attributes
    seen = known.iloc[train].dropna(axis=1, how="all")
    columns = {
        name: [c for c in seen if name in (c, c.split("=")[0])] for name in names
    }
    if lacking := [name for name, own in columns.items() if not own]:
        there = ", ".join(dict.fromkeys(c.split("=")[0] for c in seen)) or "none"
        raise InputError(
            f"The attribute {lacking[0]!r} is needed, known of the training photos are {there}; "
            "choose among them, or add it to the table of scores."
        )
    chosen = [column for own in columns.values() for column in own]
    values, seen = known[chosen].astype(np.float32), seen[chosen]
    above = (values > seen.median()).astype(np.float32).where(values.notna())
    scaled = (seen.min() >= 0) & (seen.max() <= 1)
    return pd.DataFrame(np.where(scaled, values, above), columns=chosen)
