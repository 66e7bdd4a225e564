"""Which photo a table means by a name that no file has as it stands.

A name is taken for a photo's where it differs from the file's in case, in composed letters, by a
backslash, by its ending that is left out, or by folders before it that are left out or that lead to
the folder of photos; and where one photo alone is meant so.
"""

import difflib
import unicodedata
import warnings
from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from rsrl_lib.files import File, InputError, Note, size_of
from rsrl_lib.reading.pictures import AVIF, HEIF, PICTURES, endings, files_below

ENDINGS = PICTURES + AVIF + HEIF
MOST_COMPARED = 20_000
"""Names that one which is not there is compared with, which takes a second."""


class Names:
    """Names of the photos that there are, by what a table may call them."""

    def __init__(self, known: Iterable[str], home: str = ""):
        """`known` are paths within a folder whose own name is `home`."""
        self._home = _folded(home)
        self._by_stem = defaultdict(list)
        for name in known:
            self._by_stem[_stem_of(name)].append(name)

    def meant(self, given: str) -> list[str]:
        """Names that a given one may mean, all that there are."""
        folded = _folded(given)
        candidates = self._by_stem.get(_stem_of(given), [])
        return [name for name in candidates if self._is_called(name, folded)]

    def _is_called(self, name: str, given: str) -> bool:
        """Whether a photo may be called so, as the whole of its path or the end of it."""
        calls = [_folded(name)]
        if not given.endswith(ENDINGS):
            calls.append(_without_ending(calls[0]))
        for call in calls:
            if f"/{call}".endswith(f"/{given}"):
                return True
            if self._home and f"/{given}".endswith(f"/{self._home}/{call}"):
                return True
        return False

    def near(self, given: str) -> list[str]:
        """A few names that look like a given one, which means none of them."""
        stem = _stem_of(given)
        for same in (stem, _stem_of(stem)):  # some have two endings
            if same in self._by_stem:
                return self._by_stem[same][:3]
        if stem.isdecimal():  # spreadsheets make 1 of 001
            same_number = [
                s for s in self._by_stem if s.lstrip("0") == stem.lstrip("0")
            ]
            if same_number:
                return self._by_stem[same_number[0]][:3]
        stems = list(self._by_stem)[:MOST_COMPARED]
        near = difflib.get_close_matches(stem, stems, 2, 0.75)
        return [self._by_stem[stem][0] for stem in near]


class PhotosBelow:
    """The pictures anywhere below a folder, which is looked through at most once."""

    def __init__(self, folder: File):
        self._folder = Path(folder)
        self._found = {}  # path and bytes of each name that was asked for

    @cached_property
    def names(self) -> Names:
        files, _ = files_below(self._folder)
        known = endings()
        pictures = [file for file in files if file.lower().endswith(known)]
        return Names(pictures, self._folder.resolve().name)

    def files(self, photos: pd.Series) -> tuple[list[str], np.ndarray]:
        """Path of each photo, and bytes of its file (n,), -1 where there is none."""
        paths = []
        sizes = []
        for photo in photos:
            if photo not in self._found:
                path = str(self._folder / photo)
                self._found[photo] = path, size_of(path)
            path, size = self._found[photo]
            paths.append(path)
            sizes.append(size)
        return paths, np.array(sizes, int)

    def as_meant(self, given: pd.Series) -> pd.Series:
        """Names as their files have them, see `as_meant`; those of no file stay."""
        _, sizes = self.files(given)
        missing = sizes < 0
        if not missing.any():
            return given
        meant = given.copy()
        meant[missing] = as_meant(given[missing], self.names)
        return meant


def as_meant(given: pd.Series, names: Names) -> pd.Series:
    """What each of the given names (n,) means; as it stands where that is none.

    A `Note` tells how many were not there as they stand. Raises `InputError` for a name that means
    two photos. The index is "file line n".
    """
    meant_by = {}
    for row, name in given.items():
        if name in meant_by:
            continue
        meant = names.meant(name)
        if len(meant) > 1:
            raise InputError(
                f"{row}: the photo '{name}' may be {len(meant)} files: did you mean "
                f"{' or '.join(meant[:3])}? Write it as it stands there."
            )
        if meant:
            meant_by[name] = meant[0]
    if not meant_by:
        return given
    is_told = given.isin(meant_by)
    row = given.index[is_told][0]
    first = given[is_told].iloc[0]
    warnings.warn(
        f"{row}: the photo '{first}' is read as {meant_by[first]}; names that differ from their "
        f"files' in case, ending, folder or backslash: {is_told.sum()}.",
        Note,
        stacklevel=3,
    )
    return given.map(lambda name: meant_by.get(name, name))


def _folded(name: str) -> str:
    """One spelling for all that differ in case, composed letters or backslashes."""
    path = name.replace("\\", "/").removeprefix("./")
    return unicodedata.normalize("NFC", path).casefold()


def _without_ending(folded: str) -> str:
    return folded.rsplit(".", 1)[0]


def _stem_of(name: str) -> str:
    """The file's name without folders, and without an ending that pictures have."""
    bare = _folded(name).rsplit("/", 1)[-1]
    return _without_ending(bare) if bare.endswith(ENDINGS) else bare
