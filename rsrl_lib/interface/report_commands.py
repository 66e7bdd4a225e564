"""The commands that tell what came of a training: a page, and two runs beside each other."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from rsrl_lib.files import CACHE, InputError, check_writable, reading
from rsrl_lib.interface.given import RUN, Source, check_table, options_of, write_table
from rsrl_lib.interface.terminal import typed

if TYPE_CHECKING:
    from rsrl_lib.report.besides import Found
    from rsrl_lib.report.did_it_work import Judged
    from rsrl_lib.report.page import Page
    from rsrl_lib.runs import Run

Listed = tyro.conf.Positional


def report(
    runs: Listed[tuple[Path, ...]],
    out: Path | None = None,
    keep_all: Literal["auto", "yes", "no"] = "auto",
    beside: Path | None = None,
    base: str = "",
    photos: Path | None = None,
    scores: Path | None = None,
    source: Source = "folder",
    options: str = "",
    cache: Path = CACHE,
) -> None:
    """Write one page about a run that opens in a browser: did it work, and what was dropped.

    Example: rsrl report runs/mine

    Two runs: rsrl report runs/mine runs/other

    A sweep: rsrl report sweeps/oasis.csv

    Args:
        runs: Folder of a run or of all folds, two such runs, or a sweep's table (.csv).
        out: The page (.html); beside what it tells of when not given.
        keep_all: Train the same run without dropping, to compare: where it takes at most ten
            minutes (auto), in any case (yes), or not (no). It is kept in the run's folder.
        beside: Folder of a run that keeps all photos, where you have one.
        base: Arm of a sweep that the others are compared with, where several drop nothing.
        photos: Folder of the run's photos, where they are no longer where they were.
        scores: CSV with a row per photo, likewise (source 'folder').
        source: A folder with a CSV, or a public set as published.
        options: More for the reader of the photos, such as '{score_column: rating}'.
        cache: Folder for decoded photos.
    """
    if not 1 <= len(runs) <= 2:
        raise InputError(f"A page is of one run or of two, not of {len(runs)}.")
    given = _given(photos, scores, source, options)
    of_one_run = {"--beside": beside, "--photos": given}
    is_sweep = runs[0].suffix.lower() == ".csv"
    if len(runs) == 2 or is_sweep:
        _refuse(of_one_run, "a page of one run")
    if not is_sweep:
        _refuse({"--base": base}, "a sweep")
    target = out or _place(runs)
    if target.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--out {target} is no page; give a name that ends in .html.")
    if out is not None or target.parent.is_dir():  # else there is no run, which is told
        check_writable(target, "--out")

    from rsrl_lib.report.page import write

    if is_sweep:
        page, told = _of_sweep(runs, base)
    elif len(runs) == 2:
        page, told = _of_two(runs)
    else:
        check_writable(cache, "--cache", folder=True)
        how = {"keep_all": keep_all, "beside": beside, "given": given, "cache": cache}
        page, told = _of_one(runs[0], how)
    write(page, target)
    print(*told, f"The page is {target}; open it in a browser.", sep="\n")


def _given(
    photos: Path | None, scores: Path | None, source: str, options: str
) -> dict[str, object] | None:
    """Where the photos are, if that is said; `InputError` where it is said by half."""
    if photos is None:
        if scores is not None or source != "folder" or options:
            raise InputError(
                "Scores, a source or options are of photos; give their folder too, by --photos."
            )
        return None
    return {
        "source": source,
        "folder": photos,
        "scores": scores,
        "options": options_of(options),
    }


def _refuse(options: dict[str, object], where: str) -> None:
    for option, value in options.items():
        if value:
            raise InputError(f"{option} is for {where}; leave it out.")


def _place(runs: tuple[Path, ...]) -> Path:
    """Where a page goes that is not told where."""
    first = runs[0]
    if first.suffix.lower() == ".csv":
        return first.with_name(f"{first.stem}_report.html")
    if len(runs) == 2:
        return first / f"report_beside_{runs[1].resolve().name}.html"
    return first / "report.html"


def _of_sweep(paths: tuple[Path, ...], base: str) -> tuple["Page", list[str]]:
    from rsrl_lib.report.of_several import sweep_page

    if len(paths) > 1:
        raise InputError("A page is of one sweep; give one table.")
    with reading(paths[0], "table of a sweep", "make it with rsrl sweep"):
        return sweep_page(paths[0], base), []


def _of_two(paths: tuple[Path, ...]) -> tuple["Page", list[str]]:
    from rsrl_lib.report.answers import answers_of, compared, in_a_sentence, runs_of
    from rsrl_lib.report.of_several import two_page

    pairs = []
    for path in paths:
        with reading(path, *RUN):
            pairs.append((answers_of(path), runs_of(path)))
    (a, runs_a), (b, runs_b) = pairs
    if len(runs_a) + len(runs_b) > 2:
        raise InputError(
            "A page beside another is of single runs; rsrl compare takes folders of all folds."
        )
    both = compared(a, b)
    page = two_page(both, (runs_a[0], runs_b[0]))
    return page, [in_a_sentence(both)]


def _of_one(path: Path, how: dict[str, object]) -> tuple["Page", list[str]]:
    """The page of a run, or of all folds, and the recommendation."""
    from rsrl_lib.report.answers import is_of_folds, runs_of
    from rsrl_lib.report.besides import find_photos
    from rsrl_lib.report.of_a_run import page
    from rsrl_lib.report.of_several import folds_page

    with reading(path, *RUN):
        runs = runs_of(path)
        found = find_photos(runs[0], how["given"])
        if is_of_folds(path) and how["beside"] is not None:
            _refuse({"--beside": how["beside"]}, "a page of one run")
        judged = _judged(runs, found, how)
        told = []
        if judged is not None:
            recommendation = judged.recommendation
            told = [recommendation.headline, *recommendation.reasons]
        if is_of_folds(path):
            return folds_page(path, runs, judged), told
        return page(runs[0], found, judged), told


def _judged(
    runs: list["Run"], found: "Found", how: dict[str, object]
) -> "Judged | None":
    """What stands beside each run, made where it is not there yet; None where no photo tests."""
    from rsrl_lib.report import besides, did_it_work

    if runs[0].shown_part != "test":
        return None
    of_runs = []
    for run in runs:
        is_head = run.recipe.tune == "head"
        drops = besides.drops(run)
        of_run = {"commonest": besides.always_commonest(run)}
        if (drops and not is_head) or how["beside"] is not None:
            of_run["keep_all"] = besides.keep_all(
                run,
                found,
                how["cache"],
                how["keep_all"],
                beside=how["beside"],
                command=typed("report"),
                say=partial(print, flush=True),
            )
        if drops or not is_head:
            of_run["frozen"] = besides.frozen_head(run, found, how["cache"])
        of_runs.append(of_run)
    return did_it_work.judged(runs, of_runs)


def compare(
    runs: Listed[tuple[Path, Path]],
    csv: Path | None = None,
) -> None:
    """Compare two runs photo by photo: differences of five measures, with 95 % intervals.

    Example: rsrl compare runs/mine runs/other --csv compared.csv

    Args:
        runs: Folders of two runs on the same photos, or of two with all folds.
        csv: Write the table here, too.
    """
    if csv is not None:
        check_table(csv, "--csv")

    from rsrl_lib.report.answers import answers_of, compared, in_a_sentence

    answers = []
    for path in runs:
        with reading(path, *RUN):
            answers.append(answers_of(path))
    both = compared(*answers)
    table = both.measures.rename(columns={"a": "A", "b": "B", "difference": "A less B"})
    wins = both.wins
    a, b = runs
    print(f"A is {a}, B is {b}. {len(both.both)} photos test in both.")
    print(table.to_string(index=False, float_format="{:.3f}".format))
    print(
        "low to high: 95 % interval over photos of A less B. Of macro_mae, less is better."
    )
    print(
        f"Both are right {wins['both']} times, only A {wins['a_only']}, only B "
        f"{wins['b_only']}, neither {wins['neither']}."
    )
    print(in_a_sentence(both, lambda each: "A" if each is both.a else "B"))
    if csv is not None:
        write_table(both.table, csv)
        print(f"The table is {csv}.")
