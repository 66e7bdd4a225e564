"""Draw the two pictures of two ways of tuning from the kept tables.

.venv/bin/python studies/two_ways_pictures.py
"""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from of_two_ways import ASKED, BASE, DRAWN, REAL, WAYS, kept_table, of_shared

from rsrl_lib.files import ROOT

FIGURES = ROOT / "data" / "figures"
COLOUR = {"fine-tuned": "#1b3a6b", "frozen": "#c8641e"}
DASHES = {"fine-tuned": "-", "frozen": (0, (4, 2))}
SETS = {DRAWN: "drawings", REAL: "OASIS"}
ROWS = [(DRAWN, "test_accuracy"), (DRAWN, "test_macro_f1")]
ROWS += [(REAL, "test_accuracy"), (REAL, "test_macro_f1")]
NAMES = {"test_accuracy": "accuracy", "test_macro_f1": "macro-F1"}
SHORT = {
    "own-class K=0.9": "RSRL's rule, K = 0.9",
    "own-class two thirds": "RSRL's rule,\n67 % kept",
    "top-class two thirds": "SSRL-2019's rule,\n67 % kept",
    "random, as many as two thirds": "at random,\nas many of each score",
}


def main() -> None:
    """Write both pictures."""
    for name, figure in {"two_ways_curves": curves(), "two_ways_dropped": dropped()}.items():
        path = FIGURES / f"{name}.png"
        figure.savefig(path, dpi=110)
        print(f"Written: {path.relative_to(ROOT)}")


def curves() -> Figure:
    """Accuracy and macro-F1 over the rounds: a column a rule, both ways in each panel."""
    figure, axes = plt.subplots(
        len(ROWS), len(ASKED), figsize=(11, 9.5), sharex="row", sharey="row", layout="constrained"
    )
    for row, (photos, measure) in zip(axes, ROWS, strict=True):
        for ax, arm in zip(row, ASKED, strict=True):
            for way in WAYS:
                draw_curve(ax, photos, measure, arm, way)
        row[0].set_ylabel(f"{SETS[photos]}:\n{NAMES[measure]}, test photos")
    figure.suptitle(
        "On drawings, accuracy goes the same way in both ways of tuning, macro-F1 does not"
    )
    for ax, arm in zip(axes[0], ASKED, strict=True):
        ax.set_title(SHORT[arm], fontsize=11)
    for ax in axes[-1]:
        ax.set_xlabel("round")
    lines, names = axes[0][1].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside lower center", ncols=4, frameon=False)
    return figure


def draw_curve(ax: Axes, photos: str, measure: str, arm: str, way: str) -> None:
    """One way in one panel, and thin behind it the same way where nothing is dropped."""
    style = {"color": COLOUR[way], "ls": DASHES[way]}
    base = over_rounds(photos, BASE, way, measure)
    ax.plot(base.columns, base.mean(), lw=1, alpha=0.5, **style, label=f"{way}, nothing dropped")
    values = over_rounds(photos, arm, way, measure)
    if len(values):
        ax.plot(values.columns, values.mean(), lw=2.2, **style, label=f"{way}, rule of the column")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", alpha=0.3)


def over_rounds(photos: str, arm: str, way: str, measure: str) -> pd.DataFrame:
    """A measure of each training (row) in each round (column)."""
    rounds = kept_table("rounds")
    every = rounds[(rounds.photos == photos) & rounds.way.isin(WAYS)]
    own = of_shared(every[(every.arm == arm) & (every.way == way)], every)
    return own.pivot(index=["seed", "fold"], columns="round", values=measure)


def dropped() -> Figure:
    """How many photos a rule keeps in both ways, and how far both drop the same."""
    arms = ASKED[:3]
    title = "Both ways drop partly the same photos, and a fixed K keeps other numbers of them"
    figure, axes = plt.subplots(
        4, len(arms), figsize=(9.5, 9.5), sharex="row", sharey="row", layout="constrained"
    )
    figure.suptitle(title)
    for first, photos in enumerate(SETS):
        for column, arm in enumerate(arms):
            draw_kept(axes[2 * first][column], photos, arm)
            draw_agreement(axes[2 * first + 1][column], photos, arm)
        axes[2 * first][0].set_ylabel(f"{SETS[photos]}:\nphotos kept")
        axes[2 * first + 1][0].set_ylabel(f"{SETS[photos]}: agreement\n(0 chance, 1 most)")
    for ax, arm in zip(axes[0], arms, strict=True):
        ax.set_title(SHORT[arm], fontsize=11)
    for ax in axes[-1]:
        ax.set_xlabel("round that drops them")
    handles = {}
    for ax in axes.flat:
        handles |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    figure.legend(
        handles.values(), handles, loc="outside lower center", ncols=len(handles), frameon=False
    )
    return figure


def draw_kept(ax: Axes, photos: str, arm: str) -> None:
    """Share of the training photos that each round learns from, in both ways."""
    rounds = kept_table("rounds")
    share = rounds.assign(share=rounds.kept / rounds.photos_in_all)
    every = share[(share.photos == photos) & share.way.isin(WAYS)]
    for way in WAYS:
        own = of_shared(every[(every.arm == arm) & (every.way == way)], every)
        mean = own.groupby("round").share.mean()
        ax.plot(mean.index, mean, lw=2.2, color=COLOUR[way], ls=DASHES[way], label=way)
    ax.set_ylim(0, 1.05)
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", alpha=0.3)


def draw_agreement(ax: Axes, photos: str, arm: str) -> None:
    """How far both ways drop the same photos, each training and their mean; and the twins."""
    table = kept_table("agreement")
    table = table[(table.photos == photos) & (table.arm == arm)]
    styles = {"both ways": ("#7b3294", "-"), "twins": ("#777777", ":")}
    for pair, (colour, dashes) in styles.items():
        own = table[table.pair == pair]
        if own.empty:
            continue
        of_each = own.assign(drops=own["round"] + 1).pivot(
            index=["seed", "fold"], columns="drops", values="agreement"
        )
        ax.plot(of_each.columns, of_each.T, lw=0.8, alpha=0.5, color=colour, ls=dashes)
        said = {"both ways": "both ways", "twins": "fine-tuned twice"}[pair]
        ax.plot(of_each.columns, of_each.mean(), lw=2.2, color=colour, ls=dashes, label=said)
    ax.axhline(0, color="black", lw=0.8)
    ax.set_ylim(-0.25, 1.05)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", alpha=0.3)


if __name__ == "__main__":
    main()
