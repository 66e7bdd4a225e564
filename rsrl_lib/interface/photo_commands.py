"""The commands that a run's networks answer for photos: scores, highlight regions, crops."""

import csv
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from rsrl_lib.files import InputError, check_writable, reading, some_photos
from rsrl_lib.interface.given import (
    RUN,
    check_table,
    decoded_photos,
    nothing_left,
    photos_of,
    targets_of,
    targets_of_whole,
    write_table,
)
from rsrl_lib.recipe import MOST_BITS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from torch import nn

    from rsrl_lib.activation import ActivationMaps
    from rsrl_lib.network import AestheticNet
    from rsrl_lib.runs import Judges

Listed = tyro.conf.Positional
OF_LEVELS = ("share_", "likelihood_")
"""How columns begin that every level has."""
HIGHLIGHT_COLUMNS = ["photo", "J", "correlation", "area_share"]
HIGHLIGHT_COLUMNS += ["left", "top", "width", "height"]
HIGHLIGHT_FILES = ("{stem}.png", "masks/{stem}.png", "contours/{stem}.png")
MOST_PIXELS = 1600
"""Of the longer side of a photo that a contour is drawn over."""
CROP_COLUMNS = ["photo", "left", "top", "width", "height", "reason", "attribute", "iou"]


def assess(
    run: tyro.conf.UseAppendAction[tuple[Path, ...]],
    photos: Listed[tuple[Path, ...]],
    out: Annotated[Path | None, tyro.conf.arg(aliases=["--csv"])] = None,
    sort: Literal["rank", "expected", "score", "spread", "photo", "group"]
    | None = None,
    top: int | None = None,
    near_duplicates: int | None = None,
    skip_broken: bool = False,
    cache: Path | None = None,
) -> None:
    """Assign scores to photos with the chosen network of a run, or of several together, and rank
    them.

    Example: rsrl assess --run runs/mine holiday --out holiday.csv --sort rank

    Ten, one of each burst: rsrl assess --run runs/mine holiday --top 10 --near-duplicates 6

    Three runs: rsrl assess --run runs/a --run runs/b --run runs/c holiday/*.jpg

    Args:
        run: Folder of a run; of several, each given by its own --run, the answers are averaged.
        photos: Photos, or folders of photos.
        out: Write the whole table here, as its name ends: .csv, or .jsonl for a line of JSON each.
        sort: Order of the rows: the best first (rank, expected), the highest score or the widest
            spread first, by name, or the groups of near-duplicates together; as given without it.
        top: Only so many photos, those of the best rank; of near-duplicates the best one alone.
        near_duplicates: Bits of 64 in which photos may differ that are near-duplicates, such as 6;
            the table then has their groups, and which photo is the best of its group.
        skip_broken: Leave out unreadable photos, and name them.
        cache: Folder to keep the decoded photos in, for another time; else they are deleted.
    """
    if out is not None:
        check_table(out)
    if cache is not None:
        check_writable(cache, "--cache", folder=True)
    _check_choice(sort, top, near_duplicates)

    from rsrl_lib import choosing

    judges, of_training = _judges_of_one_scale(run)
    scores = judges[0].chosen.scores
    _check_sort(sort, judges[0].chosen.levels)
    whole, _ = photos_of(photos, skip_broken)
    answers, groups = [], None
    for side in {judge.chosen.side: None for judge in judges}:
        work = decoded_photos(whole, "assess", skip_broken, cache, side)
        with work as (whole, decoded):
            for judge, own in zip(judges, of_training, strict=True):
                if judge.chosen.side == side:
                    answers.append(choosing.answers_of(judge, decoded, own))
            if near_duplicates is not None and groups is None:
                groups = choosing.groups_of(decoded, near_duplicates)
    together = choosing.mean_of(answers)
    rows = choosing.table_of(whole, together, scores=scores, groups=groups)
    sentences = _how_to_read(rows, in_file=out is not None)
    if top is not None:
        rows = choosing.best(rows, top)
    if sort is not None:
        rows = choosing.sorted_by(rows, sort)
    if out is None:
        _print_rows(rows)
    else:
        write_table(rows, out)
        if len(rows) < len(whole):
            said = f"Of {some_photos(len(whole))} the {len(rows)} best stand in {out}."
        else:
            said = f"{some_photos(len(rows), 'is', 'are')} assessed in {out}."
        print(said)
    print(*sentences, sep="\n")


