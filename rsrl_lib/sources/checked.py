"""From the table of a reader to `ScoredPhotos`: complete, every photo there and named once."""

import os
import unicodedata
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from rsrl_lib.files import File, InputError, size_of
from rsrl_lib.photos import PARTS, ScoredPhotos, round_half_up
from rsrl_lib.reading.tables import numbers, read_table

OPTIONAL = ("mask", "part", "group")


def scored_photos(
    table: pd.DataFrame,
    strict: bool,
    *,
    rounding: str = "",
    parts: File | None = None,
    rater: dict | None = None,
    **known,
) -> ScoredPhotos:
    """Check a table of photo, path and mean_score (or known votes), and complete it.

    `parts` is a CSV of photo and part, where the user divides the photos.
    """
    _check_once(table, "score the same photo")
    _check_unaliased(table)
    known = {
        name: facts.reindex(table["photo"], fill_value=0)
        for name, facts in known.items()
    }
    if "mean_score" not in table:
        votes = known["votes"]
        means = votes @ votes.columns / votes.sum(axis=1)
        table = table.assign(mean_score=means.to_numpy())
    table = table.assign(mean_score=numbers(table, "mean_score"))
    if "score" not in table:
        table["score"] = round_half_up(table["mean_score"])
        rounding = rounding_of(table["mean_score"].to_numpy())
    absent = _absent(table)
    if len(absent) and (strict or len(absent) == len(table)):
        raise _photos_missing(table, absent)
    if parts is not None:
        table["part"] = _parts_by_photo(parts, table["photo"])
    columns = ["photo", "path", "score", "mean_score"]
    columns += [name for name in OPTIONAL if name in table]
    scored = ScoredPhotos(
        table[columns], strict, **known, rounding=rounding, rater=rater
    )
    scored = scored.without(absent)
    if "part" in table:
        _check_all_have_a_part(scored.table)
    return scored


def parts_of(cells: pd.Series) -> pd.Series:
    """The parts that cells name, in any case, and empty where nothing stands; `InputError` for the
    first that names none."""
    parts = cells.str.strip().str.lower()
    is_other = ~parts.isin([*PARTS, ""])
    if is_other.any():
        row = cells.index[is_other][0]
        raise InputError(
            f"{row}: part '{cells[is_other].iloc[0]}' is none of {', '.join(PARTS)}; "
            "write one of these."
        )
    return parts


def _parts_by_photo(path: File, photos: pd.Series) -> np.ndarray:
    """Part of each of the photos by a CSV of photo and part; empty where it names no such photo."""
    cells = read_table(Path(path), {"photo": "photo", "part": "part"})
    _check_once(cells, "give the same photo a part ({photo})")
    parts = parts_of(cells["part"])
    part_of = dict(zip(cells["photo"], parts, strict=True))
    return np.array([part_of.get(photo, "") for photo in photos], dtype=object)


def _check_all_have_a_part(table: pd.DataFrame) -> None:
    """`InputError` where a photo has no part, or none trains."""
    without = table["photo"][table["part"] == ""]
    if len(without):
        first = ", ".join(without[:3])
        raise InputError(
            f"{len(without)} of {len(table)} photos have no part (first: {first}); give each, by "
            f"its name as it stands here, one of {', '.join(PARTS)}."
        )
    if not (table["part"] == "train").any():
        raise InputError(
            f"None of {len(table)} photos has the part train; give some to train on."
        )


def _check_once(table: pd.DataFrame, what: str) -> None:
    """`InputError` where two rows have the same name; `what` says what they do with the photo."""
    is_again = table.duplicated("photo", keep=False)
    if is_again.any():
        photo = table["photo"][is_again].iloc[0]
        first, second = table.index[table["photo"] == photo][:2]
        does = what.format(photo=photo)
        raise InputError(f"{first} and {second} {does}; keep one of them.")


def _absent(table: pd.DataFrame) -> pd.DataFrame:
    """Photos without a file or with an empty one (photo, reason), by their rows of `table`."""
    paths = table["path"]
    sizes = np.array([size_of(path) for path in paths])
    faults = np.where(sizes < 0, "no such file: ", "0 bytes in ")
    reasons = faults.astype(object) + paths
    photos = table[["photo"]].assign(reason=reasons)
    return photos[sizes <= 0]


