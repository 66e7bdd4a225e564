"""What a command is given: photos, tables of scores, and places for what it writes."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

from rsrl_lib.files import InputError, check_writable, reading, size_of

if TYPE_CHECKING:
    from rsrl_lib.pixels import Pixels

Source = Literal["folder", "ava", "eva", "aadb", "para", "oasis"]
RUN = "run", "give a whole one, or make one with rsrl train"


@dataclass(frozen=True)
class Columns:
    """How the scores are read, and what keeps photos together or apart."""

    photo_column: str | None = None
    """Header of the photos' file names (photo)."""
    score_column: str | None = None
    """Header of the scores (score)."""
    mean_column: str | None = None
    """Header of the mean scores, where the CSV has them beside the score."""
    votes: Path | None = None
    """CSV with a row per vote (columns photo, score)."""
    part_column: str | None = None
    """Header of the photos' parts, where you divide them: train, validation or test."""
    parts: Path | None = None
    """CSV of the photos' parts (columns photo, part), for any source."""
    group_column: str | None = None
    """Header of groups; photos with the same word there, such as a theme, lie in one part."""
    group_by_folder: bool = False
    """Photos of one sub-folder lie in one part."""
    strict: bool = False
    """Make a missing or unreadable photo of a public set an error."""


def reader_options(
    source: str,
    columns: Columns,
    scores: Path | None,
    skip_broken: bool,
    attributes: tuple[str, ...],
) -> dict[str, object]:
    """Options for the reader of a source; `InputError` for those of the other kind of source."""
    own_table = {
        "photo_column": columns.photo_column,
        "score_column": columns.score_column,
        "mean_column": columns.mean_column,
        "votes": columns.votes,
        "part_column": columns.part_column,
        "group_column": columns.group_column,
        "group_by_folder": columns.group_by_folder or None,
    }
    parts = {"parts": columns.parts}
    if source == "folder":
        if columns.strict:
            _refuse(["--strict, which is for public sets,"], source)
        is_strict = {"strict": not skip_broken}
        return own_table | parts | {"attribute_columns": attributes} | is_strict
    for_folders = own_table | {"scores": scores, "skip_broken": skip_broken or None}
    given = [name for name, value in for_folders.items() if value is not None]
    if given:
        _refuse([f"--{name.replace('_', '-')}" for name in given], source)
    return parts | {"strict": columns.strict}


def _refuse(options: list[str], source: str) -> NoReturn:
    raise InputError(
        f"A public set is read as published, found is {', '.join(options)} with "
        f"--source {source}; leave it out."
    )


def options_of(text: str) -> dict[str, object]:
    """Options given as YAML, by name; `InputError` where it is none of names and values."""
    import yaml

    try:
        options = yaml.safe_load(text) if text else {}
    except yaml.YAMLError:
        options = None
    if not isinstance(options, dict):
        raise InputError(
            f"The options are {text!r}; give names and values: '{{name: value}}'."
        )
    return options


def paths_of(photos: tuple[Path, ...], skip_broken: bool) -> list[str]:
    """Files, and the pictures of folders; with `skip_broken` also names of no file."""
    from rsrl_lib.reading.pictures import read_unscored

    absent = [str(path) for path in photos if not path.is_dir() and size_of(path) < 0]
    if absent and not skip_broken:
        more = f" (nor {', '.join(absent[1:3])}{' …' if len(absent) > 3 else ''})"
        found = f"There is no photo {absent[0]}{more if absent[1:] else ''}"
        raise InputError(
            f"{found}; correct the name, or leave it out by --skip-broken."
        )
    found = [read_unscored(p).path if p.is_dir() else [str(p)] for p in photos]
    if not (paths := [path for some in found for path in some]):
        raise InputError("At least one photo is needed; give files or folders.")
    with reading(
        f"One of {len(paths)} names of photos", "path in UTF-8", "rename that photo"
    ):
        "".join(str(Path(path).resolve()) for path in paths).encode()
    return paths


def check_table(path: Path) -> None:
    """`InputError` where a table cannot be written, or would be written over a photo."""
    from rsrl_lib.reading.pictures import PICTURES

    if path.suffix.lower() in PICTURES:  # --csv *.jpg names the first photo
        found = f"--csv {path} is the name of a picture"
        raise InputError(
            f"{found}; give one for the table, such as assessed.csv, then the photos."
        )
    check_writable(path, "--csv")


@contextmanager
def decoded_photos(
    paths: list[str], work: str, skip_broken: bool, cache: Path | None, side: int
) -> Iterator[tuple[list[str], "Pixels"]]:
    """The photos that can be read, and their pixels; the others are named.

    Decoded photos stay in `cache`, or only as long as they are needed.
    """
    import pandas as pd

    from rsrl_lib import pixels

    table = pd.DataFrame({"photo": paths, "path": paths})
    with tempfile.TemporaryDirectory() as scratch:
        place = cache or Path(scratch)
        how = {"strict": not skip_broken, "cache": place, "side": side}
        decoded, broken = pixels.decode(table, **how)
        for reason in broken.reason:
            print(f"left out: {reason}", file=sys.stderr)
        unreadable = set(broken.photo)
        whole = [path for path in paths if path not in unreadable]
        if not whole:
            raise InputError(nothing_left(work, len(paths)))
        yield whole, decoded


def nothing_left(work: str, count: int) -> str:
    photos = "the only photo" if count == 1 else f"all {count} photos"
    return f"There is nothing to {work}: {photos} had to be left out, for the reasons above."


def targets_of(paths: list[str], out: Path, table: str, ending: str = "") -> list[Path]:
    """Files to write for the photos, named like them, numbered where two names are the same.

    Raises `InputError` where one of them is a photo; what else is there is removed, since what is
    written over a link lands in another folder.
    """
    names = [Path(path).stem for path in paths]
    if len({*names, table}) <= len(names):
        names = [f"{number:05d}_{name}" for number, name in enumerate(names, 1)]
    pairs = zip(names, paths, strict=True)
    targets = [out / (name + (ending or Path(path).suffix)) for name, path in pairs]
    if {t.resolve() for t in targets} & {Path(path).resolve() for path in paths}:
        raise InputError(
            f"{out} holds photos that {table} would overwrite; give another folder."
        )
    out.mkdir(parents=True, exist_ok=True)
    for target in (*targets, out / f"{table}.csv"):
        target.unlink(missing_ok=True)
    return targets
