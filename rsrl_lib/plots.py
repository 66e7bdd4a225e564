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

from rsrl_lib.files import InputError, replacing
from rsrl_lib.highlight import Highlight
from rsrl_lib.learning_curve import NAMES, LearningCurve
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
    colours = {}
    for score in scores:
        place = (score - 1) / 8.5
        colours[score] = plt.cm.viridis(np.clip(place, 0, 1))
    return colours


def save(figure: Figure, folder: str | Path, name: str) -> Figure:
    """Keep a figure as PNG where a folder is given, and hand it back for display."""
    if folder:
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / f"{name}.png") as partial:
            figure.savefig(partial, format="png", dpi=150, bbox_inches="tight")
    plt.close(figure)
    return figure


def contact_sheet(
    rows: Sequence[tuple[str, pd.DataFrame]], title: str, *, columns: int = 8
) -> Figure:
    """Thumbnails in rows, pairs of a name and a table; two rows may have the same name.

    Each table has a `path`, and a `caption` where one is wanted.
    """
    names = [name for name, _ in rows]
    width = columns * 1.55
    height = len(rows) * 1.4 + 0.5
    figure, grid = _grid(names, columns, (width, height), title)
    for places, (_, photos) in zip(grid, rows, strict=True):
        for ax, photo in zip(places, photos.itertuples(), strict=False):
            picture = open_rgb(photo.path)
            picture.thumbnail((220, 220), Image.Resampling.LANCZOS)
            ax.imshow(picture)
            if "caption" in photos:
                _write_below(ax, photo.caption)
    figure.tight_layout(h_pad=0.4, w_pad=0.4)
    return figure


def _write_below(ax: Axes, caption: str) -> None:
    ax.text(
        0.5,
        -0.03,
        caption,
        transform=ax.transAxes,
        fontsize=8,
        ha="center",
        va="top",
    )