def _check_choice(
    sort: str | None, top: int | None, near_duplicates: int | None
) -> None:
    """`InputError` for options of a choice that cannot be."""
    if top is not None and top < 1:
        raise InputError(f"--top is a number of photos, 1 or more, not {top}.")
    if near_duplicates is not None and not 0 <= near_duplicates <= MOST_BITS:
        raise InputError(
            f"--near-duplicates must lie in 0..{MOST_BITS}, not {near_duplicates}: of photos that "
            "have nothing in common about half of the 64 bits differ; 6 finds bursts and copies."
        )
    if sort == "group" and near_duplicates is None:
        raise InputError(
            "--sort group needs groups; add --near-duplicates 6, or sort by rank."
        )


def _check_sort(sort: str | None, levels: list[str]) -> None:
    """`InputError` where a network of two levels is to sort by what scores alone have."""
    if sort in ("expected", "score", "spread") and "high" in levels:
        raise InputError(
            f"--sort {sort} needs scores, this run has the levels {', '.join(levels)}; sort by "
            "rank, which is by the share of the high level."
        )


def _print_rows(rows: "pd.DataFrame") -> None:
    """Print what tells photos apart; shares and likelihoods of every score would not fit."""
    shown = [name for name in rows if not name.startswith(OF_LEVELS)]
    as_text = rows[shown].copy()
    as_text["percentile"] = as_text["percentile"].map("{:.1f}".format)
    print(as_text.to_string(index=False, float_format="{:.3f}".format))


def _how_to_read(rows: "pd.DataFrame", *, in_file: bool) -> list[str]:
    """What the columns mean that are not told by their names, in a sentence each."""
    sentences = []
    if "group" in rows:
        in_groups = rows["group"][rows["group"] > 0]
        count = in_groups.nunique()
        groups = "1 group" if count == 1 else f"{count} groups"
        sentences.append(
            f"{len(in_groups)} of {len(rows)} photos are near-duplicates, in {groups}; "
            "best_of_group marks the one to keep of each, and photos that are like no other."
        )
    if rows["percentile"].isna().any():
        sentences.append(
            "No percentiles: a run has not kept the expected scores of its training photos; train "
            "it anew for them."
        )
    else:
        sentences.append(
            "percentile: percent of the run's training photos that rank below the photo."
        )
    of_levels = "share_ columns add up to 1 (softmax)"
    if not in_file:
        of_levels = f"--out FILE.csv keeps more: {of_levels}"
    sentences.append(
        f"{of_levels}; likelihood_ columns are sigmoids, as in the papers, each level a question "
        "of its own, so they need not add up to 1."
    )
    return sentences


