"""Your own photos: a folder, and a CSV of names and scores."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from rsrl_lib.files import File, InputError, Note, size_of
from rsrl_lib.photos import ScoredPhotos, round_half_up
from rsrl_lib.reading.names import PhotosBelow
from rsrl_lib.reading.tables import numbers, read_table
from rsrl_lib.repeatability import beside
from rsrl_lib.sources.checked import (
    attributes_of,
    named_as,
    parts_of,
    rounding_of,
    scored_photos,
    without_repeats,
)

COLUMN_OPTIONS = {
    "photo": "--photo-column",
    "score": "--score-column",
    "mean_score": "--mean-column",
    "part": "--part-column",
    "group": "--group-column",
}


def read_folder(
    folder: File,
    scores: File,
    *,
    photo_column: str = "photo",
    score_column: str = "score",
    mean_column: str | None = None,
    votes: File | None = None,
    attribute_columns: Sequence[str] = (),
    part_column: str | None = None,
    parts: File | None = None,
    group_column: str | None = None,
    group_by_folder: bool = False,
    strict: bool = True,
) -> ScoredPhotos:
    """Own photos: a folder and a CSV of file names and scores, which are rounded half up.

    `mean_score` is `mean_column`, else the mean of `votes` (CSV: photo, score; a row per vote),
    else, and where any score has a fraction, the score. A column `mask` names files beside the CSV.
    `part_column`, or the CSV `parts` (photo, part), says of each photo whether it is for train,
    validation or test. Photos with the same word in `group_column`, or of one sub-folder with
    `group_by_folder`, are to lie in one part. A name that is no file's is taken for the one photo
    that it can mean, and a row that is there twice counts once (`Note`). Where the CSV comes from
    `rsrl rate`, the log of its ratings beside it tells how well the rater repeats a score. Bad
    input raises `InputError`.
    """
    _check_either({"--part-column": part_column, "--parts": parts})
    _check_either(
        {"--group-column": group_column, "--group-by-folder": group_by_folder}
    )
    headers = {
        "photo": photo_column,
        "score": score_column,
        "mean_score": mean_column,
        "part": part_column,
        "group": group_column,
    }
    columns = {name: header for name, header in headers.items() if header}
    below = PhotosBelow(folder)
    cells = _cells_of(Path(scores), columns, attribute_columns, below)
    given = numbers(cells, "score")
    photos = cells["photo"]
    table = cells[["photo"]].assign(score=round_half_up(given))
    table["path"], table["bytes"] = below.files(photos)
    if "mask" in cells:
        table["mask"] = _masks(cells["mask"], Path(scores).parent)
    if mean_column:
        table["mean_score"] = numbers(cells, "mean_score")
    elif not votes or (given % 1).any():
        table["mean_score"] = given

    if part_column:
        table["part"] = parts_of(cells["part"])
    if group_column:
        table["group"] = _groups(cells["group"], f"{scores}, column {group_column!r}")
    if group_by_folder:
        table["group"] = _groups(_sub_folders(photos), str(folder))

    known = {}
    if votes:
        known["votes"] = _count_votes(votes, photos, scores, below)
    if attribute_columns:
        own_names = {f"attribute {name}": name for name in attribute_columns}
        named = cells[list(own_names)].rename(columns=own_names)
        known["attributes"] = attributes_of(named, attribute_columns, photos)
    known["rounding"] = rounding_of(given)
    known["rater"] = _rater(Path(scores))
    return scored_photos(table, strict, parts=parts, below=below, **known)


def _rater(scores: Path) -> dict | None:
    """How well the rater repeats a score, where the log of her ratings lies beside the table.

    A log that is damaged is told (`Note`) and does not keep anybody from the scores.
    """
    try:
        return beside(scores)
    except InputError as error:
        said = f"How well the rater repeats a score is not told: {error}"
        warnings.warn(said, Note, stacklevel=3)
        return None


def _cells_of(
    scores: Path,
    columns: dict[str, str],
    attributes: Sequence[str],
    below: PhotosBelow,
) -> pd.DataFrame:
    """Cells of the scores' table, photos by the names of their files, no row twice.

    An attribute is a column "attribute <name>", as it may bear a name that is used for another.
    """
    of_attributes = {f"attribute {name}": name for name in attributes}
    options = COLUMN_OPTIONS | dict.fromkeys(of_attributes, "--attributes")
    cells = read_table(scores, columns | of_attributes, options=options)
    if cells.empty:
        raise InputError(
            f"{scores} has no row below its headers; write one for each photo."
        )
    cells["photo"] = below.as_meant(cells["photo"])
    return without_repeats(cells)


def _check_either(given: dict[str, object]) -> None:
    """`InputError` where two options are given that say the same."""
    if all(given.values()):
        raise InputError(f"Either {' or '.join(given)} can be given; leave one out.")


def _sub_folders(photos: pd.Series) -> pd.Series:
    """The sub-folder that each photo lies in; empty of one that lies in none."""
    folders = [str(Path(os.path.normpath(photo)).parent) for photo in photos]
    return pd.Series(folders, photos.index).replace(".", "")


def _groups(names: pd.Series, where: str) -> pd.Series:
    """The names, if two photos share one; else they would change nothing: `InputError`."""
    named = names[names != ""]
    if not named.duplicated().any():
        raise InputError(
            f"Groups of two photos or more are needed to keep them together, {where} has none; "
            "correct it, or leave the groups out."
        )
    return names


def _masks(names: pd.Series, folder: Path) -> list[str | None]:
    """Paths of the masks; None where no name stands."""
    paths = []
    for name in names:
        path = folder / name
        if "\\" in name and size_of(path) < 0:
            path = folder / name.replace("\\", "/")
        paths.append(str(path) if name else None)
    return paths


def _count_votes(
    votes: File, photos: pd.Series, scores: File, below: PhotosBelow
) -> pd.DataFrame:
    """How often each photo was given each score; `InputError` where none is of `photos`."""
    cast = read_table(Path(votes), {"photo": "photo", "score": "score"})
    cast["photo"] = named_as(cast["photo"], photos, below)
    # A wider range is a wrong column, and a table larger than the memory.
    given = numbers(cast, "score", "whole", -100, 100)
    counts = pd.crosstab(cast["photo"], given)
    if not counts.index.isin(photos).any():
        raise InputError(
            f"{votes} names no photo of {scores}; write the names as there."
        )
    return counts
