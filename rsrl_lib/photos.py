"""Scored photos: one table for every source."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from rsrl_lib.files import InputError

PARTS = ("train", "validation", "test")
NOTHING = pd.DataFrame(columns=["photo", "reason"], dtype="str")


@dataclass(frozen=True, eq=False)
class ScoredPhotos:
    """Photos with their scores, one row each of `table`: `photo` (unique name), `path`, `score`
    (integer class), `mean_score` (real) and, where known, `mask` (path of the subject mask), `part`
    (train, validation or test, where it is given) and `group` (photos of one, such as of one theme,
    are to lie in one part; empty: the photo is alone).
    `votes` (counts; vote values across) and `attributes` (real; names across) go with its rows.
    `strict`: a photo that turns out broken at decoding is an error, otherwise it is left out.
    `rounding` says in a sentence how many scores were rounded, where any was. `origin` says where
    they were read, so that `origins.open_photos` reads them again. `rater` is what
    `repeatability.of_log` says of whoever scored them, where a log of the ratings is there.
    """

    table: pd.DataFrame
    strict: bool = True
    votes: pd.DataFrame | None = None
    attributes: pd.DataFrame | None = None
    left_out: pd.DataFrame = field(default_factory=NOTHING.copy)
    rounding: str = ""
    origin: dict[str, object] | None = None
    rater: dict | None = None

    def __len__(self) -> int:
        return len(self.table)

    def select(self, rows: Sequence[int] | np.ndarray | pd.Series) -> "ScoredPhotos":
        """Some photos, by boolean mask or integer positions; votes and attributes follow."""
        rows = np.asarray(rows)
        if not len(rows):
            # Of an empty list numpy makes real numbers, which are no positions.
            rows = np.array([], int)
        table = self.table.iloc[rows]
        table = table.reset_index(drop=True)
        votes = self.votes
        if votes is not None:
            votes = votes.iloc[rows]
        attributes = self.attributes
        if attributes is not None:
            attributes = attributes.iloc[rows]
        return replace(self, table=table, votes=votes, attributes=attributes)

    def without(self, left_out: pd.DataFrame) -> "ScoredPhotos":
        """All but the photos of `left_out` (photo, reason); `InputError` below two scores."""
        photos = self.table["photo"]
        is_left_out = photos.isin(left_out["photo"])
        kept = self.select(~is_left_out.to_numpy())
        scores = kept.table["score"].unique()
        if scores.size < 2:
            scores_found = "none in 0 photos"
            if len(kept):
                first_path = list(kept.table["path"][:1])
                scores_found = f"{scores} in {len(kept)} photos such as {first_path}"
            raise InputError(
                f"Two scores or more are needed, found is {scores_found}; add others."
            )
        all_left_out = pd.concat([self.left_out, left_out], ignore_index=True)
        return replace(kept, left_out=all_left_out)


def round_half_up(mean: float | Sequence[float] | np.ndarray | pd.Series) -> np.ndarray:
    """Class of a mean score: the nearest integer, halves (up to 1e-9 of arithmetic) going up."""
    half = 0.5 + 1e-9
    mean = np.asarray(mean, float)
    rounded = np.floor(mean + half)
    return rounded.astype(np.int64)
