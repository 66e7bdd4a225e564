"""The command that writes activation maps of photos: pictures, arrays and a table."""

import csv
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from rsrl_lib.files import InputError, check_writable, reading, some_photos
from rsrl_lib.interface.given import (
    RUN,
    decoded_photos,
    nothing_left,
    photos_of,
    targets_of,
    targets_of_whole,
)

if TYPE_CHECKING:
    import numpy as np

    from rsrl_lib.network import AestheticNet
    from rsrl_lib.pixels import Pixels

Listed = tyro.conf.Positional
Kind = Literal["aesam", "attam", "gradcam"]
MAP_COLUMNS = ["photo", "of", "rows", "columns", "lowest", "highest", "mean"]
MAP_COLUMNS += ["picture", "array"]
CALLED = {"aesam": "AesAM", "attam": "AttAM", "gradcam": "Grad-CAM"}
AT_ONCE = 16
"""Photos whose maps are made at once."""


def maps(
    run: Path,
    photos: Listed[tuple[Path, ...]],
    out: Path,
    kind: Kind = "aesam",
    of: str | None = None,
    backbone: str | None = None,
    skip_broken: bool = False,
    cache: Path | None = None,
) -> None:
    """Write where in photos the network of a run sees a level or an attribute (AWCU-2018).

    Example: rsrl maps --run runs/gap holiday --out maps

    A network without global average pooling: rsrl maps --run runs/mine holiday --out maps --kind
    gradcam

    Args:
        run: Folder of a run.
        photos: Photos, or folders of photos.
        out: Folder for what is written of each photo, in sub-folders as the photos are:
            NAME_KIND.png, the map over the photo, its colours on one scale for all photos; and
            NAME_KIND.npy, the map's numbers (rows, columns) on the network's own grid, float32.
            maps_KIND.csv lists them.
        kind: aesam: of a level; attam: of an attribute that the network has learned; both need
            global average pooling (--head gap). gradcam: of a level, for torchvision's networks.
        of: Level or attribute. If not given, what raises the score (high), or each photo's
            likeliest attribute.
        backbone: Of several backbones that the run has joined, the one whose part of the map is
            written (aesam, attam); the parts of all add up to the map.
        skip_broken: Leave out unreadable photos, and name them.
        cache: Folder to keep the decoded photos in, for another time; else they are deleted.
    """
    check_writable(out, "--out", folder=True)
    if cache is not None:
        check_writable(cache, "--cache", folder=True)

    from rsrl_lib.runs import open_run

    with reading(run, *RUN):
        opened = open_run(run)
        network = opened.network()
        shrink_to = opened.view["shrink_to"]
        if "high" not in network.levels:
            list(map(int, network.levels))  # then they are scores
    of = _check_kind(network, run, kind, of, backbone, shrink_to)
    paths, names = photos_of(photos, skip_broken)
    files = (f"{{stem}}_{kind}.png", f"{{stem}}_{kind}.npy")
    targets = targets_of(paths, names, out, f"maps_{kind}", files)
    work = decoded_photos(paths, "map", skip_broken, cache, network.side)
    with work as (whole, views):
        found = _maps_of(network, views, kind, of, backbone, shrink_to)
        if backbone is not None:
            found = [(f"{name} ({backbone})", values) for name, values in found]
    of_whole = targets_of_whole(paths, targets, whole)
    written = _write_maps(whole, found, of_whole, out, kind, skip_broken)
    if not written:
        raise InputError(nothing_left("map", len(paths)))
    print(
        f"{some_photos(written)}: pictures and arrays of {CALLED[kind]} are in {out}; "
        f"maps_{kind}.csv lists them."
    )