def scores_to_show(scores: Iterable[int], asked: Sequence[int] = ()) -> list[int]:
    """Scores of which photos are shown, of those that are there: a low, a middle and a high one,
    unless others are `asked` for.

    Raises `InputError` where no photo has one of these.

    >>> scores_to_show([2, 3, 3, 4, 7])
    [2, 4, 7]
    """
    there = sorted({int(score) for score in scores})
    missing = [score for score in asked if score not in there]
    if missing:
        raise InputError(
            f"No photo that is shown has the score {missing[0]}; choose of "
            f"{', '.join(map(str, there))}."
        )
    places = sorted({0, len(there) // 2, len(there) - 1})
    return list(asked) or [there[place] for place in places]


def picture_rows(
    rows: Iterable[tuple[str, Iterable[tuple[str, Image.Image]]]], title: str
) -> Figure:
    """Rows, pairs of a name and pictures, which are pairs of a caption and a picture.

    Two rows may have the same name, as two photos may have the same score, and two pictures the
    same caption. A row with the captions of the first one has none.
    """
    names = []
    pictures_of_rows = []
    for name, pictures in rows:
        names.append(name)
        pictures_of_rows.append(list(pictures))
    columns = max(len(pictures) for pictures in pictures_of_rows)
    width = 2.5 * columns
    height = 2.1 * len(names) + 0.4
    figure, grid = _grid(names, columns, (width, height), title)
    first_captions = None
    for places, pictures in zip(grid, pictures_of_rows, strict=True):
        captions = [caption for caption, _ in pictures]
        is_repeated = captions == first_captions
        if first_captions is None:
            first_captions = captions
        for ax, (caption, picture) in zip(places, pictures, strict=False):
            ax.imshow(picture)
            shown = "" if is_repeated else caption
            ax.set_title(shown, fontsize=9, pad=3)
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
        ax.text(-0.08, 0.5, name, transform=ax.transAxes, ha="right", va="center")
    figure.suptitle(title)
    return figure, grid


def likelihoods_by_class(
    sample: pd.DataFrame, thresholds: dict[int, float], title: str
) -> Axes:
    """Likelihood of the own class of every photo, by score, with K where a class has one."""
    _, ax = plt.subplots(figsize=(7.5, 4))
    order = sorted(sample.label.unique())
    colours = score_colours(order)
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
        ax.text(right_edge, k, f"K = {k:.2g}", color="crimson", fontsize=9, va="center")
    ax.set_xlabel("score of the photo")
    ax.set_ylabel("likelihood of that score")
    ax.set_title(title)
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
    count = len(table)
    rows = np.arange(count)
    heights = rows + shift
    ax.hlines(heights, table["low"], table["high"], colors=colour)
    ax.scatter(table["mean"], heights, c=colour, zorder=3, label=label)
    ax.axvline(nothing, color="k", lw=0.8)
    ax.set_yticks(rows, table.index)
    ax.set_ylim(count - 0.5, -0.5)
    sns.despine(ax=ax)


def differences(
    sets: dict[str, pd.DataFrame], measures: dict[str, str], title: str
) -> Figure:
    """What methods change: a row of panels for each set of photos, a panel for each measure.

    The tables are those of `comparisons.judged`, with a column `method`; `measures` names those to
    show. Thin lines are intervals over photos, bands over trainings, full points believable.
    """
    height = 2.1 * len(sets) + 1.2
    figure, grid = plt.subplots(
        len(sets),
        len(measures),
        sharex="col",
        sharey=True,
        squeeze=False,
        figsize=(9.6, height),
    )
    for panels, (name, table) in zip(grid, sets.items(), strict=True):
        for ax, (measure, label) in zip(panels, measures.items(), strict=True):
            of_measure = table[table.measure == measure]
            _difference_panel(ax, of_measure)
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
    by_method = table.set_index("method")
    over_photos = pd.DataFrame(
        {
            "mean": by_method.difference,
            "low": by_method.photos_low,
            "high": by_method.photos_high,
        }
    )
    intervals(ax, over_photos, colour=DARK)
    rows = range(len(table))
    ax.hlines(rows, table.trainings_low, table.trainings_high, colors=DARK, **BAND)
    is_believable = table.verdict.isin(["better", "worse"])
    filling = np.where(is_believable, DARK, "w")
    ax.scatter(table.difference, rows, s=49, c=filling, edgecolors=DARK, zorder=4)
    ax.tick_params(labelsize=10)


def score_distribution(scores: pd.Series, title: str) -> Axes:
    """Bars of the photos per score, with counts and shares (RSRL Fig. 1)."""
    counts = scores.value_counts()
    lowest = counts.index.min()
    highest = counts.index.max()
    counts = counts.reindex(range(lowest, highest + 1), fill_value=0)
    classes = counts.index
    total = counts.sum()
    labels = [f"{count}\n{count / total:.1%}" for count in counts]

    _, ax = plt.subplots(figsize=(7, 3.6))
    colours = score_colours(classes)
    bars = ax.bar(classes, counts, color=list(colours.values()), edgecolor="0.3")
    ax.bar_label(bars, labels, fontsize=9, padding=2)
    ax.set(xlabel="score", ylabel="photos", title=title, xticks=classes)
    ax.margins(y=0.2)
    sns.despine(ax=ax)
    return ax


def training_set(
    rounds: pd.DataFrame, samples: pd.DataFrame, majorities: Sequence[int]
) -> Figure:
    """Photos each round is trained on, by score, and the share of the three largest classes."""
    kept = samples[samples.kept]
    by_class = kept.groupby(["round", "label"])
    sizes = by_class.size().unstack(fill_value=0)  # (rounds, scores)
    totals = sizes.sum(axis=1)
    figure, ax = plt.subplots(figsize=(7.5, 3.8))
    colours = score_colours(sizes.columns)
    bottom = np.zeros(len(sizes))
    for score, heights in sizes.items():
        ax.bar(heights.index, heights, 0.8, bottom, color=colours[score], label=score)
        bottom += heights.to_numpy()

    largest = [score for score in majorities if score in sizes]
    shares = sizes[largest].sum(axis=1) / totals
    for i, share in shares.items():
        ax.text(i, totals[i], f"{share:.0%}", ha="center", va="bottom", fontsize=8)

    names = ", ".join(map(str, sorted(majorities)))
    total = rounds.kept.iloc[0]
    trained_on = _trained_on(total, totals.iloc[1:])
    ax.set_title(f"{trained_on} (above: share of scores {names})")
    ax.set_xlabel("round")
    ax.set_ylabel("training photos")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.margins(y=0.12)
    ax.legend(title="score", fontsize=8, frameon=False, bbox_to_anchor=(1, 1))
    sns.despine(ax=ax)
    return figure


def _trained_on(total: int, after: pd.Series) -> str:
    """How many of all training photos the rounds after the first are trained on."""
    if after.empty:
        return f"{total} photos"
    fewest = after.min()
    most = after.max()
    count = f"{fewest} to {most}"
    if fewest == most:
        count = fewest
    return f"After round 1, {count} of {total} photos are trained on"


def over_rounds(
    rounds: pd.DataFrame,
    measure: str,
    title: str,
    chosen_by: str = "validation",
    ax: Axes | None = None,
) -> Axes:
    """A measure of every round on all parts that have photos; the chosen round is marked.

    `chosen_by` is how it was chosen. Accuracy gets the line of always answering the largest class
    of the test part, or of the last part there is, beside it.
    """
    if ax is None:
        _, ax = plt.subplots(figsize=(6.5, 3.6))
    numbers = rounds["round"]
    parts = [part for part in PART_DASHES if rounds[f"{part}_accuracy"].notna().any()]
    for part in parts:
        dashes = PART_DASHES[part]
        note = ""
        if part == chosen_by:
            note = " (chose the round)"
        elif part == "test":
            note = " (shown, not used)"
        ax.plot(
            numbers,
            rounds[f"{part}_{measure}"],
            color=PART_COLOURS[part],
            dashes=dashes or (None, None),
            marker="o",
            ms=3.5,
            label=part + note,
        )
    if measure == "accuracy":
        level = rounds[f"{parts[-1]}_majority_accuracy"].iloc[0]
        ax.axhline(level, color="0.25", lw=1, ls=":")
        last = numbers.iloc[-1]
        ax.text(last, level, "majority class", fontsize=8, ha="right", va="bottom")
    chosen = numbers[rounds.chosen].item()
    ax.axvline(chosen, color="0.8", lw=6, zorder=0)
    ax.set_xlabel("round (grey: chosen)")
    ax.set_ylabel(measure.replace("_f", "-F").replace("_", " "))
    ax.set_title(title)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    low, high = ax.get_ylim()
    ax.set_ylim(low, high + 0.35 * (high - low))  # room for the legend
    ax.legend(fontsize=8, frameon=False, loc="upper left")
    sns.despine(ax=ax)
    return ax


def learning_curves(curve: LearningCurve, rater: dict | None = None) -> Figure:
    """Measures over the photos learned from, beside the commonest score's and the rater's own.

    `rater` is what `repeatability.of_log` says; accuracy and kappa have a counterpart there.
    """
    figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.6), layout="constrained")
    counterparts = {"accuracy": "exact", "kappa": "kappa"}
    for ax, (measure, name) in zip(axes, NAMES.items(), strict=True):
        of_measure = curve.table[curve.table.measure == measure]
        photos = of_measure["photos"]
        ax.fill_between(
            photos, of_measure["low"], of_measure["high"], color=BLUE, alpha=0.18, lw=0
        )
        ax.plot(photos, of_measure["mean"], color=DARK, marker="o", label="frozen head")
        level = curve.commonest[measure]
        ax.axhline(level, color="0.25", lw=1.2, ls=":", label="commonest score alone")
        own = (rater or {}).get(counterparts.get(measure))
        if own:
            value, low, high = own
            ax.axhspan(low, high, color=PART_COLOURS["test"], alpha=0.12, lw=0)
            ax.axhline(
                value,
                color=PART_COLOURS["test"],
                lw=1.2,
                ls="--",
                label="the rater with herself",
            )
        ax.set_xscale("log", base=2)
        ax.set_xticks(photos, [str(size) for size in photos])
        ax.minorticks_off()
        ax.set_xlabel("photos learned from")
        ax.set_title(name, fontsize=11)
        sns.despine(ax=ax)
    lines, labels = axes[0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(f"What a head learns from {curve.photos} scored photos")
    return figure


def life_of_photos(samples: pd.DataFrame, title: str) -> Figure:
    """One row of pixels per photo of a majority class, dark where a round was trained on it."""
    train = samples[samples.part == "train"]
    lives = train.pivot(index="photo", columns="round", values="kept")
    is_always_in = lives.all(axis=1)
    lives = lives[~is_always_in]
    rounds = list(lives.columns)
    rounds_in = lives.sum(axis=1)
    lives = lives.assign(rounds_in=rounds_in)
    lives = lives.sort_values(["rounds_in", *rounds], ascending=False)
    lives = lives.drop(columns="rounds_in")

    figure, ax = plt.subplots(figsize=(6.5, 4.2))
    ax.imshow(
        lives.to_numpy(float),
        aspect="auto",
        cmap="Greys",
        vmin=-0.25,
        vmax=1.4,
        interpolation="nearest",
        extent=(rounds[0] - 0.5, rounds[-1] + 0.5, len(lives), 0),
    )
    ax.set_xlabel("round (dark: trained on)")
    ax.set_ylabel(f"{len(lives)} photos that were dropped at least once")
    ax.set_title(title)
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
        has_score = scores[lives.index] == score
        is_out = ~lives[has_score]
        rounds_out = is_out.sum(axis=1)
        rounds_out = rounds_out.sort_values(ascending=False, kind="stable")
        photos = pd.DataFrame({"rounds_out": rounds_out})
        photos["path"] = paths[photos.index]
        photos["caption"] = "rounds out: " + rounds_out.astype(str)

        was_out = rounds_out > 0
        left_out = photos[was_out].head(8)
        always_in = photos[~was_out].head(8)
        if len(left_out):
            rows.append((f"{score}, left out", left_out))
        if len(always_in):
            rows.append((f"{score}, always in", always_in))
    return rows


def assigned_rates(rates: pd.DataFrame, title: str) -> Axes:
    """Share of photos assigned to each score (columns) by each round (rows): SSRL-2019 Table 3."""
    _, ax = plt.subplots(figsize=(7.5, 3.8))
    colours = score_colours(rates.columns)
    rounds = rates.index.astype(str)
    left = np.zeros(len(rates))
    for score, widths in rates.items():
        colour = colours[score]
        bars = ax.barh(rounds, widths, 0.8, left, color=colour)
        left += widths.to_numpy()

        is_dark = sum(colour[:3]) < 1.5
        ink = "w" if is_dark else "k"
        has_room = widths > 0.035
        texts = np.where(has_room, str(score), "")
        ax.bar_label(bars, texts, label_type="center", color=ink, fontsize=8)
    ax.invert_yaxis()
    ax.set_xlabel("share of the photos, by assigned score")
    ax.set_ylabel("round")
    ax.set_title(title)
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
    both_maps = [highlight.later, highlight.earlier]
    low, high = np.percentile(both_maps, (0.5, 99.5))
    grey = ScalarMappable(plt.Normalize(low, high), "gray")
    magnitude = np.abs(highlight.diff)
    reach = np.percentile(magnitude, 99.5)
    signed = _signed_scale(max(reach, 1e-12))

    later = _coloured(highlight.later, grey)
    earlier = _coloured(highlight.earlier, grey)
    difference = _coloured(highlight.diff, signed)
    mask = Image.fromarray(highlight.mask(photo.size))
    return {
        "photo": photo,
        "later map": later.resize(photo.size),
        "earlier map": earlier.resize(photo.size),
        "difference": difference.resize(photo.size),
        "region": outlined(photo, mask, opacity=opacity),
    }


def _signed_scale(reach: float) -> ScalarMappable:
    """Colours of a signed map, full at `reach`: orange above zero, purple below."""
    return ScalarMappable(plt.Normalize(-reach, reach), "PuOr_r")


def _coloured(values: np.ndarray, colours: ScalarMappable) -> Image.Image:
    """A map as a picture in the colours of a scale."""
    shares = colours.norm(values)
    rgba = colours.cmap(shares)
    rgb = rgba[..., :3] * 255
    return Image.fromarray(rgb.astype(np.uint8))


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
    shrunk = mask.filter(ImageFilter.MinFilter(5))
    edge = ImageChops.difference(mask, shrunk)
    shown.paste(OUTLINE, mask=edge)
    return shown


def _hatching(size: tuple[int, int]) -> Image.Image:
    """Diagonal lines on a picture of `size` (width, height), about 22 along its shorter side."""
    width, height = size
    shorter_side = min(size)
    step = max(6, shorter_side // 22)
    thickness = max(2, step // 6)
    across = np.arange(width)
    down = np.arange(height)[:, None]
    phase = (down + across) % step
    return Image.fromarray(phase < thickness)


def activation_picture(
    photo: Image.Image, values: np.ndarray, reach: float
) -> Image.Image:
    """An activation map (S, S) over the photo in grey: orange above zero, purple below.

    Colours are full at `reach`; maps whose sums are compared need the same.
    """
    large = at_size(values, photo.size)
    coloured = _coloured(large, _signed_scale(reach))
    grey = ImageOps.grayscale(photo)
    grey = grey.convert("RGB")
    return Image.blend(grey, coloured, 0.6)


def framed(
    photo: Image.Image, box: Sequence[float], region: np.ndarray | None
) -> Image.Image:
    """A photo with a crop's frame, in pixels of the photo, and its region as by `outlined`."""
    if region is not None:
        mask = Image.fromarray(region)
        mask = mask.resize(photo.size)
        photo = outlined(photo, mask)
    photo = photo.copy()
    left, top, right, foot = box
    corners = (left, top, right - 1, foot - 1)
    pen = ImageDraw.Draw(photo)
    shorter_side = min(photo.size)
    width = max(2, shorter_side // 90)
    pen.rectangle(corners, outline="black", width=width + 2)
    pen.rectangle(corners, outline="white", width=width)
    return photo
