"""What a command is given: photos, tables of scores, and places for what it writes."""

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

from rsrl_lib.files import InputError, check_writable, reading, size_of, writing

if TYPE_CHECKING:
    import pandas as pd

    from rsrl_lib.pixels import Pixels

Source = Literal["folder", "ava", "eva", "aadb", "para", "oasis"]
TABLES = (".csv", ".jsonl")
"""Endings of the tables that are written; a name without one is a CSV's."""
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


def photos_of(
    photos: tuple[Path, ...], skip_broken: bool
) -> tuple[list[str], list[str]]:
    """Files, and the pictures of folders; with `skip_broken` also names of no file. Beside them the
    names that go by them where something is written: of a folder's photos, as they lie in it.

    Of several folders each photo's name begins with that of its folder.
    """
    from rsrl_lib.reading.pictures import read_unscored

    absent = [str(path) for path in photos if not path.is_dir() and size_of(path) < 0]
    if absent and not skip_broken:
        more = f" (nor {', '.join(absent[1:3])}{' …' if len(absent) > 3 else ''})"
        found = f"There is no photo {absent[0]}{more if absent[1:] else ''}"
        raise InputError(
            f"{found}; correct the name, or leave it out by --skip-broken."
        )
    paths = []
    names = []
    for given in photos:
        if not given.is_dir():
            paths.append(str(given))
            names.append(given.name)
            continue
        below = read_unscored(given)
        paths += list(below["path"])
        home = given.resolve().name if len(photos) > 1 else ""
        names += [f"{home}/{photo}".removeprefix("/") for photo in below["photo"]]
    if not paths:
        raise InputError("At least one photo is needed; give files or folders.")
    with reading(
        f"One of {len(paths)} names of photos", "path in UTF-8", "rename that photo"
    ):
        "".join(str(Path(path).resolve()) for path in paths).encode()
    return paths, names


def check_table(path: Path, option: str = "--out") -> None:
    """`InputError` where a table cannot be written, in the format that its name ends in, or would
    be written over a photo."""
    from rsrl_lib.reading.pictures import PICTURES

    ending = path.suffix.lower()
    if ending in PICTURES:  # --out *.jpg names the first photo
        found = f"{option} {path} is the name of a picture"
        raise InputError(
            f"{found}; give one for the table, such as assessed.csv, then the photos."
        )
    if ending not in ("", *TABLES):
        raise InputError(
            f"{option} {path} is to be the table, which is written as {' or '.join(TABLES)}; give "
            f"a name that ends so, such as {path.with_suffix('.csv').name}."
        )
    check_writable(path, option)


def write_table(rows: "pd.DataFrame", path: Path) -> None:
    """Write a table as its name ends: CSV, or a line of JSON for each row."""
    from rsrl_lib.choosing import as_json_lines

    with writing(path):
        if path.suffix.lower() == ".jsonl":
            path.write_text(as_json_lines(rows), "utf-8")
        else:
            rows.to_csv(path, index=False)


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


def targets_of(
    paths: list[str],
    names: list[str],
    out: Path,
    table: str,
    files: tuple[str, ...] = ("{stem}{ending}",),
) -> list[list[Path]]:
    """Files to write for each photo, by its name without and its ending, in sub-folders as `names`
    say; numbered where two would be the same.

    Raises `InputError` where one of them is a photo, where a sub-folder is a link to elsewhere, and
    where another file is there that no earlier call has written. What such a call wrote is removed,
    since what is written over a link lands in another folder.
    """
    targets = []
    for of_photo in _told_apart(names, files):
        targets.append([out / file for file in of_photo])
    every = [target for of_photo in targets for target in of_photo]
    listed = out / f"{table}.csv"
    _check_targets(every, paths, out, listed)
    for folder in {target.parent for target in every} | {out}:
        folder.mkdir(parents=True, exist_ok=True)
    for target in (*every, listed):
        target.unlink(missing_ok=True)
    return targets


def targets_of_whole(
    paths: list[str], targets: list[list[Path]], whole: list[str]
) -> list[list[Path]]:
    """Of the photos' targets those of the `whole` ones, in their order."""
    readable = set(whole)
    both = zip(paths, targets, strict=True)
    return [of_photo for path, of_photo in both if path in readable]


def _told_apart(names: list[str], files: tuple[str, ...]) -> list[list[str]]:
    """Files of each photo by its name, with a number in front where another one has the same.

    Some drives take names for one that differ in case.
    """
    plain = [_files_of(name, files) for name in names]
    numbered = []
    for number, name in enumerate(names, 1):
        folder, slash, last = name.rpartition("/")
        numbered.append(_files_of(f"{folder}{slash}{number:05d}_{last}", files))
    some = []
    for own, other, is_shared in zip(plain, numbered, _shared(plain), strict=True):
        some.append(other if is_shared else own)
    return numbered if any(_shared(some)) else some


def _files_of(name: str, files: tuple[str, ...]) -> list[str]:
    """Files of a photo by its name."""
    stem = str(Path(name).with_suffix(""))
    return [file.format(stem=stem, ending=Path(name).suffix) for file in files]


def _shared(files: list[list[str]]) -> list[bool]:
    """Whether another photo has a file of the same name, for each photo."""
    counts = Counter(file.casefold() for of_photo in files for file in of_photo)
    return [any(counts[file.casefold()] > 1 for file in own) for own in files]


def _check_targets(
    targets: list[Path], paths: list[str], out: Path, listed: Path
) -> None:
    """`InputError` where a file must not be written; see `targets_of`."""
    home = out.resolve()
    photos = {Path(path).resolve() for path in paths}
    for target in targets:
        folder = target.parent.resolve()
        if not folder.is_relative_to(home):
            raise InputError(
                f"{target.parent} is a link to {folder}, where nothing is to be written; give "
                "another folder, or remove the link."
            )
        if target.resolve() in photos:
            raise InputError(
                f"{out} holds photos that {listed.stem} would overwrite; give another folder."
            )
        is_own = target.is_file() and not target.is_symlink()
        if is_own and target.stat().st_nlink == 1 and not listed.exists():
            raise InputError(
                f"{out} holds {target.name}, and no {listed.name} that says rsrl has written it; "
                "give another folder, or move it away."
            )
