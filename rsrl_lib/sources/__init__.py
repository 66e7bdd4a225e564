"""Scored photos of your own and of public sets: one validated table for every source."""

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
from rsrl_lib.sources.remembered import PLACES as FILES
from rsrl_lib.sources.remembered import remembering

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

read_folder = remembering("folder", read_folder)
read_ava = remembering("ava", read_ava)
read_eva = remembering("eva", read_eva)
read_aadb = remembering("aadb", read_aadb)
read_para = remembering("para", read_para)
read_oasis = remembering("oasis", read_oasis)
READERS = {
    "folder": read_folder,
    "ava": read_ava,
    "eva": read_eva,
    "aadb": read_aadb,
    "para": read_para,
    "oasis": read_oasis,
}


def read_photos(
    source: str, folder: File, scores: File | None = None, **columns
) -> ScoredPhotos:
    """Scored photos of a source by name; `columns` are options of its reader, None its default."""
    if source not in READERS:
        raise _no_source(repr(source))
    reader = READERS[source]
    columns = {name: value for name, value in columns.items() if value is not None}
    if source != "folder":
        return reader(folder, **columns)
    if scores is None:
        raise _no_source(f"{source!r} without one")
    return reader(folder, scores, **columns)


def _no_source(found: str) -> InputError:
    _, *public_sets = READERS
    known = ", ".join(repr(name) for name in public_sets)
    return InputError(
        f"Needed is a CSV with 'folder' (--scores), or a public set ({known}) by --source; "
        f"found is {found}."
    )
