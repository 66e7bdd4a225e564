"""Where a run comes from: command, date, version, folder of its photos. It stands in run.json.

Nothing of it changes what is computed.
"""

import os
import shlex
import subprocess
import sys
from datetime import datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pandas as pd

from rsrl_lib.files import INSTALLED, ROOT
from rsrl_lib.photos import ScoredPhotos


def provenance(photos: ScoredPhotos) -> dict[str, object]:
    """What is known of a run that begins now; None where something is not known."""
    return {
        **_now(),
        "folder": common_folder(photos.table),
        "rsrl": _version(),
        "commit": _commit(),
    }


def gone_on(before: dict[str, object]) -> dict[str, object]:
    """The same of a run that is asked for more, which another command does."""
    earlier = before.get("continued", [])
    return before | {"continued": [*earlier, _now()]}


def common_folder(table: pd.DataFrame) -> str | None:
    """The folder in which each photo lies by its name; None where their names tell less."""
    first = table.iloc[0]
    folder = str(first.path).removesuffix(str(first.photo))
    if folder == str(first.path) or not folder.endswith(("/", os.sep)):
        return None
    for photo, path in zip(table.photo, table.path, strict=True):
        if str(Path(folder, photo)) != str(Path(path)):
            return None
    return os.path.abspath(folder)  # noqa: PTH100 — a link keeps its name


def _now() -> dict[str, object]:
    """Date with its zone, the command, and the folder in which it was given."""
    return {
        "begun": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": _command(),
        "given_in": str(Path.cwd()),
    }


def _command() -> str | None:
    """The command line of this process; None of a notebook and of a worker."""
    program = Path(sys.argv[0])
    if program.stem == "rsrl" or program.parts[-2:] == ("rsrl_lib", "__main__.py"):
        return shlex.join(["rsrl", *sys.argv[1:]])
    is_notebook = "ipykernel" in sys.modules
    if is_notebook or not program.is_file():
        return None
    return shlex.join(["python", *sys.argv])


def _version() -> str | None:
    try:
        return version("rsrl-lib")
    except PackageNotFoundError:
        return None


@cache
def _commit() -> str | None:
    """The commit of a checkout, and whether its files were changed since; None of a package."""
    if INSTALLED or not (ROOT / ".git").exists():
        return None
    try:
        commit = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}, with changes" if changed else commit


def _git(*words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(ROOT), *words],
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    )
    return done.stdout.strip()