def _photos_missing(table: pd.DataFrame, absent: pd.DataFrame) -> InputError:
    """An error that tells of the first photo that is absent, and how many are."""
    row = absent.index[0]
    reason = _missing(Path(table["path"][row])) or absent["reason"][row]
    remedy = "add them or correct the folder"
    if len(absent) < len(table):
        remedy += ", or leave them out (--skip-broken; a public set: no --strict)"
    return InputError(
        f"{row}: {reason}; {len(absent)} of {len(table)} photos are missing: {remedy}."
    )


def rounding_of(given: np.ndarray) -> str:
    """How many given scores (n,) are not whole and were rounded; empty where all are whole."""
    fractions = given % 1
    uneven = (fractions != 0).sum()
    halves = (fractions == 0.5).sum()
    if not uneven:
        return ""
    return (
        f"{uneven} of {len(given)} scores are not whole and were rounded to the nearest score; "
        f"{halves} of them lie halfway and went up (4.5 counts as 5)."
    )


def attributes_of(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Numbers; of a column of words a 0/1 attribute `column=word` each, unknown where blank."""
    attributes = {}
    for name in columns:
        cells = table[name]
        if pd.to_numeric(cells, errors="coerce").notna().any():
            attributes[name] = numbers(table, name)
            continue
        if cells.nunique() > 200:
            raise InputError(
                f"{table.index[0]}: {name} has {cells.nunique()} different words, "
                "an attribute may have 200; name another column."
            )
        is_blank = cells == ""
        words = set(cells) - {""}
        for word in sorted(words):
            attributes[f"{name}={word}"] = np.where(is_blank, np.nan, cells == word)
    return pd.DataFrame(attributes, table["photo"])


def _check_unaliased(table: pd.DataFrame) -> None:
    """`InputError` where two rows of different names are one photo: `a.jpg` and `./a.jpg`, a link
    and what it points at, or two spellings that the drive takes for one. Copies and hard links are
    photos of their own (`protocols.split` keeps them together).
    """
    # Photos lie in few folders, and resolving asks the disk.
    folder = cache(os.path.realpath)
    places = pd.Series([_place(path, folder) for path in table["path"]])
    folded = places.map(_folded)
    is_alike = folded.duplicated(keep=False)
    for _, alike in places[is_alike].groupby(folded, sort=False):
        same = alike[alike.duplicated(keep=False)]
        if len(same):
            is_first = same == same.iloc[0]
            raise _same_photo(table, same.index[is_first])
        if _are_one_file([Path(place) for place in alike]):
            raise _same_photo(table, alike.index)


def _same_photo(table: pd.DataFrame, positions: pd.Index) -> InputError:
    """An error that tells of the first two rows that are one photo."""
    first, second = positions[:2]
    one = table["photo"].iloc[first]
    other = table["photo"].iloc[second]
    return InputError(
        f"{table.index[first]} and {table.index[second]} score the same photo "
        f"({one} and {other}); keep one of them."
    )


def _place(path: str, folder: Callable[[str], str]) -> str:
    """Where a file lies, without links; `folder` resolves the one that it is in."""
    try:
        head, name = os.path.split(path)
        place = f"{folder(head)}{os.sep}{name}"
        # A `Path` takes three times as long, which counts for a quarter of a million photos.
        return os.path.realpath(place) if os.path.islink(place) else place  # noqa: PTH114
    except ValueError:  # no name that a file can have
        return path


def _folded(place: str) -> str:
    """One spelling for all that differ in case or composed letters."""
    return unicodedata.normalize("NFC", place).casefold()


def _are_one_file(spellings: list[Path]) -> bool:
    """Whether paths that differ in case or composed letters are one file that has but one name."""
    first = spellings[0]
    try:
        if not all(first.samefile(other) for other in spellings[1:]):
            return False
        listed = {path.name for path in first.parent.iterdir()}
        names = {path.name for path in spellings}
        return not names <= listed  # else these are hard links
    except OSError:
        return False


def _missing(path: Path) -> str:
    """Why there is no such photo, where its folder tells: none, or a name that nearly is it."""
    folder = path.parent
    try:
        if folder.is_file():
            return f"{folder} is a file, a folder of photos is needed"
        if not folder.is_dir():
            return f"there is no folder {folder}"
        neighbours = sorted(folder.iterdir())
    except OSError:  # a name that cannot be, a folder that cannot be listed
        return ""
    stem = path.stem.lower()
    for file in neighbours:
        is_near = stem in (file.stem.lower(), file.name.lower())
        if is_near and file.is_file() and file.name != path.name:
            return f"no such file: {path} (there is {file.name}: write it as it stands there)"
    return ""
