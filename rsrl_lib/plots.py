"""Figures of the papers, drawn from the tidy tables of a run.

A score class has the same colour everywhere: its place on viridis, which is ordered in grey and to
the colour-blind. Figures that nobody else draws or tests stand in their chapter.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

from rsrl_lib.files import replacing
from rsrl_lib.highlight import Highlight
from rsrl_lib.pixels import at_size
from rsrl_lib.reading.pictures import open_rgb

PART_DASHES = {"train": "", "validation": (1, 1), "test": (4, 2)}
PART_COLOURS = {"train": "#1b3a6b", "validation": "#7a7a7a", "test": "#b5541c"}
IN_COLOUR = "in colour: the region; grey, hatched: the rest"
REST = ((110, 110, 110), (190, 190, 190))
HATCH = (40, 60, 190)
OUTLINE = (255, 170, 0)
BLUE = "#35618f"
DARK = "#1b3a6b"
BAND = {"lw": 8, "alpha": 0.25}


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


def contact_sheet(
    rows: Sequence[tuple[str, pd.DataFrame]], title: str, *, columns: int = 8
) -> Figure:
    """Thumbnails in rows, pairs of a name and a table; two rows may have the same name.

    Each table has a `path`, and a `caption` where one is wanted.
    """
    size = (columns * 1.55, len(rows) * 1.4 + 0.5)
    figure, grid = _grid([name for name, _ in rows], columns, size, title)
    for row, (_, photos) in zip(grid, rows, strict=True):
        for ax, photo in zip(row, photos.itertuples(), strict=False):
            picture = open_rgb(photo.path)
            picture.thumbnail((220, 220), Image.Resampling.LANCZOS)
            ax.imshow(picture)
            if "caption" in photos:
                below = {"transform": ax.transAxes, "ha": "center", "va": "top"}
                ax.text(0.5, -0.03, photo.caption, fontsize=8, **below)
    figure.tight_layout(h_pad=0.4, w_pad=0.4)
    return figure


def picture_rows(
    rows: Iterable[tuple[str, Iterable[tuple[str, Image.Image]]]], title: str
) -> Figure:
    """Rows, pairs of a name and pictures, which are pairs of a caption and a picture.

    Two rows may have the same name, as two photos may have the same score, and two pictures the
    same caption. A row with the captions of the first one has none.
    """
    rows = [(name, list(pictures)) for name, pictures in rows]
    columns = max(len(pictures) for _, pictures in rows)
    size = (2.5 * columns, 2.1 * len(rows) + 0.4)
    figure, grid = _grid([name for name, _ in rows], columns, size, title)
    first_captions = [caption for caption, _ in rows[0][1]]
    for number, (row, (_, pictures)) in enumerate(zip(grid, rows, strict=True)):
        captions = [caption for caption, _ in pictures]
        is_repeated = number > 0 and captions == first_captions
        for ax, (caption, picture) in zip(row, pictures, strict=False):
            ax.imshow(picture)
            ax.set_title("" if is_repeated else caption, fontsize=9, pad=3)
    figure.tight_layout(h_pad=0.5, w_pad=0.4)
    return figure


def _grid(
    names: Sequence[str], columns: int, size: tuple[float, float], title: str
) -> tuple[Figure, np.ndarray]:
    """Empty places for pictures (rows, columns), each row with its name on the left."""
    figure, grid = plt.subplots(len(names), columns, figsize=size, squeeze=False)
    for ax in grid.flat:
        ax.axis("off")
    for ax, name in zip(grid[:, 0], names, strict=True):
        on_the_left = {"transform": ax.transAxes, "ha": "right", "va": "center"}
        ax.text(-0.08, 0.5, name, **on_the_left)
    figure.suptitle(title)
    return figure, grid


def likelihoods_by_class(
    sample: pd.DataFrame, thresholds: dict[int, float], title: str
) -> Axes:
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
    right_edge = len(order) - 0.45
    for k in set(thresholds.values()):
        words = {"color": "crimson", "fontsize": 9, "va": "center"}
        ax.text(right_edge, k, f"K = {k:.2g}", **words)
    ax.set(xlabel="score of the photo", ylabel="likelihood of that score", title=title)
    ax.set_ylim(-0.03, 1.03)
    sns.despine(ax=ax)
    return ax


def intervals(
    ax: Axes,
    table: pd.DataFrame,
    *,
    colour: str | Sequence[str] = BLUE,
    shift: float = 0.0,
    label: str | None = None,
    nothing: float = 0.0,
) -> None:
    """Points and their intervals, a row of a table each, the first one on top.

    The index of `table` names its rows; `mean`, `low` and `high` are drawn. `colour` is one, or one
    for each row. Two tables of the same rows share an `ax` by `shift`, in rows; `label` is for a
    legend. A line marks `nothing`: no difference, or a measure that knows nothing.
    """
    rows = np.arange(len(table)) + shift
    ax.hlines(rows, table["low"], table["high"], colors=colour)
    ax.scatter(table["mean"], rows, c=colour, zorder=3, label=label)
    ax.axvline(nothing, color="k", lw=0.8)
    ax.set_yticks(range(len(table)), table.index)
    ax.set_ylim(len(table) - 0.5, -0.5)
    sns.despine(ax=ax)


def differences(
    sets: dict[str, pd.DataFrame], measures: dict[str, str], title: str
) -> Figure:
    """What methods change: a row of panels for each set of photos, a panel for each measure.

    The tables are those of `comparisons.judged`, with a column `method`; `measures` names those to
    show. Thin lines are intervals over photos, bands over trainings, full points believable.
    """
    size = (9.6, 2.1 * len(sets) + 1.2)
    shared = {"sharex": "col", "sharey": True, "squeeze": False}
    figure, grid = plt.subplots(len(sets), len(measures), figsize=size, **shared)
    for panels, (name, table) in zip(grid, sets.items(), strict=True):
        for ax, (measure, label) in zip(panels, measures.items(), strict=True):
            _difference_panel(ax, table[table.measure == measure])
            ax.set_title(f"{name}: {label}", fontsize=11)
    figure.suptitle(title, fontsize=13)
    figure.supxlabel("difference (right of 0 is better)", fontsize=11)
    figure.tight_layout()
    over_photos = Line2D([], [], color=DARK, lw=1.4)
    over_trainings = Line2D([], [], color=DARK, **BAND)
    believable = Line2D([], [], color=DARK, marker="o", ls="")
    figure.legend(
        handles=[over_photos, over_trainings, believable],
        labels=["95 % over other photos", "95 % over other trainings", "believable"],
        ncols=3,
        fontsize=10,
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        frameon=False,
    )
    return figure


def _difference_panel(ax: Axes, table: pd.DataFrame) -> None:
    """A method a line: its interval over photos, and as a band that over trainings."""
    is_believable = table.verdict.isin(["better", "worse"])
    ends = {"difference": "mean", "photos_low": "low", "photos_high": "high"}
    of_photos = table.set_index("method")[list(ends)].rename(columns=ends)
    intervals(ax, of_photos, colour=DARK)
    rows = range(len(table))
    ax.hlines(rows, table.trainings_low, table.trainings_high, colors=DARK, **BAND)
    inside = np.where(is_believable, DARK, "w")
    ax.scatter(table.difference, rows, s=49, c=inside, edgecolors=DARK, zorder=4)
    ax.tick_params(labelsize=10)


def score_distribution(scores: pd.Series, title: str) -> Axes:
    """Bars of the photos per score, with counts and shares (RSRL Fig. 1)."""
    counts = scores.value_counts().sort_index()
    lowest, highest = counts.index.min(), counts.index.max()
    counts = counts.reindex(range(lowest, highest + 1), fill_value=0)
    colours = score_colours(counts.index).values()
    ax = plt.subplots(figsize=(7, 3.6))[1]
    bars = ax.bar(counts.index, counts, color=list(colours), edgecolor="0.3")
    labels = [f"{count}\n{count / counts.sum():.1%}" for count in counts]
    ax.bar_label(bars, labels, fontsize=9, padding=2)
    ax.set(xlabel="score", ylabel="photos", title=title, xticks=counts.index)
    ax.margins(y=0.2)
    sns.despine(ax=ax)
    return ax


def training_set(
    rounds: pd.DataFrame, samples: pd.DataFrame, majorities: Sequence[int]
) -> Figure:
    """Photos each round is trained on, by score, and the share of the three largest classes."""
    kept = samples[samples.kept]
    sizes = kept.groupby(["round", "label"]).size().unstack(fill_value=0)
    totals = sizes.sum(axis=1)
    figure, ax = plt.subplots(figsize=(7.5, 3.8))
    colours = score_colours(sizes.columns)
    bottom = np.zeros(len(sizes))
    for score in sizes.columns:
        look = {"color": colours[score], "label": score}
        ax.bar(sizes.index, sizes[score], 0.8, bottom, **look)
        bottom += sizes[score].to_numpy()
    of_majorities = sizes[[score for score in majorities if score in sizes]]
    shares = of_majorities.sum(axis=1) / totals
    for i, share in shares.items():
        words = {"ha": "center", "va": "bottom", "fontsize": 8}
        ax.text(i, totals[i], f"{share:.0%}", **words)
    names = ", ".join(map(str, sorted(majorities)))
    trained_on = _trained_on(rounds.kept.iloc[0], totals.iloc[1:])
    ax.set_title(f"{trained_on} (above: share of scores {names})")
    ax.set(xlabel="round", ylabel="training photos")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.margins(y=0.12)
    ax.legend(title="score", fontsize=8, frameon=False, bbox_to_anchor=(1, 1))
    sns.despine(ax=ax)
    return figure


def _trained_on(total: int, after: pd.Series) -> str:
    """How many of all training photos the rounds after the first are trained on."""
    if after.empty:
        return f"{total} photos"
    fewest, most = after.min(), after.max()
    count = fewest if fewest == most else f"{fewest} to {most}"
    return f"After round 1, {count} of {total} photos are trained on"


def over_rounds(
    rounds: pd.DataFrame,
    measure: str,
    title: str,
    chosen_by: str = "validation",
    ax: Axes | None = None,
) -> Axes:
    """A measure of every round on all parts; the round chosen by a part is marked.

    Accuracy gets the line of always answering the test part's largest class beside it.
    """
    ax = ax or plt.subplots(figsize=(6.5, 3.6))[1]
    for part in PART_DASHES:
        note = ""
        if part == chosen_by:
            note = " (chose the round)"
        elif part == "test":
            note = " (shown, not used)"
        ax.plot(
            rounds["round"],
            rounds[f"{part}_{measure}"],
            color=PART_COLOURS[part],
            dashes=PART_DASHES[part] or (None, None),
            marker="o",
            ms=3.5,
            label=part + note,
        )
    if measure == "accuracy":
        level = rounds["test_majority_accuracy"].iloc[0]
        ax.axhline(level, color="0.25", lw=1, ls=":")
        words = {"fontsize": 8, "ha": "right", "va": "bottom"}
        ax.text(rounds["round"].iloc[-1], level, "majority class", **words)
    chosen = rounds["round"][rounds.chosen].item()
    ax.axvline(chosen, color="0.8", lw=6, zorder=0)
    ax.set(
        xlabel="round (grey: chosen)",
        ylabel=measure.replace("_f", "-F").replace("_", " "),
        title=title,
    )
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    low, high = ax.get_ylim()
    ax.set_ylim(low, high + 0.35 * (high - low))  # room for the legend
    ax.legend(fontsize=8, frameon=False, loc="upper left")
    sns.despine(ax=ax)
    return ax


def life_of_photos(samples: pd.DataFrame, title: str) -> Figure:
    """One row of pixels per photo of a majority class, dark where a round was trained on it."""
    train = samples[samples.part == "train"]
    lives = train.pivot(index="photo", columns="round", values="kept")
    lives = lives[~lives.all(axis=1)]
    longest_first = ["n", *lives.columns]
    lives = lives.assign(n=lives.sum(axis=1)).sort_values(
        longest_first, ascending=False
    )
    lives = lives.drop(columns="n")
    figure, ax = plt.subplots(figsize=(6.5, 4.2))
    first, last = lives.columns[[0, -1]]
    ax.imshow(
        lives.to_numpy(float),
        aspect="auto",
        cmap="Greys",
        vmin=-0.25,
        vmax=1.4,
        interpolation="nearest",
        extent=(first - 0.5, last + 0.5, len(lives), 0),
    )
    ax.set(
        xlabel="round (dark: trained on)",
        ylabel=f"{len(lives)} photos that were dropped at least once",
        title=title,
    )
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def dropped_and_kept(
    lives: pd.DataFrame, scores: pd.Series, paths: pd.Series, majorities: Sequence[int]
) -> list[tuple[str, pd.DataFrame]]:
    """Rows of a contact sheet, two a score: photos out of the most rounds, and photos always in.

    `lives` (photos, rounds) says which rounds a photo was trained on; `scores` and `paths` are by
    photo. A row without photos is left out.
    """
    rows = []
    for score in majorities:
        of_score = lives[scores[lives.index] == score]
        rounds_out = (~of_score).sum(axis=1)
        rounds_out = rounds_out.sort_values(ascending=False, kind="stable")
        photos = pd.DataFrame({"rounds_out": rounds_out})
        photos["path"] = paths[photos.index]
        photos["caption"] = "rounds out: " + rounds_out.astype(str)
        is_out = photos.rounds_out > 0
        rows.append((f"{score}, left out", photos[is_out]))
        rows.append((f"{score}, always in", photos[~is_out]))
    return [(name, photos.head(8)) for name, photos in rows if len(photos)]


def assigned_rates(rates: pd.DataFrame, title: str) -> Axes:
    """Share of photos assigned to each score (columns) by each round (rows): SSRL-2019 Table 3."""
    ax = plt.subplots(figsize=(7.5, 3.8))[1]
    colours = score_colours(rates.columns)
    left = np.zeros(len(rates))
    for score in rates.columns:
        colour = colours[score]
        names = rates.index.astype(str)
        bars = ax.barh(names, rates[score], 0.8, left, color=colour)
        is_dark = sum(colour[:3]) < 1.5
        look = {"color": "w" if is_dark else "k", "fontsize": 8}
        texts = [f"{score}" if width > 0.035 else "" for width in rates[score]]
        ax.bar_label(bars, texts, label_type="center", **look)
        left += rates[score].to_numpy()
    ax.invert_yaxis()
    ax.set(xlabel="share of the photos, by assigned score", ylabel="round", title=title)
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.set_xlim(0, 1)
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
    grey = plt.cm.ScalarMappable(plt.Normalize(low, high), "gray")
    signed = plt.cm.ScalarMappable(plt.Normalize(-reach, reach), "PuOr_r")
    mask = Image.fromarray(highlight.mask(photo.size))
    return {
        "photo": photo,
        "later map": _coloured(highlight.later, grey).resize(photo.size),
        "earlier map": _coloured(highlight.earlier, grey).resize(photo.size),
        "difference": _coloured(highlight.diff, signed).resize(photo.size),
        "region": outlined(photo, mask, opacity=opacity),
    }


def _coloured(values: np.ndarray, colours: ScalarMappable) -> Image.Image:
    """A map as a picture in the colours of a scale."""
    rgb = colours.cmap(colours.norm(values))[..., :3]
    return Image.fromarray((rgb * 255).astype(np.uint8))


def outlined(
    photo: Image.Image, mask: Image.Image, *, opacity: float = 1
) -> Image.Image:
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
    thickness = max(2, step // 6)
    across = np.arange(size[0])
    down = np.arange(size[1])[:, None]
    return Image.fromarray((down + across) % step < thickness)


def activation_picture(
    photo: Image.Image, values: np.ndarray, reach: float
) -> Image.Image:
    """An activation map (S, S) over the photo in grey: orange above zero, purple below.

    Colours are full at `reach`; maps whose sums are compared need the same.
    """
    signed = plt.cm.ScalarMappable(plt.Normalize(-reach, reach), "PuOr_r")
    coloured = _coloured(at_size(values, photo.size), signed)
    grey = ImageOps.grayscale(photo).convert("RGB")
    return Image.blend(grey, coloured, 0.6)


def framed(
    photo: Image.Image, box: Sequence[float], region: np.ndarray | None
) -> Image.Image:
    """A photo with a crop's frame, in pixels of the photo, and its region as by `outlined`."""
    if region is not None:
        photo = outlined(photo, Image.fromarray(region).resize(photo.size))
    photo = photo.copy()
    left, top, right, foot = box
    corners = (left, top, right - 1, foot - 1)
    pen = ImageDraw.Draw(photo)
    width = max(2, min(photo.size) // 90)
    pen.rectangle(corners, outline="black", width=width + 2)
    pen.rectangle(corners, outline="white", width=width)
    return photo
