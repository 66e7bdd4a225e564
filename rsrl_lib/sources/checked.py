"""From the table of a reader to `ScoredPhotos`: complete, every photo there and named once."""

import os
import unicodedata
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from rsrl_lib.files import InputError, size_of
from rsrl_lib.photos import ScoredPhotos, round_half_up
from rsrl_lib.reading.tables import numbers


def scored_photos(
    table: pd.DataFrame, strict: bool, *, rounding: str = "", **known
) -> ScoredPhotos:
    """Check a table of photo, path and mean_score (or known votes), and complete it."""
    if (again := table.duplicated("photo", keep=False)).any():
        first, second = table.index[table["photo"] == table["photo"][again].iloc[0]][:2]
        raise InputError(
            f"{first} and {second} score the same photo; keep one of them."
        )
    _unaliased(table)
    known = {
        name: part.reindex(table["photo"], fill_value=0) for name, part in known.items()
    }
    if "mean_score" not in table:
        mean = known["votes"] @ known["votes"].columns / known["votes"].sum(axis=1)
        table = table.assign(mean_score=mean.to_numpy())
    table = table.assign(mean_score=numbers(table, "mean_score"))
    if "score" not in table:
        table["score"] = round_half_up(table["mean_score"])
        rounding = rounding_of(table["mean_score"].to_numpy())
    size = np.array([size_of(path) for path in table["path"]])
    reasons = (
        np.where(size < 0, "no such file: ", "0 bytes in ").astype(object)
        + table["path"]
    )
    absent = table[["photo"]].assign(reason=reasons)[size <= 0]
    if len(absent) and (strict or len(absent) == len(table)):
        row = absent.index[0]
        found = f"{row}: {_missing(Path(table['path'][row])) or reasons[row]}"
        found += f"; {len(absent)} of {len(table)} photos are missing"
        remedy = "add them or correct the folder"
        if len(absent) < len(table):
            remedy += ", or leave them out (--skip-broken; a public set: no --strict)"
        raise InputError(f"{found}: {remedy}.")
    columns = [
        "photo",
        "path",
        "score",
        "mean_score",
        *table.columns.intersection(["mask"]),
    ]
    scored = ScoredPhotos(table[columns], strict, **known, rounding=rounding)
    return scored.without(absent)


def rounding_of(given: np.ndarray) -> str:
    """How many given scores (n,) are not whole and were rounded; empty where all are whole."""
    uneven, halves = (given % 1 != 0).sum(), (given % 1 == 0.5).sum()
    if not uneven:
        return ""
    said = f"{uneven} of {len(given)} scores are not whole and were rounded to the nearest score"
    return f"{said}; {halves} of them lie halfway and went up (4.5 counts as 5)."


def attributes_of(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Numbers; of a column of words a 0/1 attribute `column=word` each, unknown where blank."""
    known = {}
    for name in columns:
        words = table[name]
        if pd.to_numeric(words, errors="coerce").notna().any():
            known[name] = numbers(table, name)
            continue
        if words.nunique() > 200:
            found = f"{table.index[0]}: {name} has {words.nunique()} different words"
            raise InputError(
                f"{found}, an attribute may have 200; name another column."
            )
        for word in sorted({*words} - {""}):
            known[f"{name}={word}"] = np.where(words == "", np.nan, words == word)
    return pd.DataFrame(known, table["photo"])


def _unaliased(table: pd.DataFrame) -> None:
    """`InputError` where two rows of different names are one photo: `a.jpg` and `./a.jpg`, a link
    and what it points at, or two spellings that the drive takes for one. Copies and hard links are
    photos of their own (`protocols.split` keeps them together).
    """
    folder = cache(
        os.path.realpath
    )  # photos lie in few folders, and resolving asks the disk
    places = pd.Series([_place(path, folder) for path in table["path"]])
    folded = places.map(lambda place: unicodedata.normalize("NFC", place).casefold())
    for _, alike in places[folded.duplicated(keep=False)].groupby(folded, sort=False):
        twice = alike[alike.duplicated(keep=False)]
        one = twice[twice == twice.iloc[0]] if len(twice) else alike
        if len(twice) or _are_one_file([Path(place) for place in alike]):
            first, second = one.index[:2]
            found = (
                f"{table.index[first]} and {table.index[second]} score the same photo"
            )
            names = f"{table['photo'].iloc[first]} and {table['photo'].iloc[second]}"
            raise InputError(f"{found} ({names}); keep one of them.")


def _place(path: str, folder: Callable[[str], str]) -> str:
    """Where a file lies, without links; `folder` resolves the one that it is in."""
    try:
        head, name = os.path.split(path)
        place = f"{folder(head)}{os.sep}{name}"
        # A `Path` takes three times as long, which counts for a quarter of a million photos.
        return os.path.realpath(place) if os.path.islink(place) else place  # noqa: PTH114
    except ValueError:  # no name that a file can have
        return path


def _are_one_file(spellings: list[Path]) -> bool:
    """Whether paths that differ in case or composed letters are one file that has but one name."""
    first = spellings[0]
    try:
        if not all(first.samefile(other) for other in spellings[1:]):
            return False
        listed = {path.name for path in first.parent.iterdir()}
        return (
            not {path.name for path in spellings} <= listed
        )  # else these are hard links
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
        beside = sorted(folder.iterdir())
    except OSError:  # a name that cannot be, a folder that cannot be listed
        return ""
    for there in beside:
        is_near = path.stem.lower() in (there.stem.lower(), there.name.lower())
        if is_near and there.is_file() and there.name != path.name:
            return f"no such file: {path} (there is {there.name}: write it as it stands there)"
    return ""