def _judges_of_one_scale(
    runs: tuple[Path, ...],
) -> tuple[list["Judges"], list["np.ndarray"]]:
    """Who judges for each run, and the expected scores of its training photos; `InputError` where
    the runs have other levels."""
    from rsrl_lib.choosing import expected_of_training
    from rsrl_lib.runs import open_run

    if not runs:
        raise InputError("--run is needed; give the folder of a run.")
    judges = []
    of_training = []
    scales = []
    for folder in runs:
        with reading(folder, *RUN):
            opened = open_run(folder)
            judges.append(opened.judges())
            of_training.append(expected_of_training(opened))
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
    return judges, of_training


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
    """Show in photos what two rounds of a run see differently: pictures of each photo, and a table.

    Example: rsrl highlight --run runs/mine --rounds 6 5 holiday/*.jpg --out highlights

    Args:
        run: Folder of a run.
        rounds: The later and the earlier round.
        photos: Photos, or folders of photos.
        out: Folder for the pictures, under the photos' names and in sub-folders as the photos are;
            for masks (as large as the photo, the region white) in masks/, for contours in
            contours/, and for highlights.csv, whose box is that of the region's largest part, in
            pixels of the photo.
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
    paths, names = photos_of(photos, skip_broken)
    targets = targets_of(paths, names, out, "highlights", HIGHLIGHT_FILES)
    written = 0
    with (out / "highlights.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, HIGHLIGHT_COLUMNS)
        table.writeheader()
        bar = tqdm(paths, "highlights", unit="photo")
        for path, own_targets in zip(bar, targets, strict=True):
            try:
                facts = _draw_highlight(path, own_targets, pair, side, options)
            except InputError as error:
                reason = str(error) if path in str(error) else f"{path}: {error}"
                if not skip_broken:
                    done = f"{some_photos(written, 'is', 'are')} done before it"
                    remedy = "--skip-broken leaves such photos out"
                    raise InputError(f"{reason} ({done}; {remedy})") from error
                tqdm.write(f"left out: {reason}", file=sys.stderr)
                continue
            table.writerow({"photo": path} | facts)
            written += 1
    if not written:
        raise InputError(nothing_left("highlight", len(paths)))
    shown = "original, later map, earlier map, difference and region"
    print(f"{some_photos(written)}: {shown} in {out}; beside them masks and contours.")


def _check_channel(channel: int | None, count: int) -> None:
    """`InputError` where conv1 has not so many channels."""
    if channel is not None and not 0 <= channel < count:
        raise InputError(
            f"--channel is {channel}, conv1 of this network has {count} channels; "
            f"give one of 0..{count - 1}."
        )


def _draw_highlight(
    path: str, targets: list[Path], pair: "nn.Conv2d", side: int, options: dict
) -> dict:
    """Write the pictures of a photo's highlight, its mask and its contour; returns the facts."""
    import numpy as np
    import torch
    from PIL import Image

    from rsrl_lib.highlight import highlights
    from rsrl_lib.pixels import square
    from rsrl_lib.plots import contoured, highlight_pictures
    from rsrl_lib.reading.pictures import open_rgb

    photo = open_rgb(path)
    crops = torch.from_numpy(square(photo, side)).permute(2, 0, 1)[None]
    highlight = highlights(pair, crops, **options)[0]
    facts = highlight.facts(photo.size)
    pictures_to, mask_to, contour_to = targets
    mask = np.where(highlight.mask(photo.size), 255, 0).astype(np.uint8)
    Image.fromarray(mask).save(mask_to)
    photo.thumbnail((MOST_PIXELS, MOST_PIXELS))
    mask_of_shown = Image.fromarray(highlight.mask(photo.size))
    contoured(photo, mask_of_shown).save(contour_to, compress_level=1)
    photo.thumbnail((480, 480))
    pictures = highlight_pictures(photo, highlight).values()
    Image.fromarray(np.hstack(list(pictures))).save(pictures_to, compress_level=1)
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
        out: Folder for the crops, in sub-folders as the photos are, and for crops.csv (boxes in
            pixels of the upright photos).
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
    _check_crop(map, attribute, least)

    from tqdm.auto import tqdm

    from rsrl_lib.activation import activation_maps
    from rsrl_lib.cropping import aspect_ratio, check_shares

    check_shares(threshold=threshold, iou=iou)
    shape = {"aspect": aspect and aspect_ratio(aspect), "least": least}
    shape |= {"threshold": threshold, "iou": iou}
    network, look = _network_with_maps(run, map, attribute)
    paths, names = photos_of(photos, skip_broken)
    targets = targets_of(paths, names, out, "crops")
    written = 0
    work = decoded_photos(paths, "crop", skip_broken, cache, network.side)
    listed = out / "crops.csv"
    with work as (whole, views), listed.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(CROP_COLUMNS)
        of_whole = targets_of_whole(paths, targets, whole)
        bar = tqdm(zip(whole, of_whole, strict=True), "crops", len(whole), unit="photo")
        for row, (path, (target,)) in enumerate(bar):
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
        raise InputError(nothing_left("crop", len(paths)))
    print(
        f"{some_photos(written, 'is', 'are')} cropped in {out}; crops.csv has the boxes."
    )


def _check_crop(which: str, attribute: str | None, least: int) -> None:
    """`InputError` for options of a crop that contradict each other."""
    if least < 1:
        raise InputError(f"--least is a side in pixels, 1 or more, not {least}.")
    if attribute is not None and which == "aes":
        raise InputError(
            "--attribute goes with --map att or both; give one, or leave it out."
        )


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