def _check_kind(
    network: "AestheticNet",
    run: Path,
    kind: Kind,
    of: str | None,
    backbone: str | None,
    shrink_to: int | None,
) -> str:
    """What the maps are of, empty for each photo's likeliest attribute; `InputError` where the
    network has no such maps."""
    from rsrl_lib.activation import check_backbone, check_grad_cam, check_maps

    if kind == "gradcam":
        check_grad_cam(network)
        if backbone is not None:
            raise InputError(
                f"--backbone {backbone} is for --kind aesam and attam; leave it out, Grad-CAM is "
                "of one backbone."
            )
    else:
        check_backbone(network, backbone)
        check_maps(network, shrink_to=shrink_to)
    if kind == "attam":
        known = network.attributes
        if not known:
            raise InputError(
                f"--kind attam needs a network with attributes, {run} has none; take --kind aesam."
            )
        asked = of or ""
    else:
        known = list(dict.fromkeys(["high", *network.levels]))
        asked = of or "high"
    if asked and asked not in known:
        raise InputError(
            f"--of {asked} is no {'attribute' if kind == 'attam' else 'level'} of {run}; give one "
            f"of {', '.join(known)}."
        )
    return asked


def _maps_of(
    network: "AestheticNet",
    views: "Pixels",
    kind: Kind,
    of: str,
    backbone: str | None,
    shrink_to: int | None,
) -> list[tuple[str, "np.ndarray"]]:
    """What each photo's map is of, and the map (S, S)."""
    from tqdm.auto import tqdm

    from rsrl_lib.activation import activation_maps, grad_cam_maps

    found = []
    among = [of] if kind == "attam" and of else []
    look = {"shrink_to": shrink_to, "among": among, "backbone": backbone}
    for first in tqdm(range(0, len(views), AT_ONCE), "maps", unit=f"{AT_ONCE} photos"):
        rows = range(first, min(first + AT_ONCE, len(views)))
        crops = views.crops(rows, view="whole")
        if kind == "gradcam":
            of_photos = grad_cam_maps(network, crops, of, shrink_to=shrink_to)
            found += [(of, values) for values in of_photos]
            continue
        for maps in activation_maps(network, crops, **look):
            if kind == "attam":
                found.append(next(iter(maps.attributes.items())))
            else:
                found.append((of, maps.high if of == "high" else maps.levels[of]))
    return found


def _write_maps(
    photos: list[str],
    found: list[tuple[str, "np.ndarray"]],
    targets: list[list[Path]],
    out: Path,
    kind: Kind,
    skip_broken: bool,
) -> int:
    """Write all pictures, arrays and the table; returns of how many photos."""
    import numpy as np
    from tqdm.auto import tqdm

    # One scale for all, as the colours of two photos are compared.
    magnitudes = np.concatenate([np.abs(values).ravel() for _, values in found])
    reach = max(float(np.percentile(magnitudes, 99.5)), 1e-12)
    written = 0
    with (out / f"maps_{kind}.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(MAP_COLUMNS)
        each = zip(photos, found, targets, strict=True)
        bar = tqdm(each, "pictures", len(photos), unit="photo")
        for path, (of, values), (picture_to, array_to) in bar:
            try:
                _draw_map(path, values, reach, of, kind, picture_to)
            except InputError as error:
                if not skip_broken:
                    raise
                tqdm.write(f"left out: {error}", file=sys.stderr)
                continue
            np.save(array_to, values.astype(np.float32))
            numbers = [values.min(), values.max(), values.mean()]
            numbers = [f"{number:.5g}" for number in numbers]
            files = [target.relative_to(out) for target in (picture_to, array_to)]
            table.writerow([path, of, *values.shape, *numbers, *files])
            written += 1
    return written


def _draw_map(
    path: str, values: "np.ndarray", reach: float, of: str, kind: Kind, target: Path
) -> None:
    """Write a photo's map over it as a picture."""
    from rsrl_lib.plots import map_picture
    from rsrl_lib.reading.pictures import open_rgb

    title = f"{CALLED[kind]} of {of}: orange speaks for it"
    if kind != "gradcam":
        title += ", purple against it"
    picture = map_picture(
        open_rgb(path), values, reach, title, signed=kind != "gradcam"
    )
    picture.save(target, compress_level=1)
