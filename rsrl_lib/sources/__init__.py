"""Scored photos of your own and of public sets: one validated table for every source."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from rsrl_lib.files import File, InputError
from rsrl_lib.photos import ScoredPhotos
from rsrl_lib.sources.download import fetch_oasis
from rsrl_lib.sources.folder import read_folder
from rsrl_lib.sources.public_sets import (
    ava_votes,
    read_aadb,
    read_ava,
    read_eva,
    read_oasis,
    read_para,
)

__all__ = [
    "FILES",
    "READERS",
    "ava_votes",
    "fetch_oasis",
    "read_aadb",
    "read_ava",
    "read_eva",
    "read_folder",
    "read_oasis",
    "read_para",
    "read_photos",
]

READERS = {
    "folder": read_folder,
    "ava": read_ava,
    "eva": read_eva,
    "aadb": read_aadb,
    "para": read_para,
    "oasis": read_oasis,
}
FILES = ("votes", "parts")
"""Options of readers that name a file."""


def read_photos(
    source: str, folder: File, scores: File | None = None, **columns
) -> ScoredPhotos:
    """Scored photos of a source by name; `columns` are options of its reader, None its default."""
    if source not in READERS:
        raise _no_source(repr(source))
    reader = READERS[source]
    columns = {name: value for name, value in columns.items() if value is not None}
    places = [folder]
    if source == "folder":
        if scores is None:
            raise _no_source(f"{source!r} without one")
        places.append(scores)
    scored = reader(*places, **columns)
    return replace(scored, origin=_origin(source, places, columns))


def _origin(
    source: str, places: list[File], options: Mapping[str, object]
) -> dict[str, object]:
    """Where photos were read; with whole paths, so that they are found from any folder."""
    names = ("folder", "scores")
    origin = {"source": source, "options": dict(options)}
    for name, place in zip(names, places, strict=False):
        origin[name] = str(Path(place).resolve())
    for name in FILES:
        if name in options:
            origin["options"][name] = str(Path(options[name]).resolve())
    return origin


def _no_source(found: str) -> InputError:
    _, *public_sets = READERS
    known = ", ".join(repr(name) for name in public_sets)
    return InputError(
        f"Needed is a CSV with 'folder' (--scores), or a public set ({known}) by --source; "
        f"found is {found}."
    )
