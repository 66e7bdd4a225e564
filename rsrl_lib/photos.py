"""Scored photos: one table for every source."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from rsrl_lib.files import InputError

NOTHING = pd.DataFrame(columns=["photo", "reason"], dtype="str")


@dataclass(frozen=True, eq=False)
class ScoredPhotos:
    """Photos with their scores, one row each of `table`: `photo` (unique name), `path`, `score`
    (integer class), `mean_score` (real) and, where known, `mask` (path of the subject mask).
    `votes` (counts; vote values across) and `attributes` (real; names across) go with its rows.
    `strict`: a photo that turns out broken at decoding is an error, otherwise it is left out.
    `rounding` says in a sentence how many scores were rounded, where any was.
    """

    table: pd.DataFrame
    strict: bool = True
    votes: pd.DataFrame | None = None
    attributes: pd.DataFrame | None = None
    left_out: pd.DataFrame = field(default_factory=NOTHING.copy)
    rounding: str = ""

    def __len__(self) -> int:
        return len(self.table)

    def select(self, rows: Sequence[int] | np.ndarray | pd.Series) -> "ScoredPhotos":
        """Some photos, by boolean mask or integer positions; votes and attributes follow."""
        # Of an empty list numpy makes real numbers, which are no positions.
        rows = np.asarray(rows) if len(rows) else np.array([], int)
        table = self.table.iloc[rows].reset_index(drop=True)
        selected = {"table": table}
        if self.votes is not None:
            selected["votes"] = self.votes.iloc[rows]
        if self.attributes is not None:
            selected["attributes"] = self.attributes.iloc[rows]
        return replace(self, **selected)

    def without(self, left_out: pd.DataFrame) -> "ScoredPhotos":
        """All but the photos of `left_out` (photo, reason); `InputError` below two scores."""
        photos = self.table["photo"]
        is_left_out = photos.isin(left_out["photo"]).to_numpy()
        kept = self.select(~is_left_out)
        scores = kept.table["score"].unique()
        if scores.size < 2:
            found = "none in 0 photos"
            if len(kept):
                example = list(kept.table["path"][:1])
                found = f"{scores} in {len(kept)} photos such as {example}"
            raise InputError(
                f"Two scores or more are needed, found is {found}; add others."
            )
        all_left_out = pd.concat([self.left_out, left_out], ignore_index=True)
        return replace(kept, left_out=all_left_out)


def round_half_up(mean: float | Sequence[float] | np.ndarray | pd.Series) -> np.ndarray:
    """Class of a mean score: the nearest integer, halves (up to 1e-9 of arithmetic) going up."""
    mean = np.asarray(mean, float)
    return np.floor(mean + (0.5 + 1e-9)).astype(np.int64)
