"""Figures of the papers, drawn from the tidy tables of a run.

A score class has the same colour everywhere: its place on viridis, which is ordered in grey and to
the colour-blind. Figures of a single chapter stand there.
"""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

from rsrl_lib.activation import at_size
from rsrl_lib.files import replacing
from rsrl_lib.highlight import Highlight
from rsrl_lib.pictures import open_rgb

IN_COLOUR = "in colour: the region; grey, hatched: the rest"
REST, HATCH, OUTLINE = ((110, 110, 110), (190, 190, 190)), (40, 60, 190), (255, 170, 0)


def score_colours(scores: Sequence[int]) -> dict[int, tuple]:
    """Colour of each score, dark for low and light for high; the same in every figure."""
    return {s: plt.cm.viridis(np.clip((s - 1) / 8.5, 0, 1)) for s in scores}


def save(figure: Figure, folder: str | Path, name: str) -> Figure:
    """Keep a figure as PNG where a folder is given, and hand it back for display."""
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with replacing(Path(folder) / f"{name}.png") as partial:
            figure.savefig(partial, format="png", dpi=150, bbox_inches="tight")
    plt.close(figure)
    return figure


def contact_sheet(rows: dict[str, pd.DataFrame], title: str, *, columns: int = 8) -> Figure:
    """Thumbnails in named rows; each table has a `path`, and a `caption` where one is wanted."""
    figure, axes = plt.subplots(
        len(rows), columns, figsize=(columns * 1.55, len(rows) * 1.4 + 0.5), squeeze=False
    )
    for ax in axes.flat:
        ax.axis("off")
    for row, (name, photos) in zip(axes, rows.items(), strict=True):
        row[0].text(-0.12, 0.5, name, transform=row[0].transAxes, ha="right", va="center")
        for ax, photo in zip(row, photos.itertuples(), strict=False):
            picture = open_rgb(photo.path)
            picture.thumbnail((220, 220), Image.Resampling.LANCZOS)
            ax.imshow(picture)
            if "caption" in photos:
                ax.text(
                    *(0.5, -0.03, photo.caption),
                    transform=ax.transAxes,
                    fontsize=8,
                    ha="center",
                    va="top",
                )
    figure.suptitle(title)
    figure.tight_layout(h_pad=0.4, w_pad=0.4)
    return figure


def likelihoods_by_class(sample: pd.DataFrame, thresholds: dict[int, float], title: str) -> Axes:
    """Likelihood of the own class of every photo, by score, with K where a class has one."""
    ax = plt.subplots(figsize=(7.5, 4))[1]
    colours = score_colours(sorted(sample.label.unique()))
    order = sorted(colours)
    sns.stripplot(
        sample,
        x="label",
        y="own_likelihood",
        order=order,
        hue="label",
        palette=colours,
        size=3.2,
        jitter=0.32,
        linewidth=0.3,
        edgecolor="0.4",
        legend=False,
        ax=ax,
    )
    for score, k in thresholds.items():
        at = order.index(score)
        ax.hlines(k, at - 0.45, at + 0.45, color="crimson", lw=2)
    for k in set(thresholds.values()):
        ax.text(len(order) - 0.45, k, f"K = {k:.2g}", color="crimson", fontsize=9, va="center")
    ax.set(xlabel="score of the photo", ylabel="likelihood of that score", title=title)
    ax.set_ylim(-0.03, 1.03)
    sns.despine(ax=ax)
    return ax


