"""The `rsrl` command: what the notebooks do, for batch runs.

Help, defaults and checks come from the same dataclasses that the notebooks fill in. PyTorch and
pandas take seconds to load, so a command imports what it works with: help and a misspelt option
answer at once.
"""

import csv
import functools
import math
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn, get_args

import tyro

from rsrl_lib.drop_rules import THRESHOLDS
from rsrl_lib.files import (
    CACHE,
    InputError,
    Note,
    check_writable,
    reading,
    size_of,
    writing,
)
from rsrl_lib.interface.terminal import in_one_sentence
from rsrl_lib.recipe import ControlName, PaperName, Recipe, Resplit, recipe_from

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from rsrl_lib.activation import ActivationMaps
    from rsrl_lib.network import AestheticNet
    from rsrl_lib.pixels import Pixels
    from rsrl_lib.runs import Judges, Run

Flat = tyro.conf.OmitArgPrefixes
Listed = tyro.conf.Positional
Source = Literal["folder", "ava", "eva", "aadb", "para", "oasis"]
RUN = "run", "give a whole one, or make one with rsrl train"
HIGHLIGHT_COLUMNS = ["photo", "J", "correlation", "area_share"]
HIGHLIGHT_COLUMNS += ["left", "top", "width", "height"]
CROP_COLUMNS = ["photo", "left", "top", "width", "height", "reason", "attribute", "iou"]


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
    options = _reader_options(source, columns, scores, skip_broken, recipe.attributes)

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
    made = loop(scored, decoded, run, recipe, other=strangers, on_start=on_start)
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


