"""The commands that train: a run, a sweep of runs, and what the documents set."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from rsrl_lib.files import CACHE, InputError, check_writable, some_photos
from rsrl_lib.interface.given import Columns, Source, reader_options
from rsrl_lib.interface.terminal import typed
from rsrl_lib.recipe import ControlName, Recipe, Resplit

if TYPE_CHECKING:
    import pandas as pd

    from rsrl_lib.pixels import Pixels
    from rsrl_lib.runs import Run

Flat = tyro.conf.OmitArgPrefixes


@dataclass(frozen=True)
class Method(Recipe):
    """What the run does. More, to compare it with, stands in grids: see `rsrl sweep`."""

    literal_weights: tyro.conf.Suppress[bool] = False
    resplit: tyro.conf.Suppress[Resplit] = "never"
    control: tyro.conf.Suppress[ControlName] = "none"
    first_steps: tyro.conf.Suppress[int | None] = None


def train(
    photos: Path,
    run: Path,
    recipe: Flat[Method],
    columns: Flat[Columns],
    scores: Path | None = None,
    source: Source = "folder",
    skip_broken: bool = False,
    other: Path | None = None,
    folds: Literal["one", "all"] = "one",
    cache: Path = CACHE,
) -> None:
    """Retrain a network repetitively on scored photos; the same command resumes an unfinished run.

    Example: rsrl train --photos my_photos --scores my_photos/scores.csv --run runs/mine

    A document's own protocol: add --paper rsrl-b; rsrl papers shows what it sets.

    On several GPUs: torchrun --nproc-per-node 4 --no-python -- rsrl train ...

    Args:
        photos: Folder of photos; for a public set, the folder it was unpacked into.
        run: Folder for the run: tables, conv1 of every round, best and last network.
        recipe: What the run does.
        columns: How the scores are read.
        scores: CSV with a row per photo (source 'folder').
        source: A folder with a CSV, or a public set as published.
        skip_broken: Leave out missing and unreadable photos of an own folder, and list them.
        other: Folder of unscored photos that every round assigns scores to (SSRL-2019 Table 3).
        folds: All five, a run each in --run, with means, intervals and one confusion matrix.
        cache: Folder for decoded photos.
    """
    check_writable(run, "--run", folder=True)
    check_writable(cache, "--cache", folder=True)
    options = reader_options(source, columns, scores, skip_broken, recipe.attributes)

    from rsrl_lib import pixels, summary
    from rsrl_lib.backbones import side_of
    from rsrl_lib.comparing.folds import check_folds_folder, repeat_folds
    from rsrl_lib.machine import team
    from rsrl_lib.network import check_weights
    from rsrl_lib.rounds import repeat
    from rsrl_lib.runs import Run, check_folder
    from rsrl_lib.sources import read_photos

    check_place = check_folds_folder if folds == "all" else check_folder
    check_place(run)
    side = side_of(recipe.backbone)
    before = _written(Run(run))
    if before is None:
        check_weights(recipe.weights)
    scored = read_photos(source, photos, scores, **options)
    how = {"strict": scored.strict, "cache": cache, "side": side}
    decoded, broken = pixels.decode(scored.table, **how)
    scored = scored.without(broken)
    strangers, left_out = None, [scored.left_out]
    if other is not None:
        strangers, unreadable = _unscored(other, **how)
        left_out.append(unreadable)

    def on_start(begun: Run) -> None:
        _list_left_out(left_out, run / "left_out.csv")
        print(*summary.of_start(scored, begun, recipe), sep="\n", flush=True)

    loop = repeat_folds if folds == "all" else repeat
    say = functools.partial(print, flush=True)
    made = loop(
        scored, decoded, run, recipe, other=strangers, on_start=on_start, say=say
    )
    if team()[0] > 0:
        return
    if folds == "all":
        _tell_folds(made, run)
    else:
        _tell_run(made, is_new=before != _written(made))


def _tell_run(run: "Run", *, is_new: bool) -> None:
    """Print the rounds, and where they lie."""
    from rsrl_lib import summary

    state = "is finished" if is_new else "was finished already"
    print(
        *summary.of_end(run),
        f"The run {state}; round {run.chosen} was chosen.",
        f"Its tables and networks are in {run.folder}.",
        f"Read what it learned: {typed('report', run.folder)}",
        sep="\n",
    )


def _tell_folds(runs: list["Run"], folder: Path) -> None:
    """Write and print what all folds together say."""
    from rsrl_lib.comparing.folds import write_folds

    _, over_folds, confusion = write_folds(runs, folder).values()
    print(over_folds.to_string(index=False, float_format="{:.3f}".format))
    print(confusion.pivot(index="label", columns="assigned", values="photos"))
    print(
        "mean and sd: over the five folds, of the chosen round on its test photos. all_photos: of "
        "all photos together, each judged where it tests, with the 95 % interval over photos "
        "(low, high)."
    )
    print(f"Its tables and the runs of the folds are in {folder}.")
    print(f"Read what they learned: {typed('report', folder)}")


def _written(run: "Run") -> int | None:
    """When the last round of a run was finished, in nanoseconds; None where there is none."""
    return run.last.stat().st_mtime_ns if run.has_begun else None


def _list_left_out(tables: list["pd.DataFrame"], path: Path) -> None:
    """Write which photos (photo, reason) were left out, where any was."""
    import pandas as pd

    left_out = pd.concat(tables, ignore_index=True)
    if len(left_out):
        left_out.to_csv(path, index=False)
        count = some_photos(len(left_out), "was", "were")
        print(f"{count} left out; {path} says why.")


def _unscored(
    folder: Path, **how: object
) -> tuple[tuple["pd.DataFrame", "Pixels"], "pd.DataFrame"]:
    """Photos of another source, decoded, and those of them that cannot be read."""
    from rsrl_lib.pixels import decode
    from rsrl_lib.reading.pictures import read_unscored

    table = read_unscored(folder)
    pixels, unreadable = decode(table, **how)
    readable = table[~table.photo.isin(unreadable.photo)].reset_index(drop=True)
    return (readable, pixels), unreadable


def show_arms(
    table: tyro.conf.Positional[Path],
    remove: str | None = None,
    rename: tuple[str, str] | None = None,
) -> None:
    """List the arms in the table of a sweep; take one out, or give it another name.

    Example: rsrl arms sweeps/oasis.csv --rename "own-class K=0.9" "RSRL, 0.9"

    Args:
        table: Table of results (.csv) of rsrl sweep; what lies beside it changes with it.
        remove: Name of an arm whose cells are taken out, and their runs deleted.
        rename: Name of an arm, and its new one; give the grid the new one, too.
    """
    if remove is not None and rename is not None:
        raise InputError("--remove and --rename are one at a time; leave one out.")

    from rsrl_lib.comparing import arms

    if remove is not None:
        cells = arms.remove_arm(table, remove)
        print(f"{cells} cells of {remove!r} are taken out of {table}.")
    if rename is not None:
        arm, name = rename
        cells = arms.rename_arm(table, arm, name)
        print(f"{cells} cells of {arm!r} are now of {name!r} in {table}.")
    print(arms.arms_of(table).to_string(index=False))


def run_sweep(
    grid: tyro.conf.Positional[Path],
    out: Path,
    jobs: int | None = None,
    cluster: str = "",
    cache: Path = CACHE,
) -> None:
    """Train a grid of arms, folds and seeds; the same command goes on with an unfinished one.

    Example: rsrl sweep oasis.toml --out sweeps/oasis.csv --jobs 2

    The grid is a small text file, in TOML. An arm is one way to train: in [common] stands what all
    arms share, under the name of an arm what is its own. What may stand there are the options of
    rsrl train, with _ in place of -; lists stand in brackets. Every arm is trained on every fold
    with every seed, each of which is a cell:

        [photos]
        folder = "photos"
        scores = "photos/scores.csv"
        options = {score_column = "rating"}
        [grid]
        folds = [0, 1, 2, 3, 4]
        seeds = [0, 1]
        [common]
        backbone = "squeezenet1_1"
        weights = "starter"
        tune = "head"
        [arms."keep all"]
        k = [0.0]
        [arms."two thirds"]
        keep_share = 0.667
        [arms.RSRL]
        each_k = [0.9, 0.99]
        [arms."as many at random"]
        keep_share = 0.667
        control = "random-drop"

    Paths are seen from the file's own folder. Leave out what you do not need: [grid] then has fold
    0 and seed 0. each_k makes an arm for each K. Beside options of rsrl train an arm takes control,
    literal_weights, first_steps and resplit; docs/comparing_arms.md says what they are for.
    rsrl arms lists the arms of a table, and renames or removes one.

    Args:
        grid: TOML file of the grid, as above.
        out: Table of results (.csv); predictions, drops and rounds lie beside it under its name.
            Cells that it holds are not trained again.
        jobs: Cells trained at once, a thread each; else one per core, or one where there is a GPU.
        cluster: Address of a Dask scheduler, to train on its workers instead.
        cache: Folder for decoded photos.
    """
    if jobs is not None and jobs < 1:
        raise InputError(f"--jobs must be 1 or more, not {jobs}.")
    check_writable(out, "--out")
    check_writable(cache, "--cache", folder=True)

    from rsrl_lib.comparing import sweeps

    how = {"jobs": jobs, "cluster": cluster, "cache": cache}
    table = sweeps.sweep(grid, out, **how, say=functools.partial(print, flush=True))
    shown = ["macro_f1", "balanced_accuracy", "kappa", "accuracy", "majority_accuracy"]
    means = table.groupby(["dataset", "labels", "target", "arm"], sort=False)[
        shown
    ].mean()
    print(means.to_string(float_format="{:.3f}".format))
    print("These are means over folds and seeds, of the chosen round, on test photos.")
    for sentence in sweeps.few_kept(grid, out):
        print(sentence)
    print(f"{table.cell.nunique()} cells are in {out}.")
    print(f"Read what came of it: {typed('report', out)}")


def show_papers() -> None:
    """Show what each of the four documents sets: --paper NAME of rsrl train takes it."""
    from rsrl_lib.papers import FOUR, PAPERS, side_by_side

    rows = side_by_side()
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        print("  ".join(cells).rstrip())
    print(
        "* MATLAB's, as the document says nothing.  ** Ours, as the document says nothing."
    )
    for name in FOUR:
        print(f"{name}: {PAPERS[name].title}.")
