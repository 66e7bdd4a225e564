"""The `rsrl` command: what the notebooks do, for batch runs.

Help, defaults and checks come from the same dataclasses that the notebooks fill in. PyTorch and
pandas take seconds to load, so a command imports what it works with: help and a misspelt option
answer at once.
"""

import functools
import json
import shlex
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import tyro

from rsrl_lib.drop_rules import THRESHOLDS
from rsrl_lib.files import Note, check_writable
from rsrl_lib.interface.given import Source
from rsrl_lib.interface.map_commands import maps
from rsrl_lib.interface.photo_commands import assess, crop, highlight
from rsrl_lib.interface.rating_commands import curve, rate
from rsrl_lib.interface.report_commands import compare, report
from rsrl_lib.interface.terminal import in_one_sentence
from rsrl_lib.interface.training_commands import (
    Method,
    run_sweep,
    show_arms,
    show_papers,
    train,
)
from rsrl_lib.recipe import PaperName, recipe_from

if TYPE_CHECKING:
    import pandas as pd

Listed = tyro.conf.Positional


def draw(
    out: Path,
    originals: Annotated[Path | None, tyro.conf.arg(name="from")] = None,
    count: int | None = None,
    seed: int = 0,
) -> None:
    """Make glass-box photos, whose truth is known: drawn ones, or good photos of yours, spoiled.

    Example: rsrl glassbox --out my_glassbox --count 500 --seed 1

    Example: rsrl glassbox --from good_photos --out my_glassbox

    Args:
        out: New folder for them; photos.csv in it lists them.
        originals: Folder of good photos; failures of known size are made in them (noise, blur,
            exposure, tilt, framing, colour cast, clutter), and scored as drawn photos are.
        count: Photos; 1000 drawn ones, or each good photo once, when not given.
        seed: The same seed makes the same photos.
    """
    check_writable(out, "--out", folder=True)

    from rsrl_lib.drawing import glassbox

    started = time.monotonic()
    if originals is None:
        table = glassbox.write(out, 1000 if count is None else count, seed=seed)
    else:
        table = glassbox.write_from(out, originals, count, seed=seed)
    facts = glassbox.facts_in(out)
    print(
        f"{len(facts)} photos are listed in {table} ({time.monotonic() - started:.0f} s)."
    )
    if originals is not None:
        print(f"All chapters on them: {_chapters_on(out, originals, facts)}")


def _chapters_on(folder: Path, originals: Path, facts: "pd.DataFrame") -> str:
    """The command that executes all chapters on photos that were spoiled; the good ones are those
    of another source, which chapter 4 asks for."""
    from rsrl_lib.drawing.glassbox import ATTRIBUTES

    options = {"votes": str(folder / "votes.csv"), "attribute_columns": [*ATTRIBUTES]}
    if facts["source"].duplicated().any():
        options["group_column"] = "source"  # photos of one original lie in one part
    given = {"photos": folder, "scores": folder / "photos.csv", "options": options}
    given["other"] = originals
    words = ["rsrl", "notebooks", "--out", str(folder / "executed")]
    for name, value in given.items():
        text = json.dumps(value) if isinstance(value, dict) else str(value)
        words += ["-p", name, text]
    for name in ("run", "gap_run"):
        words += ["-p", name, str(folder / "executed" / name)]
    return shlex.join(words)


def fetch(what: tyro.conf.Positional[Literal["oasis"]], out: Path) -> None:
    """Download a public set of photos and votes, checked file by file.

    Example: rsrl fetch oasis --out oasis

    Args:
        what: oasis: 526 photos of animals, objects and scenes, with about 190 beauty votes each.
        out: Folder for photos/, photos.csv and votes.csv; the originals are kept in it (50 MB).
    """
    check_writable(out, "--out", folder=True)

    from rsrl_lib.sources import fetch_oasis

    table = fetch_oasis(out)
    print(
        f"The photos of {what} are listed in {table}, their votes in {out / 'votes.csv'}."
    )


