"""Between a command and whoever called it: a terminal, a pipe, a key.

Whatever ends a command is one sentence and an exit code. Traded away: the traceback of a full
memory, a closed pipe or a missing file, which says nothing to a user.
"""

import errno
import os
import select
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from rsrl_lib.files import InputError

PIPE_CLOSED = 141
"""Exit code, in a shell's words, of a program whose reader left: 128 + SIGPIPE."""


@contextmanager
def in_one_sentence(*, on_stop: str) -> Iterator[None]:
    """Run a command; bad input, Ctrl-C, a full memory or a closed pipe end it without a traceback.

    `on_stop` says after Ctrl-C what becomes of the work. Raises `SystemExit`.
    """
    _open_streams()
    try:
        yield
        sys.stdout.flush()  # here, where a full disk or a closed pipe can still be told
    except InputError as error:
        sys.exit(f"rsrl: {error}")
    except KeyboardInterrupt:
        _wait_for_threads_to_start()
        sys.exit(f"rsrl: stopped; {on_stop}.")
    except (MemoryError, ImportError, RuntimeError, OSError) as error:
        if isinstance(error, BrokenPipeError) and _silence_closed_streams():
            sys.exit(PIPE_CLOSED)
        if _is_memory(error):
            reason = "no more could be had"
            if str(error):
                reason = str(error).splitlines()[0]
            sys.exit(
                f"rsrl: memory ran out ({reason}); a training keeps its finished rounds: end other "
                "programs, or take a smaller network or (rsrl train) --batch, and give it again."
            )
        if not isinstance(error, OSError):
            raise
        sys.exit(f"rsrl: {error}; give files and folders that can be read and written.")


def typed(*words: object) -> str:
    """Another rsrl command, as it has to be typed where and how this one was."""
    program = Path(sys.argv[0])
    known = shutil.which("rsrl")
    if program.stem != "rsrl":
        start = [_from_here(Path(sys.executable)), "-m", "rsrl_lib"]
    elif known and Path(known).resolve() == program.resolve():
        start = ["rsrl"]
    else:
        start = [_from_here(program)]
    return shlex.join([*start, *map(str, words)])


def _from_here(program: Path) -> str:
    """A program's path, shorter where it lies below the folder of the terminal."""
    if program.is_relative_to(Path.cwd()):
        program = program.relative_to(Path.cwd())
    return str(program)


def _open_streams() -> None:
    """Give a closed stream a place, and letters that a terminal lacks a spelling.

    Else the first file that is opened would take the number of the closed stream, and get what
    libraries print.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115 — open for good
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _silence_closed_streams() -> bool:
    """Whether a stream's reader has left; it then leads nowhere, so that the exit is quiet.

    False where the broken pipe is another one, as that of a cluster.
    """
    closed = [stream for stream in (sys.stdout, sys.stderr) if _has_no_reader(stream)]
    for stream in closed:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
    return bool(closed)


def _has_no_reader(stream: TextIO) -> bool:
    if not hasattr(select, "poll"):  # Windows, where nothing else can be asked
        return True
    try:
        poll = select.poll()
        poll.register(stream.fileno(), select.POLLOUT)
    except OSError:  # a stream within Python has no number
        return False
    gone = select.POLLERR | select.POLLHUP
    return any(event & gone for _, event in poll.poll(0))


def _wait_for_threads_to_start() -> None:
    """Python waits for no thread whose start was interrupted: within torch, it aborts the exit."""
    end = time.monotonic() + 1
    while time.monotonic() < end:
        if all(thread.is_alive() for thread in threading.enumerate()):
            return
        time.sleep(0.01)


def _is_memory(error: Exception) -> bool:
    """Whether memory ran out: Python's, PyTorch's, or a library could not be loaded for it."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, ImportError):
        return "allocate memory" in str(error)
    return "alloc" in str(error) or _is_of_gpu(error)


def _is_of_gpu(error: Exception) -> bool:
    """Whether it is PyTorch's error of a full GPU; PyTorch may not be loaded."""
    out_of_memory = getattr(sys.modules.get("torch"), "OutOfMemoryError", ())
    return isinstance(error, out_of_memory)
