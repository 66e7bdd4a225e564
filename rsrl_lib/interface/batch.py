"""The notebooks without a browser: parameters are checked, all chapters run, failures are named."""

import ast
import csv
import difflib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm.auto import tqdm

from rsrl_lib.files import ROOT, InputError, check_writable, in_words, needing
from rsrl_lib.sources import FILES

PLACES = {
    "photos",
    "scores",
    "ava",
    "other",
    "run",
    "gap_run",
    "figures",
    "table",
    "sweep",
}
"""Parameters of notebooks that name a file or a folder."""
DEMO_PHOTOS = 300
"""Drawn photos of a demo: fewer than the chapters draw by themselves, as somebody waits for it."""


def run_notebooks(
    names: Sequence[str],
    out: Path,
    parameters: Sequence[tuple[str, str]],
    *,
    timeout: int,
) -> None:
    """Execute the notebooks of these names, or all in reading order, and keep the copies in `out`.

    `parameters` are names and values as typed, `timeout` seconds of a single cell. Raises
    `InputError` for a name or value that no notebook knows, and, when all have had their turn, for
    those that failed.
    """
    with needing("Running notebooks", "notebooks"):
        import ipykernel  # noqa: F401  (what a kernel is started by)
        import papermill  # noqa: F401
    chosen = _chosen(names)
    declared = {path: declared_parameters(path) for path in chosen}
    values = _placed(_values(parameters, declared), out)
    check_writable(out, "--out", folder=True)
    failed = []
    usual = usual_seconds(chosen)
    if len(usual) == len(chosen):
        print(
            f"{len(chosen)} notebooks: with their own settings, on {DEMO_PHOTOS} drawn photos, "
            f"they took {in_words(sum(usual.values()))} on two cores.",
            flush=True,
        )
    taken = {}
    for path in tqdm(chosen, "notebooks", unit="notebook"):
        started = time.monotonic()
        given = {name: values[name] for name in values if name in declared[path]}
        target = out / path.name
        # Papermill writes after every cell.
        partial = target.with_suffix(".partial.ipynb")
        try:
            execute(path, partial, given, timeout=timeout)
        except Exception as error:
            # What a kernel, a disk or a cell can do is not one kind.
            failed.append(f"{path.stem}{_reason(error, timeout)}")
        except KeyboardInterrupt:
            partial.unlink(missing_ok=True)
            raise
        if partial.exists():
            partial.replace(target)
        seconds = time.monotonic() - started
        taken[path.stem] = seconds
        tqdm.write(f"{target}: {seconds:.0f} s{_of_the_others(usual, taken)}")
    if failed:
        raise InputError(
            f"{len(failed)} of {len(chosen)} notebooks failed ({'; '.join(failed)})."
        )


def usual_seconds(paths: Sequence[Path]) -> dict[str, float]:
    """What notebooks took in a demo, by their names, on two cores; those that are known."""
    table = ROOT / "data" / "results" / "chapter_seconds.csv"
    if not table.exists():
        return {}
    with table.open(encoding="utf-8", newline="") as file:
        known = {row["chapter"]: float(row["seconds"]) for row in csv.DictReader(file)}
    return {path.stem: known[path.stem] for path in paths if path.stem in known}


def _of_the_others(usual: dict[str, float], taken: dict[str, float]) -> str:
    """How long the notebooks that are left take, if they are slower by as much as those before."""
    left = [seconds for name, seconds in usual.items() if name not in taken]
    usual_of_taken = sum(usual.get(name, 0) for name in taken)
    if not left or not usual_of_taken:
        return ""
    slower = sum(taken[name] for name in taken if name in usual) / usual_of_taken
    words = in_words(slower * sum(left))
    which = "the other takes" if len(left) == 1 else f"the other {len(left)} take"
    return f" ({which} about {words} at this pace)"


def execute(path: Path, target: Path, given: dict[str, object], *, timeout: int):
    """Execute one notebook on the Python that runs this, write it to `target` after every cell and
    return it; `timeout` is in seconds for a cell. It runs in the folder that it is written to, as
    it will when it is opened there. Raises what papermill and nbclient raise."""
    import papermill

    from rsrl_lib.interface.kernels import OwnKernel

    return papermill.execute_notebook(
        literal(path),
        literal(target),
        given,
        kernel_name="python3",
        kernel_manager_class=OwnKernel,
        cwd=str(target.parent.absolute()),  # the one path that papermill leaves alone
        execution_timeout=timeout,
        progress_bar=False,
    )


