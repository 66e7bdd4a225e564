"""Errors in one sentence, and files that are whole or not there: read, replaced, locked."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

from filelock import FileLock, Timeout
from platformdirs import user_cache_path
from safetensors import SafetensorError

File = str | Path
PACKAGE = Path(__file__).resolve().parent
# An installed package holds the folders notebooks and data, which a checkout has beside it.
INSTALLED = (PACKAGE / "notebooks").is_dir()
ROOT = PACKAGE if INSTALLED else PACKAGE.parent
# The folders data and runs for what is made here: decoded photos, drawn ones, the chapters' runs.
WORK = user_cache_path("rsrl", appauthor=False) if INSTALLED else ROOT


class InputError(Exception):
    """Bad input, in one sentence: what was needed, what was found where, what to do."""

    def __str__(self) -> str:  # names and other libraries' words may hold line ends, or no end
        text = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", super().__str__())
        return text if len(text) < 2000 else f"{text[:1200]} … {text[-400:]}"


@contextmanager
def reading(path: File, what: str, remedy: str) -> Iterator[None]:
    """Turn what a damaged or hostile file makes any library raise into `InputError`."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        found = f"{path} is no readable {what} ({type(error).__name__}: {error})"
        raise InputError(f"{found}; {remedy}.") from error


@contextmanager
def needing(what: str, extra: str) -> Iterator[None]:
    """`InputError` that names the extra, and the Python that lacks it, where an import fails."""
    try:
        yield
    except ImportError as error:
        found = f"{what} needs the extra '{extra}' ({error})"
        raise InputError(f"{found}; install rsrl-lib[{extra}] for {sys.executable}.") from error


def check(settings: object, **least: float) -> None:
    """`InputError` where a field of a dataclass is none of the values that its `Literal` names, or
    is not None and less than its `least`."""
    for name, kind in get_type_hints(type(settings)).items():
        kinds = [part for part in (kind, *get_args(kind)) if get_origin(part) is Literal]
        known = [value for part in kinds for value in get_args(part)]
        given = getattr(settings, name)
        if known and given not in known and given != getattr(type(settings), name):
            raise InputError(f"{name} must be one of {', '.join(known)}, not {given!r}.")
        if name in least and given is not None and given < least[name]:
            raise InputError(f"{name} must be {least[name]} or more, not {given}.")


def size_of(path: File) -> int:
    """Bytes of a file; -1 where there is none, but a folder, a pipe or a name that cannot be."""
    try:
        return Path(path).stat().st_size if Path(path).is_file() else -1
    except OSError:
        return -1


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name to write to, renamed when all is on the disk: a kill or a power cut leaves
    the old file or the new one. Raises `InputError` where it cannot be written."""
    partial = path.with_name(path.name + ".partial")
    with writing(path):
        yield partial
        _to_disk(partial)
        partial.replace(path)
        _to_disk(path.parent)  # the new name


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what a full, read-only or vanished folder raises into `InputError`."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{path} could not be written ({error}); what was finished before is kept: make room "
            "or give the folder back, and give the same command again."
        ) from error


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a lock file; it is free again when its owner ends, however that happens.

    Where another process holds it: `InputError`, or to `wait`.
    """
    lock = FileLock(path, timeout=-1 if wait else 0)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire()
    except Timeout as error:
        raise InputError(
            f"{path.parent} is being written by another process, which holds {path.name}; wait for "
            "it, stop it, or give another folder."
        ) from error
    try:
        yield
    finally:
        lock.release()
