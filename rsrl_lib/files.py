"""Errors and times in words, and files that are whole or not there: read, replaced, locked."""

import errno
import os
import re
import stat
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from filelock import FileLock, SoftFileLock, Timeout
from platformdirs import user_cache_path
from safetensors import SafetensorError

File = str | Path
PACKAGE = Path(__file__).resolve().parent
# An installed package holds the folders notebooks and data, which a checkout has beside it.
INSTALLED = (PACKAGE / "notebooks").is_dir()
ROOT = PACKAGE if INSTALLED else PACKAGE.parent
# The folders data and runs for what is made here: decoded photos, drawn ones, the chapters' runs.
WORK = user_cache_path("rsrl", appauthor=False) if INSTALLED else ROOT
CACHE = WORK / "data" / "cache"
UNABLE = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
"""What a drive answers that cannot do a thing at all."""
NO_HANDLE = {errno.EBADF, errno.EACCES, errno.EPERM, errno.EISDIR}
"""And where a folder is no file that can be opened."""


class InputError(Exception):
    """Bad input, in one sentence: what was needed, what was found where, what to do."""

    def __str__(self) -> str:
        # Names and other libraries' words may hold line ends, or no end.
        text = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", super().__str__())
        if len(text) < 2000:
            return text
        return f"{text[:1200]} … {text[-400:]}"


class Note(UserWarning):
    """What a user should know and need not act on, in one sentence."""


def some_photos(count: int, one: str = "", many: str = "") -> str:
    """So many photos for a sentence, with its verb for one or for many.

    >>> [some_photos(count, "is", "are") for count in (1, 3)]
    ['1 photo is', '3 photos are']
    """
    said = f"1 photo {one}" if count == 1 else f"{count} photos {many}"
    return said.rstrip()


def in_words(seconds: float) -> str:
    """A time as one says it.

    >>> [in_words(seconds) for seconds in (0.4, 7.2, 64, 400, 3600, 9000)]
    ['1 s', '7 s', '65 s', '7 min', '1 h', '2 h 30 min']
    """
    if seconds < 20:
        return f"{max(1, round(seconds))} s"
    if seconds < 90:
        return f"{5 * round(seconds / 5)} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


@contextmanager
def reading(path: File, what: str, remedy: str) -> Iterator[None]:
    """Turn what a damaged or hostile file makes any library raise into `InputError`."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise InputError(
            f"{path} is no readable {what} ({reason}); {remedy}."
        ) from error


@contextmanager
def needing(what: str, extra: str) -> Iterator[None]:
    """`InputError` that names the extra, and the Python that lacks it, where an import fails."""
    try:
        yield
    except ImportError as error:
        raise InputError(
            f"{what} needs the extra '{extra}' ({error}); "
            f"install rsrl-lib[{extra}] for {sys.executable}."
        ) from error


def size_of(path: File) -> int:
    """Bytes of a file; -1 where there is none, but a folder, a pipe or a name that cannot be."""
    try:
        return Path(path).stat().st_size if Path(path).is_file() else -1
    except OSError:
        return -1


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name to write to, renamed when all is on the disk: a kill or a power cut leaves
    the old file or the new one. Whatever library writes it, others may read it as the umask says.
    Raises `InputError` where it cannot be written."""
    partial = path.with_name(path.name + ".partial")
    with writing(path):
        yield partial
        mode = _mode_of_new(path.with_name(path.name + ".mode.partial"))
        if partial.stat().st_mode != mode:  # safetensors lets nobody else read
            partial.chmod(stat.S_IMODE(mode))
        with partial.open("rb+") as file:
            to_disk(file.fileno())
        partial.replace(path)
        _folder_to_disk(path.parent)  # the new name


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


def _mode_of_new(path: Path) -> int:
    """Mode that a new file gets there. Asked of a file, as the umask is not all that decides, and
    cannot be read without being changed for other threads."""
    path.write_bytes(b"")
    mode = path.stat().st_mode
    path.unlink()
    return mode


def check_writable(path: File, option: str, *, folder: bool = False) -> None:
    """`InputError` where a file (or a `folder`) that `option` names could not be written.

    To be asked before the work whose result goes there. Its folders are made; of the file itself
    nothing is made, and what stands in it stays.
    """
    path = Path(path)
    place = path if folder else path.parent
    try:
        if not folder and path.is_dir():
            example = path / "table.csv"
            raise InputError(
                f"{option} {path} is a folder, a file is needed; "
                f"give a name in it, such as {example}."
            )
        place.mkdir(parents=True, exist_ok=True)
        if folder:
            with TemporaryFile(dir=place):
                return
        _try_to_write(path)
    except (FileExistsError, NotADirectoryError) as error:
        folders = (place, *place.parents)
        file = next((folder for folder in folders if folder.is_file()), place)
        raise InputError(
            f"{option} {path} cannot be: {file} is a file, a folder is needed; "
            "give another name."
        ) from error
    except OSError as error:
        reason = error.strerror or error
        raise InputError(
            f"{option} {path} cannot be written ({reason}); "
            "give a place that can be written."
        ) from error


def _try_to_write(path: Path) -> None:
    """`OSError` where a file cannot be written; a new one does not stay."""
    is_new = not path.exists()
    if is_new or path.is_file():  # a pipe would wait for its reader
        with path.open("ab"):
            pass
    if is_new:
        path.unlink()


def to_disk(handle: int) -> None:
    """Wait until a file is on the disk, where its drive can tell; `OSError` where it is not."""
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in UNABLE:
            raise


def _folder_to_disk(folder: Path) -> None:
    """The same of the names in a folder, which Windows and many network drives cannot tell."""
    try:
        handle = os.open(folder, os.O_RDONLY)
        try:
            to_disk(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in UNABLE | NO_HANDLE:
            raise


@contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a lock file; it is free again when its owner ends, however that happens.

    Where another process holds it: `InputError`, or to `wait`. A drive that has no locks is an
    `InputError`, too: a file that stands for a lock stays behind where its owner is killed, and
    does not keep out a process of another machine.
    """
    lock = FileLock(path, timeout=-1 if wait else 0)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        _acquire(lock)
    except NotImplementedError as error:
        raise InputError(
            f"{path.parent} is on a drive without locks ({error}), where two processes could write "
            "into one another's files; give a folder on a drive of this machine."
        ) from error
    except Timeout as error:
        raise InputError(
            f"{path.parent} is being written by another process, which holds {path.name}; wait for "
            "it, stop it, or give another folder."
        ) from error
    try:
        yield
    finally:
        lock.release()


def _acquire(lock: FileLock) -> None:
    """`NotImplementedError` where the drive has no locks, for which filelock has several words."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "flock not supported", UserWarning)
            lock.acquire()
    except OSError as error:
        if error.errno in UNABLE | {errno.ENOLCK, errno.EBADF}:
            raise NotImplementedError(error.strerror) from error
        raise
    if isinstance(lock, SoftFileLock):  # what newer ones take in its place
        lock.release()
        raise NotImplementedError("flock is not supported")