def _reader_options(
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


def _written(run: "Run") -> int | None:
    """When the last round of a run was finished, in nanoseconds; None where there is none."""
    return run.last.stat().st_mtime_ns if run.has_begun else None


def _list_left_out(tables: list["pd.DataFrame"], path: Path) -> None:
    """Write which photos (photo, reason) were left out, where any was."""
    import pandas as pd

    left_out = pd.concat(tables, ignore_index=True)
    if len(left_out):
        left_out.to_csv(path, index=False)
        print(f"{len(left_out)} photos were left out; {path} says why.")


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


def assess(
    run: tyro.conf.UseAppendAction[tuple[Path, ...]],
    photos: Listed[tuple[Path, ...]],
    csv: Path | None = None,
    skip_broken: bool = False,
    cache: Path | None = None,
) -> None:
    """Assign scores to photos with the chosen network of a run, or of several together.

    Example: rsrl assess --run runs/mine holiday/*.jpg --csv holiday.csv
    Three runs: rsrl assess --run runs/a --run runs/b --run runs/c holiday/*.jpg

    Args:
        run: Folder of a run; of several, each given by its own --run, the answers are averaged.
        photos: Photos, or folders of photos.
        csv: Write the table here instead of printing it.
        skip_broken: Leave out unreadable photos, and name them.
        cache: Folder to keep the decoded photos in, for another time; else they are deleted.
    """
    if csv is not None:
        _check_table(csv)
    if cache is not None:
        check_writable(cache, "--cache", folder=True)

    import numpy as np
    import pandas as pd

    from rsrl_lib.deciding import moments
    from rsrl_lib.training import likelihoods

    judges = _judges_of_one_scale(run)
    whole = _paths(photos, skip_broken)
    likelihoods_of, posteriors = [], []  # (photos, levels), of each run
    for side in {judge.chosen.side: None for judge in judges}:
        with _decoded(whole, "assess", skip_broken, cache, side) as (whole, decoded):
            for judge in judges:
                if judge.chosen.side == side:
                    own, together = judge.logits(decoded)
                    likelihoods_of.append(likelihoods(own))
                    posteriors.append(np.exp(judge.rule.log_posterior(together)))
    posterior = np.mean(posteriors, 0)
    assigned = posterior.argmax(1)

    network = judges[0].chosen
    levels = network.levels
    column = "level" if "high" in levels else "score"
    rows = pd.DataFrame({"photo": whole, column: [levels[node] for node in assigned]})
    if column == "score":
        rows["expected"], rows["spread"] = moments(posterior, network.scores)
    columns = [f"likelihood_{level}" for level in levels]
    rows[columns] = np.mean(likelihoods_of, 0)
    if csv is None:
        print(rows.to_string(index=False, float_format="{:.3f}".format))
    else:
        with writing(csv):
            rows.to_csv(csv, index=False)
        print(f"{len(rows)} photos are assessed in {csv}.")


def _judges_of_one_scale(runs: tuple[Path, ...]) -> list["Judges"]:
    """Who judges for each run; `InputError` where the runs have other levels."""
    from rsrl_lib.runs import open_run

    if not runs:
        raise InputError("--run is needed; give the folder of a run.")
    judges = []
    scales = []
    for folder in runs:
        with reading(folder, *RUN):
            opened = open_run(folder)
            judges.append(opened.judges())
            recipe = opened.info["recipe"]
        scale = ", ".join(judges[-1].chosen.levels)
        if recipe["levels"] == "low-high":
            scale += f" with the cut {recipe['cut']:g}"
        scales.append(scale)
    for folder, scale in zip(runs, scales, strict=True):
        if scale != scales[0]:
            raise InputError(
                f"Runs that judge together need the same scores; {runs[0]} has {scales[0]}, "
                f"{folder} has {scale}; leave one out."
            )
    return judges


def highlight(
    run: Path,
    rounds: tuple[int, int],
    photos: Listed[tuple[Path, ...]],
    out: Path,
    channel: int | None = None,
    after_relu: bool = False,
    absolute: bool = False,
    flip: bool = False,
    skip_broken: bool = False,
) -> None:
    """Show in photos what two rounds of a run see differently: one picture a photo, and a table.

    Example: rsrl highlight --run runs/mine --rounds 10 9 holiday/*.jpg --out highlights

    Args:
        run: Folder of a run.
        rounds: The later and the earlier round.
        photos: Photos, or folders of photos.
        out: Folder for the pictures and for highlights.csv (boxes in pixels of each photo).
        channel: J, counted from 0; the least correlated one of each photo when not given.
        after_relu: Take the maps after ReLU.
        absolute: Take the absolute difference.
        flip: Take the other one of the two clusters.
        skip_broken: Leave out photos that are unreadable or have no highlight, and name them.
    """
    check_writable(out, "--out", folder=True)
    later, earlier = rounds
    if later <= earlier:
        needed = "--rounds takes the later round, then the earlier one"
        raise InputError(f"{needed}, not {later} {earlier}.")

    from tqdm.auto import tqdm

    from rsrl_lib.highlight import conv1_of, stacked
    from rsrl_lib.runs import open_run

    with reading(run, *RUN):
        opened = open_run(run)
        pair = stacked(conv1_of(opened, later), conv1_of(opened, earlier))
        shrink_to = opened.view["shrink_to"]
        side = opened.side
    _check_channel(channel, pair.out_channels // 2)  # of each of the two
    options = {"channel": channel, "shrink_to": shrink_to}
    options |= {"after_relu": after_relu, "absolute": absolute, "flip": flip}
    paths = _paths(photos, skip_broken)
    targets = _targets(paths, out, "highlights", ".png")
    written = 0
    with (out / "highlights.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, HIGHLIGHT_COLUMNS)
        table.writeheader()
        bar = tqdm(paths, "highlights", unit="photo")
        for path, target in zip(bar, targets, strict=True):
            try:
                facts = _draw_highlight(path, target, pair, side, options)
            except InputError as error:
                reason = str(error) if path in str(error) else f"{path}: {error}"
                if not skip_broken:
                    done = f"{written} photos before it are done"
                    remedy = "--skip-broken leaves such photos out"
                    raise InputError(f"{reason} ({done}; {remedy})") from error
                tqdm.write(f"left out: {reason}", file=sys.stderr)
                continue
            table.writerow({"photo": path} | facts)
            written += 1
    if not written:
        raise InputError(_nothing_left("highlight", len(paths)))
    shown = "original, later map, earlier map, difference and region"
    print(f"{written} photos: {shown} in {out}.")


def _check_channel(channel: int | None, count: int) -> None:
    """`InputError` where conv1 has not so many channels."""
    if channel is not None and not 0 <= channel < count:
        raise InputError(
            f"--channel is {channel}, conv1 of this network has {count} channels; "
            f"give one of 0..{count - 1}."
        )


def _draw_highlight(
    path: str, target: Path, pair: "nn.Conv2d", side: int, options: dict
) -> dict:
    """Write the pictures of a photo's highlight; returns the facts of it."""
    import numpy as np
    import torch
    from PIL import Image

    from rsrl_lib.highlight import highlights
    from rsrl_lib.pixels import square
    from rsrl_lib.plots import highlight_pictures
    from rsrl_lib.reading.pictures import open_rgb

    photo = open_rgb(path)
    crops = torch.from_numpy(square(photo, side)).permute(2, 0, 1)[None]
    highlight = highlights(pair, crops, **options)[0]
    facts = highlight.facts(photo.size)
    photo.thumbnail((480, 480))
    pictures = highlight_pictures(photo, highlight).values()
    Image.fromarray(np.hstack(list(pictures))).save(target, compress_level=1)
    return facts


def crop(
    run: Path,
    photos: Listed[tuple[Path, ...]],
    out: Path,
    map: Literal["aes", "att", "both"] = "aes",
    threshold: float = 0.3,
    iou: float = 0.3,
    attribute: str | None = None,
    aspect: str | None = None,
    least: int = 1,
    skip_broken: bool = False,
    cache: Path | None = None,
) -> None:
    """Crop photos to what the network of a run finds good in them (AWCU-2018), at full resolution.

    Example: rsrl crop --run runs/mine holiday/*.jpg --out crops --aspect 3:2

    Args:
        run: Folder of a run whose network ends in global average pooling (--head gap).
        photos: Photos, or folders of photos.
        out: Folder for the crops, and for crops.csv (boxes in pixels of the upright photos).
        map: Crop by the map of the high level (aes) or of an attribute (att); or by the mean of
            both boxes where they agree, else as aes (both).
        threshold: The region is where the map reaches this share of its maximum.
        iou: Intersection over union from which on the boxes agree, for --map both.
        attribute: Attribute of --map att and both; the likeliest of each photo when not given.
        aspect: Width:height of all crops; as the region is when not given.
        least: Shortest side of a crop, in pixels.
        skip_broken: Leave out unreadable photos, and name them.
        cache: Folder to keep the decoded photos in, for another time; else they are deleted.
    """
    check_writable(out, "--out", folder=True)
    if cache is not None:
        check_writable(cache, "--cache", folder=True)
    if least < 1:
        raise InputError(f"--least is a side in pixels, 1 or more, not {least}.")
    if attribute is not None and map == "aes":
        raise InputError(
            "--attribute goes with --map att or both; give one, or leave it out."
        )

    from tqdm.auto import tqdm

    from rsrl_lib.activation import activation_maps
    from rsrl_lib.cropping import aspect_ratio, check_shares

    check_shares(threshold=threshold, iou=iou)
    shape = {"aspect": aspect and aspect_ratio(aspect), "least": least}
    shape |= {"threshold": threshold, "iou": iou}
    network, look = _network_with_maps(run, map, attribute)
    paths = _paths(photos, skip_broken)
    targets = list(zip(paths, _targets(paths, out, "crops"), strict=True))
    written = 0
    with (
        _decoded(paths, "crop", skip_broken, cache, network.side) as (whole, views),
        (out / "crops.csv").open("w", newline="", encoding="utf-8") as file,
    ):
        table = csv.writer(file)
        table.writerow(CROP_COLUMNS)
        readable = set(whole)
        of_whole = [(path, target) for path, target in targets if path in readable]
        for row, (path, target) in enumerate(tqdm(of_whole, "crops", unit="photo")):
            try:
                view = views.crops([row], view="whole")
                maps = activation_maps(network, view, **look)[0]
                line = _crop_one(path, target, maps, map, shape)
            except InputError as error:
                if not skip_broken:
                    raise
                tqdm.write(f"left out: {error}", file=sys.stderr)
                continue
            table.writerow(line)
            written += 1
    if not written:
        raise InputError(_nothing_left("crop", len(paths)))
    print(f"{written} photos are cropped in {out}; crops.csv has the boxes.")


def _network_with_maps(
    run: Path, which: str, attribute: str | None
) -> tuple["AestheticNet", dict[str, object]]:
    """A run's chosen network, whose maps can be drawn, and how `activation_maps` is to look.

    `InputError` where it lacks the attribute, or any, that cropping by the map `which` needs.
    """
    from rsrl_lib.activation import check_attributes, check_maps
    from rsrl_lib.runs import open_run

    with reading(run, *RUN):
        network, shrink_to = open_run(run).network(), open_run(run).view["shrink_to"]
        if "high" not in network.levels:
            list(map(int, network.levels))  # then they are scores
    check_maps(network, shrink_to=shrink_to)
    if which != "aes" and not network.attributes:
        raise InputError(
            f"--map {which} needs a network with attributes, {run} has none; take --map aes."
        )
    among = [] if attribute is None else [attribute]
    check_attributes(network, among)
    return network, {"shrink_to": shrink_to, "among": among}


def _crop_one(
    path: str, target: Path, maps: "ActivationMaps", which: str, shape: dict
) -> list:
    """Write a photo's crop by its maps; returns its line of the table."""
    from rsrl_lib.cropping import agreement, crop_box, maps_to_crop_by, save_crop
    from rsrl_lib.reading.pictures import open_rgb

    chosen, att = maps_to_crop_by(maps, which)
    box, reason = crop_box(chosen, open_rgb(path).size, att=att, **shape)
    save_crop(path, box, target)
    left, top, right, foot = box

    attribute = "" if which == "aes" else next(iter(maps.attributes))
    iou = ""
    if att is not None:
        found = agreement(chosen, att, threshold=shape["threshold"])
        iou = "" if math.isnan(found) else f"{found:.4f}"
    line = [path, left, top, right - left, foot - top, reason]
    return [*line, attribute, iou]


def draw(out: Path, count: int = 1000, seed: int = 0) -> None:
    """Draw glass-box photos: pictures, scores, votes and masks whose truth is known.

    Example: rsrl glassbox --out my_glassbox --count 500 --seed 1

    Args:
        out: New folder for them; photos.csv in it lists them.
        count: Photos.
        seed: The same seed draws the same photos.
    """
    check_writable(out, "--out", folder=True)

    from rsrl_lib.drawing import glassbox

    started = time.monotonic()
    table = glassbox.write(out, count, seed=seed)
    print(f"{count} photos are listed in {table} ({time.monotonic() - started:.0f} s).")


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


def run_sweep(
    grid: tyro.conf.Positional[Path],
    out: Path,
    jobs: int | None = None,
    cluster: str = "",
    cache: Path = CACHE,
) -> None:
    """Train a grid of arms, folds and seeds; the same command goes on with an unfinished one.

    Example: rsrl sweep oasis.toml --out sweeps/oasis.csv --jobs 2

    Args:
        grid: TOML file of the grid; rsrl_lib/comparing/grids.py says what stands in it.
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

    Example: rsrl app --run runs/mine --photos my_photos --scores my_photos/scores.csv

    Args:
        run: Folder of a run; the demo's when not given, made first where there is none.
        gap_run: Folder of another run, for crops.
        photos: Folder of the photos of the runs; the embedded ones when not given.
        scores: CSV with a row per photo (source 'folder').
        source: A folder with a CSV, or a public set as published.
        options: More for the reader of the photos, such as '{score_column: rating}'.
        port: Where the page is: http://127.0.0.1:PORT.
        no_browser: Open no browser on it.
    """
    from rsrl_lib.interface import app

    own = {"photos": photos, "scores": scores, "source": source, "options": options}
    app.serve(run, gap_run, **own, port=port, browser=not no_browser)


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


COMMANDS = {
    "train": train,
    "papers": show_papers,
    "assess": assess,
    "highlight": highlight,
    "crop": crop,
    "glassbox": draw,
    "fetch": fetch,
    "sweep": run_sweep,
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


def _paths(photos: tuple[Path, ...], skip_broken: bool) -> list[str]:
    """Files, and the pictures of folders; with `skip_broken` also names of no file."""
    from rsrl_lib.reading.pictures import read_unscored

    absent = [str(path) for path in photos if not path.is_dir() and size_of(path) < 0]
    if absent and not skip_broken:
        more = f" (nor {', '.join(absent[1:3])}{' …' if len(absent) > 3 else ''})"
        found = f"There is no photo {absent[0]}{more if absent[1:] else ''}"
        raise InputError(
            f"{found}; correct the name, or leave it out by --skip-broken."
        )
    found = [read_unscored(p).path if p.is_dir() else [str(p)] for p in photos]
    if not (paths := [path for some in found for path in some]):
        raise InputError("At least one photo is needed; give files or folders.")
    with reading(
        f"One of {len(paths)} names of photos", "path in UTF-8", "rename that photo"
    ):
        "".join(str(Path(path).resolve()) for path in paths).encode()
    return paths


def _refuse(options: list[str], source: str) -> NoReturn:
    raise InputError(
        f"A public set is read as published, found is {', '.join(options)} with "
        f"--source {source}; leave it out."
    )


def _check_table(path: Path) -> None:
    """`InputError` where a table cannot be written, or would be written over a photo."""
    from rsrl_lib.reading.pictures import PICTURES

    if path.suffix.lower() in PICTURES:  # --csv *.jpg names the first photo
        found = f"--csv {path} is the name of a picture"
        raise InputError(
            f"{found}; give one for the table, such as assessed.csv, then the photos."
        )
    check_writable(path, "--csv")


@contextmanager
def _decoded(
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
            raise InputError(_nothing_left(work, len(paths)))
        yield whole, decoded


def _nothing_left(work: str, count: int) -> str:
    photos = "the only photo" if count == 1 else f"all {count} photos"
    return f"There is nothing to {work}: {photos} had to be left out, for the reasons above."


def _targets(paths: list[str], out: Path, table: str, ending: str = "") -> list[Path]:
    """Files to write for the photos, named like them, numbered where two names are the same.

    Raises `InputError` where one of them is a photo; what else is there is removed, since what is
    written over a link lands in another folder.
    """
    names = [Path(path).stem for path in paths]
    if len({*names, table}) <= len(names):
        names = [f"{number:05d}_{name}" for number, name in enumerate(names, 1)]
    pairs = zip(names, paths, strict=True)
    targets = [out / (name + (ending or Path(path).suffix)) for name, path in pairs]
    if {t.resolve() for t in targets} & {Path(path).resolve() for path in paths}:
        raise InputError(
            f"{out} holds photos that {table} would overwrite; give another folder."
        )
    out.mkdir(parents=True, exist_ok=True)
    for target in (*targets, out / f"{table}.csv"):
        target.unlink(missing_ok=True)
    return targets
