import errno
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from rsrl_lib import files
from rsrl_lib.files import InputError


def message(*parts):
    return ".*".join(re.escape(part) for part in parts)


HOLDER = """
import sys, time
from pathlib import Path
from rsrl_lib.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock `run.lock`."""
    words = [sys.executable, "-c", HOLDER, str(tmp_path / "run" / "run.lock")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_lock_that_another_process_holds_is_refused_by_name(holder, tmp_path):
    sentence = message(str(tmp_path / "run"), "is being written by another process", "run.lock")
    with pytest.raises(InputError, match=sentence), files.locked(tmp_path / "run" / "run.lock"):
        pass


def test_a_lock_is_free_when_its_owner_is_killed(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    for _ in range(2):  # and when it was given back
        with files.locked(tmp_path / "run" / "run.lock"):
            pass


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), files.replacing(path) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    with files.replacing(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]


def test_a_file_is_on_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    order, real_sync, real_replace = [], files.os.fsync, files.Path.replace
    monkeypatch.setattr(files.os, "fsync", lambda f: order.append("fsync") or real_sync(f))
    rename = lambda *a: order.append("rename") or real_replace(*a)  # noqa: E731
    monkeypatch.setattr(files.Path, "replace", rename)
    with files.replacing(tmp_path / "table.csv") as partial:
        partial.write_text("new")
    assert order == ["fsync", "rename", "fsync"]


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_whoever_writes_a_file_it_can_be_read_as_the_umask_says(tmp_path, umask):
    def closed(path):  # as safetensors does
        path.touch(mode=0o600)

    before = os.umask(umask)
    try:
        for name, write in {"text": lambda path: path.write_text("x"), "closed": closed}.items():
            with files.replacing(tmp_path / name) as partial:
                write(partial)
            assert (tmp_path / name).stat().st_mode & 0o777 == 0o666 & ~umask
    finally:
        os.umask(before)
    assert {path.name for path in tmp_path.iterdir()} == {"text", "closed"}


def failing(number, *, of):
    """An `os.fsync` that answers with an error for folders or for files."""
    whole = os.fsync

    def answer(handle):
        is_folder = stat.S_ISDIR(os.fstat(handle).st_mode)
        if is_folder == (of == "folders"):
            raise OSError(number, os.strerror(number))
        return whole(handle)

    return answer


UNABLE = [errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS]


@pytest.mark.parametrize("number", [*UNABLE, errno.EBADF, errno.EACCES], ids=errno.errorcode.get)
def test_a_drive_that_cannot_flush_a_folder_stops_nothing(tmp_path, monkeypatch, number):
    monkeypatch.setattr(os, "fsync", failing(number, of="folders"))
    with files.replacing(tmp_path / "table.csv") as partial:
        partial.write_text("new")
    assert (tmp_path / "table.csv").read_text() == "new"


@pytest.mark.parametrize("number", UNABLE, ids=errno.errorcode.get)
def test_a_drive_that_cannot_flush_a_file_stops_nothing(tmp_path, monkeypatch, number):
    monkeypatch.setattr(os, "fsync", failing(number, of="files"))
    with files.replacing(tmp_path / "table.csv") as partial:
        partial.write_text("new")
    assert (tmp_path / "table.csv").read_text() == "new"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EISDIR], ids=errno.errorcode.get)
def test_a_folder_that_is_no_file_to_the_system_stops_nothing(tmp_path, monkeypatch, number):
    whole = os.open

    def refused(path, *how):
        if Path(path).is_dir():
            raise OSError(number, os.strerror(number))
        return whole(path, *how)

    monkeypatch.setattr(os, "open", refused)
    with files.replacing(tmp_path / "table.csv") as partial:
        partial.write_text("new")
    assert (tmp_path / "table.csv").read_text() == "new"


@pytest.mark.parametrize("of", ["folders", "files"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT], ids=errno.errorcode.get)
def test_a_disk_that_fails_or_is_full_stays_an_error(tmp_path, monkeypatch, number, of):
    monkeypatch.setattr(os, "fsync", failing(number, of=of))
    sentence = message("table.csv could not be written", os.strerror(number), "make room")
    with pytest.raises(InputError, match=sentence), files.replacing(tmp_path / "table.csv") as new:
        new.write_text("new")


@pytest.mark.parametrize("wait", [False, True], ids=["asks", "waits"])
@pytest.mark.parametrize("number", [*UNABLE, errno.ENOLCK, errno.EBADF], ids=errno.errorcode.get)
@pytest.mark.filterwarnings("error")
def test_a_drive_without_locks_is_named_and_nothing_is_written(tmp_path, monkeypatch, number, wait):
    fcntl = pytest.importorskip("fcntl")

    def unable(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", unable)
    sentence = message(f"{tmp_path} is on a drive without locks", "two processes", "give a folder")
    for _ in range(2):  # it leaves nothing behind that would look like another process
        with pytest.raises(InputError, match=sentence), files.locked(tmp_path / "l", wait=wait):
            pytest.fail("it is not locked")


def test_so_is_one_of_which_an_older_filelock_says_it(tmp_path, monkeypatch):
    def unable(*_, **__):
        raise NotImplementedError("use SoftFileLock instead")

    monkeypatch.setattr(FileLock, "acquire", unable)
    with pytest.raises(InputError, match="drive without locks"), files.locked(tmp_path / "l"):
        pytest.fail("it is not locked")


def test_a_lock_that_may_not_be_made_is_another_error(tmp_path, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(FileLock, "acquire", denied)
    with pytest.raises(PermissionError), files.locked(tmp_path / "l"):
        pytest.fail("it is not locked")