def run_notebooks(
    names: Listed[tuple[str, ...]] = (),
    out: Path = Path("executed"),
    parameters: Annotated[
        tyro.conf.UseAppendAction[tuple[tuple[str, str], ...]],
        tyro.conf.arg(name="p", aliases=["-p"]),
    ] = (),
    timeout: int = 1800,
) -> None:
    """Execute notebooks by papermill, all of them or those named, and keep the executed copies.

    Example: rsrl notebooks 01 03 --out executed -p seed 3 -p rounds 6

    Args:
        names: Notebooks by number or name; all in reading order when none is given.
        out: Folder for the executed notebooks.
        parameters: Name and value of a notebook parameter; may be repeated.
        timeout: Seconds a single cell may take.
    """
    from rsrl_lib.interface import batch

    batch.run_notebooks(names, out, parameters, timeout=timeout)


def make_demo(out: Path = Path("demo"), timeout: int = 1800) -> None:
    """Execute all notebooks on the embedded photos: copies, pages, figures and runs in one folder.

    Example: rsrl demo --out demo

    Args:
        out: Folder of the demo alone; what an earlier demo made there is replaced.
        timeout: Seconds a single cell may take.
    """
    from rsrl_lib.interface import app

    index = app.make_demo(out, timeout=timeout)
    print(f"Executed notebooks, figures and two runs (run and gap) are in {out}.")
    print(f"Open {index} in a browser to read the chapters.")


def show_app(
    run: Path | None = None,
    gap_run: Path | None = None,
    photos: Path | None = None,
    scores: Path | None = None,
    source: Source = "folder",
    options: str = "",
    port: int = 8866,
    no_browser: bool = False,
) -> None:
    """Explore highlight regions and crops in a browser, on this machine alone; Ctrl-C ends it.

    Example: rsrl app --run runs/mine

    Args:
        run: Folder of a run; the demo's when not given, made first where there is none.
        gap_run: Folder of another run, for crops.
        photos: Folder of the photos of the runs, where they have moved.
        scores: CSV with a row per photo (source 'folder').
        source: A folder with a CSV, or a public set as published.
        options: More for the reader of the photos, such as '{score_column: rating}'.
        port: Where the page is: http://127.0.0.1:PORT.
        no_browser: Open no browser on it.
    """
    from rsrl_lib.interface import app

    own = {"photos": photos, "scores": scores, "source": source, "options": options}
    app.serve(run, gap_run, **own, port=port, browser=not no_browser)


COMMANDS = {
    "rate": rate,
    "curve": curve,
    "train": train,
    "papers": show_papers,
    "report": report,
    "compare": compare,
    "assess": assess,
    "highlight": highlight,
    "crop": crop,
    "maps": maps,
    "glassbox": draw,
    "fetch": fetch,
    "sweep": run_sweep,
    "arms": show_arms,
    "notebooks": run_notebooks,
    "demo": make_demo,
    "app": show_app,
}


def main() -> None:
    """Entry point: one sentence and a non-zero exit for bad input, never a traceback."""
    goes_on = "a training keeps its finished rounds: the same command goes on"
    on_stop = (
        goes_on if sys.argv[1:2] in (["train"], ["sweep"]) else "what is written stays"
    )
    warnings.showwarning = _show
    with in_one_sentence(on_stop=on_stop):
        tyro.extras.subcommand_cli_from_dict(
            _commands(sys.argv[1:]), prog="rsrl", config=(tyro.conf.FlagCreatePairsOff,)
        )


def _commands(words: list[str]) -> dict[str, Callable]:
    """The commands; where a paper is named, training takes its settings for what is not given."""
    named = _value_of("--paper", words)
    if words[:1] != ["train"] or named not in get_args(PaperName):
        return COMMANDS
    from rsrl_lib.papers import preset

    given = {"backbone": _value_of("--backbone", words)}
    for threshold in THRESHOLDS:
        given[threshold] = _value_of(f"--{threshold.replace('_', '-')}", words)
    of_paper = recipe_from({**preset(named, given), "paper": named})
    method = Method(**{name: getattr(of_paper, name) for name in vars(of_paper)})
    return COMMANDS | {"train": functools.partial(train, recipe=method)}


def _value_of(option: str, words: list[str]) -> str | None:
    """The word after an option, or after its equals sign; None where it is not given."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        name, is_joined, value = word.partition("=")
        if name.replace("_", "-") == option:
            return value if is_joined else following
    return None


def _show(message, category, *place, usual=warnings.showwarning, **how) -> None:
    """A `Note` as a sentence, without the line of code that it comes from."""
    if category is Note:
        print(f"rsrl: {message}", file=sys.stderr)
    else:
        usual(message, category, *place, **how)