def highlight_pictures(
    photo: Image.Image, highlight: Highlight, *, opacity: float = 1
) -> dict[str, Image.Image]:
    """Original, both maps of J, their difference and the region over the photo, all of its size.

    The two maps share one grey scale; the difference is orange above zero and purple below, on a
    scale that is symmetric about zero. How the region is shown, and `opacity`: see `outlined`.
    """
    low, high = np.percentile([highlight.later, highlight.earlier], (0.5, 99.5))
    reach = max(np.percentile(np.abs(highlight.diff), 99.5), 1e-12)
    maps = {
        "later map": plt.cm.gray(plt.Normalize(low, high)(highlight.later)),
        "earlier map": plt.cm.gray(plt.Normalize(low, high)(highlight.earlier)),
        "difference": plt.cm.PuOr_r(plt.Normalize(-reach, reach)(highlight.diff)),
    }
    maps = {
        name: Image.fromarray((colours[..., :3] * 255).astype(np.uint8)).resize(photo.size)
        for name, colours in maps.items()
    }
    mask = Image.fromarray(highlight.mask(photo.size))
    return {"photo": photo} | maps | {"region": outlined(photo, mask, opacity=opacity)}


def outlined(photo: Image.Image, mask: Image.Image, *, opacity: float = 1) -> Image.Image:
    """A photo with a region: as it is inside `mask`, of its size; grey and hatched outside.

    The rest keeps clear of white and black, so that a region can be told on photos that are white,
    black or grey themselves. It is greyed by `opacity` (0 to 1); the hatching always stays.
    """
    mask = mask.convert("L")
    grey = ImageOps.colorize(ImageOps.grayscale(photo), *REST)
    rest = Image.blend(photo, grey, opacity)
    rest.paste(HATCH, mask=_hatching(photo.size))
    shown = Image.composite(photo, rest, mask)
    edge = ImageChops.difference(mask, mask.filter(ImageFilter.MinFilter(5)))
    shown.paste(OUTLINE, mask=edge)
    return shown


def _hatching(size: tuple[int, int]) -> Image.Image:
    """Diagonal lines on a picture of `size` (width, height), about 22 along its shorter side."""
    step = max(6, min(size) // 22)
    across, down = np.arange(size[0]), np.arange(size[1])
    return Image.fromarray((down[:, None] + across) % step < max(2, step // 6))


def activation_picture(photo: Image.Image, values: np.ndarray, reach: float) -> Image.Image:
    """An activation map (S, S) over the photo in grey: orange above zero, purple below.

    Colours are full at `reach`; maps whose sums are compared need the same.
    """
    colours = plt.cm.PuOr_r(plt.Normalize(-reach, reach)(at_size(values, photo.size)))
    colours = Image.fromarray((colours[..., :3] * 255).astype(np.uint8))
    return Image.blend(ImageOps.grayscale(photo).convert("RGB"), colours, 0.6)


def framed(photo: Image.Image, box: Sequence[float], region: np.ndarray | None) -> Image.Image:
    """A photo with a crop's frame, in pixels of the photo, and its region as by `outlined`."""
    if region is not None:
        photo = outlined(photo, Image.fromarray(region).resize(photo.size))
    photo = photo.copy()
    left, top, right, foot = box
    corners = (left, top, right - 1, foot - 1)
    pen, width = ImageDraw.Draw(photo), max(2, min(photo.size) // 90)
    pen.rectangle(corners, outline="black", width=width + 2)
    pen.rectangle(corners, outline="white", width=width)
    return photo


def picture_rows(rows: dict[str, dict[str, Image.Image]], title: str) -> Figure:
    """Named rows of captioned pictures; a row with the captions of the first one has none."""
    columns = max(map(len, rows.values()))
    figure, axes = plt.subplots(
        len(rows), columns, figsize=(2.5 * columns, 2.1 * len(rows) + 0.4), squeeze=False
    )
    for ax in axes.flat:
        ax.axis("off")
    first = list(next(iter(rows.values())))
    for number, (line, (name, pictures)) in enumerate(zip(axes, rows.items(), strict=True)):
        line[0].text(-0.06, 0.5, name, transform=line[0].transAxes, ha="right", va="center")
        repeated = number > 0 and list(pictures) == first
        for ax, (caption, picture) in zip(line, pictures.items(), strict=False):
            ax.imshow(picture)
            ax.set_title("" if repeated else caption, fontsize=9, pad=3)
    figure.suptitle(title)
    figure.tight_layout(h_pad=0.5, w_pad=0.4)
    return figure