def declared_parameters(path: Path) -> dict[str, dict]:
    """The parameters of a notebook, and what papermill knows of each."""
    import papermill

    return papermill.inspect_notebook(literal(path))


def literal(path: Path) -> str:
    """A path as papermill has to be given it, which takes braces for names of parameters, and what
    begins like an address for one."""
    return str(path.absolute()).replace("{", "{{").replace("}", "}}")


def _chosen(names: Sequence[str]) -> list[Path]:
    """Notebooks by the beginnings of their names, in reading order; all where none is named."""
    folder = ROOT / "notebooks"
    every = sorted(folder.glob("[0-9]*.ipynb"))
    if not every:
        raise InputError(f"There are no notebooks in {folder}; install rsrl-lib again.")
    if not names:
        return every
    # 1 is the first chapter, not the tenth.
    beginnings = tuple(name.zfill(2) for name in names)
    stems = [path.stem for path in every]
    for beginning in beginnings:
        if not any(stem.startswith(beginning) for stem in stems):
            raise InputError(_nearest("notebook", beginning, stems))
    return [path for path in every if path.stem.startswith(beginnings)]


def _values(
    parameters: Sequence[tuple[str, str]], declared: dict[Path, dict]
) -> dict[str, object]:
    """Values of parameters, each of the kind of its default; a misspelt one is an error."""
    defaults = {}
    for of_notebook in declared.values():
        for name, about in of_notebook.items():
            defaults[name] = ast.literal_eval(about["default"])
    for name, _ in parameters:
        if name not in defaults:
            raise InputError(_nearest("parameter", name, sorted(defaults)))
    return {name: _value(name, text, defaults[name]) for name, text in parameters}


def _placed(values: dict[str, object], out: Path) -> dict[str, object]:
    """The values with paths that an executed notebook still finds when it is opened in `out`."""
    placed = dict(values)
    for name in PLACES & values.keys():
        if values[name]:
            placed[name] = _seen_from(out, values[name])
    if Path(values.get("weights", "")).is_file():
        placed["weights"] = _seen_from(out, values["weights"])
    options = values.get("options", {})
    files = {name: _seen_from(out, options[name]) for name in FILES if name in options}
    if files:
        placed["options"] = options | files
    return placed


def _seen_from(out: Path, path: str) -> str:
    """What lies beside `out`, as in a demo, is named from there, so that all of it can be moved."""
    out = out.resolve()
    absolute = Path(path).resolve()
    if absolute.is_relative_to(out.parent):
        return os.path.relpath(absolute, out)
    return str(absolute)


def _nearest(kind: str, name: str, names: list[str]) -> str:
    nearest = difflib.get_close_matches(name, names, 1, cutoff=0)[0]
    return f"There is no {kind} {name!r}; did you mean {nearest!r}? (known: {', '.join(names)})"


def _value(name: str, text: str, default: object) -> object:
    """A parameter's value, of the kind that its default in the notebook has."""
    if isinstance(default, str):
        return text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        value = text
    if default is None:
        return value  # the chapter says what it takes, once it knows the other settings
    kind = type(default)
    if isinstance(default, list):
        value = list(value) if isinstance(value, list | tuple) else [value]
    elif isinstance(default, float):
        kind = (int, float, type(None))
    if not isinstance(value, kind):
        raise InputError(
            f"The parameter {name} is {text!r}; give a value such as {default!r}."
        )
    return value


def _reason(error: Exception, timeout: int) -> str:
    """Why a notebook failed, to be said after its name."""
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    if isinstance(error, PapermillExecutionError):
        return f", cell {error.exec_count}: {error.ename}: {error.evalue}"
    if isinstance(error, CellTimeoutError):
        return f": a cell took longer than the timeout of {timeout} s"
    if isinstance(error, DeadKernelError):
        return ": its kernel died"
    if isinstance(error, RuntimeError) and "kernel" in str(error).lower():
        return f": its kernel, {sys.executable} -m ipykernel_launcher, did not start ({error})"
    return f": {type(error).__name__}: {error}"
