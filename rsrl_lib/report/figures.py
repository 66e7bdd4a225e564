"""The figures of a page: small panels that a phone can show one below the other, as SVG.

A score has its colour as in all figures here. Each panel stands on white, whatever colour the page
has. Letters are outlines, so that they look the same wherever the page is opened.
"""

import io
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from rsrl_lib.photos import PARTS
from rsrl_lib.plots import DARK, PART_COLOURS, PART_DASHES, intervals, score_colours

SETTINGS = {
    "svg.fonttype": "path",
    "svg.hashsalt": "rsrl",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
}
SIZE = (4.4, 3.0)
"""Of a panel, in inches."""
MANY = 6
"""Rows of a panel from which on it is a wide one."""
SHADES = {"train": 1.0, "validation": 0.6, "test": 0.3}
IN_WORDS = {"train": "training", "validation": "validation", "test": "test"}
Names = Mapping[int, str]


@dataclass(frozen=True)
class Picture:
    """A figure or a photo on a page."""

    source: str
    """A data URI."""
    alt: str
    """What it shows, for who cannot see it."""
    caption: str = ""


def drawn(draw: Callable[..., Axes | Figure], *given, alt: str, **how) -> Picture:
    """A panel as a picture."""
    with plt.rc_context(SETTINGS):
        made = draw(*given, **how)
        figure = made if isinstance(made, Figure) else made.figure
        out = io.BytesIO()
        figure.savefig(out, format="svg", bbox_inches="tight", metadata={"Date": None})
        plt.close(figure)
    code = b64encode(out.getvalue()).decode()
    return Picture(f"data:image/svg+xml;base64,{code}", alt)


def class_counts(split: pd.DataFrame, names: Names) -> Axes:
    """Photos of each score, and how many of them train, validate and test."""
    counts = pd.crosstab(split.label, split.part).reindex(columns=PARTS, fill_value=0)
    _, ax = plt.subplots(figsize=SIZE)
    colours = score_colours(counts.index)
    places = range(len(counts))
    bottom = np.zeros(len(counts))
    for part in PARTS:
        heights = counts[part].to_numpy()
        shades = [(*colours[score][:3], SHADES[part]) for score in counts.index]
        bars = ax.bar(places, heights, 0.8, bottom, color=shades, edgecolor="0.3")
        bottom += heights
    ax.bar_label(bars, bottom.astype(int), padding=2, fontsize=9)
    ax.set_xticks(places, [names[score] for score in counts.index])
    ax.set(xlabel="score", ylabel="photos", title="Photos of each score")
    ax.margins(y=0.14)
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    there = [part for part in PARTS if counts[part].any()]
    shown = [Patch(facecolor=(0.2, 0.2, 0.2, SHADES[part])) for part in there]
    ax.legend(shown, [IN_WORDS[p] for p in there], fontsize=8, frameon=False)
    sns.despine(ax=ax)
    return ax


def over_rounds(rounds: pd.DataFrame, measure: str, title: str) -> Axes:
    """A measure of every round on all parts; the chosen round is marked, and in accuracy the
    majority class of the part that is shown last."""
    _, ax = plt.subplots(figsize=SIZE)
    numbers = rounds["round"]
    parts = [part for part in PARTS if rounds[f"{part}_accuracy"].notna().any()]
    for part in parts:
        ax.plot(
            numbers,
            rounds[f"{part}_{measure}"],
            color=PART_COLOURS[part],
            dashes=PART_DASHES[part] or (None, None),
            marker="o",
            ms=4,
            label=IN_WORDS[part],
        )
    if measure == "accuracy":
        level = rounds[f"{parts[-1]}_majority_accuracy"].iloc[0]
        ax.axhline(level, color="0.25", lw=1, ls=":", label="commonest score")
    chosen = numbers[rounds.chosen].item()
    ax.axvline(chosen, color="0.87", lw=9, zorder=0)
    ax.set_xlabel("round (grey: chosen)")
    ax.set_title(title)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    low, high = ax.get_ylim()
    ax.set_ylim(low, high + 0.4 * (high - low))  # room for the legend
    ax.legend(fontsize=8, frameon=False, loc="upper left", ncols=2)
    sns.despine(ax=ax)
    return ax


def confusion(
    counts: np.ndarray, scores: Sequence[int], names: Names, title: str
) -> Axes:
    """Photos by their score (rows) and the score that they got: counts, coloured by their share of
    the row."""
    photos = counts.sum(1, keepdims=True)
    shares = np.divide(counts, photos, out=np.zeros(counts.shape), where=photos > 0)
    size = max(3.4, 0.42 * len(scores) + 1)
    _, ax = plt.subplots(figsize=(size, size))
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(counts.shape):
        count = int(counts[row, column])
        is_dark = shares[row, column] > 0.55
        ink = "w" if is_dark else ("0.1" if count else "0.6")
        ax.text(column, row, count, ha="center", va="center", color=ink, fontsize=9)
    labels = [names[score] for score in scores]
    ax.set_xticks(range(len(scores)), labels)
    ax.set_yticks(range(len(scores)), labels)
    ax.set(xlabel="score it got", ylabel="score of the photo", title=title)
    ax.spines[:].set_visible(False)
    return ax


def training_sets(sizes: pd.DataFrame, names: Names) -> Axes:
    """Photos that each round (rows) learned from, by score (columns)."""
    _, ax = plt.subplots(figsize=SIZE)
    colours = score_colours(sizes.columns)
    bottom = np.zeros(len(sizes))
    for score, heights in sizes.items():
        ax.bar(
            sizes.index,
            heights,
            0.8,
            bottom,
            color=colours[score],
            label=names[score],
        )
        bottom += heights.to_numpy()
    ax.set(xlabel="round", ylabel="training photos")
    ax.set_title("What each round learned from")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles, labels = ax.get_legend_handles_labels()
    ax.legend(
        handles[::-1],
        labels[::-1],
        title="score",
        fontsize=8,
        frameon=False,
        bbox_to_anchor=(1, 1),
    )
    sns.despine(ax=ax)
    return ax


def differences(table: pd.DataFrame, title: str) -> Axes:
    """Differences with their intervals, a row each; the index names them, `mean`, `low` and `high`
    are drawn."""
    size, letters = (SIZE[0] - 1, 0.6 * len(table) + 1), 20
    if len(table) > MANY:
        size, letters = (4.2, 0.36 * len(table) + 1), 46
    _, ax = plt.subplots(figsize=size)
    named = table.set_axis([fill(name, letters) for name in table.index])
    intervals(ax, named, colour=DARK)
    ax.set_title(title)
    ax.set_xlabel("difference (right of 0 is better)")
    ax.locator_params(axis="x", nbins=6)
    return ax


def two_curves(tables: Mapping[str, pd.Series], title: str) -> Axes:
    """A measure of two runs over their rounds."""
    _, ax = plt.subplots(figsize=SIZE)
    for (name, values), colour in zip(
        tables.items(), ("#1b3a6b", "#b5541c"), strict=True
    ):
        ax.plot(values.index, values, color=colour, marker="o", ms=4, label=name)
    ax.set_xlabel("round")
    ax.set_title(title)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    low, high = ax.get_ylim()
    ax.set_ylim(low, high + 0.3 * (high - low))
    ax.legend(fontsize=8, frameon=False, loc="upper left")
    sns.despine(ax=ax)
    return ax
