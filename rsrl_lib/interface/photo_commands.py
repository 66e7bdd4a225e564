"""The commands that a run's networks answer for photos: scores, highlight regions, crops."""

import csv
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from rsrl_lib.files import InputError, check_writable, reading, writing
from rsrl_lib.interface.given import (
    RUN,
    check_table,
    decoded_photos,
    nothing_left,
    paths_of,
    targets_of,
)

if TYPE_CHECKING:
    from torch import nn

    from rsrl_lib.activation import ActivationMaps
    from rsrl_lib.network import AestheticNet
    from rsrl_lib.runs import Judges

Listed = tyro.conf.Positional
HIGHLIGHT_COLUMNS = ["photo", "J", "correlation", "area_share"]
HIGHLIGHT_COLUMNS += ["left", "top", "width", "height"]
CROP_COLUMNS = ["photo", "left", "top", "width", "height", "reason", "attribute", "iou"]


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
        check_table(csv)
    if cache is not None:
        check_writable(cache, "--cache", folder=True)

    import numpy as np
    import pandas as pd

    from rsrl_lib.deciding import moments
    from rsrl_lib.training import likelihoods

    judges = _judges_of_one_scale(run)
    whole = paths_of(photos, skip_broken)
    likelihoods_of, posteriors = [], []  # (photos, levels), of each run
    for side in {judge.chosen.side: None for judge in judges}:
        with decoded_photos(whole, "assess", skip_broken, cache, side) as (
            whole,
            decoded,
        ):
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

    Example: rsrl highlight --run runs/mine --rounds 6 5 holiday/*.jpg --out highlights

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
    paths = paths_of(photos, skip_broken)
    targets = targets_of(paths, out, "highlights", ".png")
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
        raise InputError(nothing_left("highlight", len(paths)))
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
    _check_crop(map, attribute, least)

    from tqdm.auto import tqdm

    from rsrl_lib.activation import activation_maps
    from rsrl_lib.cropping import aspect_ratio, check_shares

    check_shares(threshold=threshold, iou=iou)
    shape = {"aspect": aspect and aspect_ratio(aspect), "least": least}
    shape |= {"threshold": threshold, "iou": iou}
    network, look = _network_with_maps(run, map, attribute)
    paths = paths_of(photos, skip_broken)
    targets = list(zip(paths, targets_of(paths, out, "crops"), strict=True))
    written = 0
    with (
        decoded_photos(paths, "crop", skip_broken, cache, network.side) as (
            whole,
            views,
        ),
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
        raise InputError(nothing_left("crop", len(paths)))
    print(f"{written} photos are cropped in {out}; crops.csv has the boxes.")


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
