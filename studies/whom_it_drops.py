"""Whom does dropping drop? What a sweep's drops hit, where something is known of the photos.

    .venv/bin/python studies/whom_it_drops.py --oasis data/oasis

Reads `data/results/glassbox_arms_drops.parquet` and `oasis_arms_drops.parquet`, and writes
`data/results/whom_it_drops.csv`: a row per arm and target, means over its cells. Only training
photos of the three largest classes count, since the papers' rules drop no others. Targets:

    mislabelled   glass-box: the score is not that of the noise-free quality
    border        glass-box: the quarter of the photos whose quality is nearest to a class border
    disputed      OASIS: the quarter of the photos on whose beauty raters disagree most
    stray         OASIS, single votes: the quarter of the votes farthest from the crowd's mean

All dropping decisions of a run are pooled: `precision` is the share of the target among the photos
left out, `recall` the share of the target that was out, `base_rate` and `share_out` the same of all
photos. `chance` is the precision of dropping as many of each score at random: a score that loses
more photos, and holds more of the target, lifts precision without any photo being told from
another. `gain` is precision minus chance, `low` to `high` its 95 % interval over photos: they are
drawn again, the same in all cells, which share most of their training photos; `p` is that of a
normal with the spread of those draws. `largest` is the gain of dropping as many of each score by a
judge that knows the target. `auc`, of the number of rounds out for the target, is the mean of those
within each score. `commonest` is the share of the commonest score among all training photos,
`commonest_kept` among those that dropping leaves. `judges` is whether the arm looks at a photo
before it drops it; `p_holm` is p, corrected for all arms that do, where they have three cells.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tyro
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from rsrl_lib.comparing.comparisons import FEWEST_TRAININGS, holm, read_recipes
from rsrl_lib.comparing.sweeps import single_votes
from rsrl_lib.drawing import glassbox
from rsrl_lib.drop_rules import largest_classes
from rsrl_lib.files import ROOT, replacing
from rsrl_lib.photos import ScoredPhotos
from rsrl_lib.protocols import merge_rare
from rsrl_lib.reading.tables import read_ours
from rsrl_lib.sources import read_folder

RESULTS = ROOT / "data" / "results"
KEYS = ["dataset", "labels", "arm"]
DRAWS = 2000


@dataclass
class Drops:
    """Photos of the majority classes in one cell: label, share of the rounds out, target or not."""

    photo: np.ndarray
    label: np.ndarray
    out: np.ndarray
    is_one: np.ndarray
    commonest: tuple[float, float]
    """Share of the commonest score among all training photos, and among those kept."""


def main(oasis: Path | None = None, count: int = 700, drawn: int = 0) -> None:
    """Measure what is dropped.

    Args:
        oasis: Folder with the photos and votes of OASIS; without it, of glass-box photos alone.
        count: Glass-box photos of the grid, and
        drawn: the seed that they were drawn with.
    """
    scored = glassbox.open_set(count, drawn)
    facts = read_ours(glassbox.set_folder(count, drawn) / "photos.csv").set_index("photo")
    near = facts.border_distance <= facts.border_distance.quantile(0.25)
    known = {"mislabelled": facts.mislabelled == 1, "border": near}
    found = {}
    for place, _, out in cells_of("glassbox_arms"):
        for target, truth in known.items():
            found.setdefault((*place, target), []).append(hit(out, scored, truth))
    if oasis:
        votes = oasis / "votes.csv"
        scored = read_folder(
            oasis / "photos", oasis / "photos.csv", mean_column="mean_score", votes=votes
        )
        spread = read_ours(votes).groupby("photo").score.std()
        disputed = spread[scored.table.photo] >= spread.quantile(0.75)
        for place, seed, out in cells_of("oasis_arms"):
            labelled, known = scored, {"disputed": disputed}
            if "single_vote" in place:
                labelled, crowd = single_votes(scored, seed)
                far = pd.Series(abs(labelled.table.score.to_numpy() - crowd), disputed.index)
                known = known | {"stray": far >= far.quantile(0.75)}
            for target, truth in known.items():
                found.setdefault((*place, target), []).append(hit(out, labelled, truth))
    rows = [dict(zip([*KEYS, "target"], key, strict=True)) | told(c) for key, c in found.items()]
    table = with_correction(pd.DataFrame(rows))
    with replacing(RESULTS / "whom_it_drops.csv") as partial:
        table.to_csv(partial, index=False, float_format="%.5f")
    print(table.set_index([*KEYS, "target"]).to_string(float_format="{:.3f}".format))


def with_correction(table: pd.DataFrame) -> pd.DataFrame:
    """The table, and p corrected for all arms that judge photos, of a set and target."""
    recipes = {}
    for name in ("glassbox_arms", "oasis_arms"):
        recipes |= read_recipes(RESULTS / f"{name}.json")
    controls = [recipes[place].control for place in table[KEYS].itertuples(index=False, name=None)]
    table = table.assign(judges=[not control.startswith("random") for control in controls])
    asked = table[table.judges & (table.cells >= FEWEST_TRAININGS)]
    by_question = asked.groupby(["dataset", "labels", "target"])
    return table.assign(p_holm=by_question.p.transform(holm))


def cells_of(name: str):
    """Place and seed of every cell that dropped something, and each photo's share of rounds out."""
    drops = pd.read_parquet(RESULTS / f"{name}_drops.parquet")
    rounds = pd.read_parquet(RESULTS / f"{name}_rounds.parquet").set_index("cell")
    first = rounds.kept[rounds["round"] == 1]
    for cell, out in drops.groupby("cell", sort=False):
        # Resampling leaves photos out of the first round already, before anything is judged.
        if first[cell] == len(out) and out.rounds_out.any():
            share = out.set_index("photo").rounds_out / (rounds["round"][[cell]].max() - 1)
            yield tuple(out[KEYS].iloc[0]), out.seed.iloc[0], share


def hit(out: pd.Series, photos: ScoredPhotos, truth: pd.Series) -> Drops:
    """What is known of the photos of a cell that could have been dropped."""
    labels = pd.Series(merge_rare(photos.table.score.to_numpy())[0], photos.table.photo)[out.index]
    keep = labels.isin(largest_classes(labels.to_numpy()))
    places = pd.Index(photos.table.photo).get_indexer(out.index)
    is_one = truth[out.index].to_numpy(bool)
    common, stay = labels == largest_classes(labels.to_numpy())[0], 1 - out
    commonest = common.mean(), stay[common].sum() / stay.sum()
    found = places[keep], labels[keep].to_numpy(), out[keep].to_numpy(), is_one[keep]
    return Drops(*found, commonest)


def told(cells: list[Drops]) -> dict[str, float]:
    """Means over the cells of an arm, and the interval of precision above chance."""
    count = 1 + max(cell.photo.max() for cell in cells)
    draws = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), DRAWS)
    weights = np.vstack([np.ones(count), draws])
    both = [precision(cell, weights[:, cell.photo]) for cell in cells]
    gains = np.nanmean([found - chance for found, chance in both], axis=0)
    row = {"cells": len(cells), "photos": np.mean([len(cell.photo) for cell in cells])}
    row["base_rate"] = np.mean([cell.is_one.mean() for cell in cells])
    row["share_out"] = np.mean([cell.out.mean() for cell in cells])
    row["precision"], row["chance"] = np.mean([[f[0], c[0]] for f, c in both], axis=0)
    row["gain"], (row["low"], row["high"]) = gains[0], np.nanpercentile(gains[1:], [2.5, 97.5])
    row["p"] = 2 * norm.sf(abs(row["gain"]) / np.nanstd(gains[1:])) if gains.std() else 1.0
    row["largest"] = np.mean([largest(cell) for cell in cells]) - row["chance"]
    row["recall"] = np.mean([cell.out[cell.is_one].mean() for cell in cells])
    row["auc"] = np.mean([within(cell) for cell in cells])
    row["commonest"], row["commonest_kept"] = np.mean([cell.commonest for cell in cells], axis=0)
    return row


def precision(cell: Drops, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of the target among what was left out, and by chance, of weighted photos (draws,)."""
    total = weights @ cell.out
    chance = np.zeros(len(weights))
    for score in np.unique(cell.label):
        own = cell.label == score
        rate = weights[:, own] @ cell.is_one[own] / np.maximum(weights[:, own].sum(1), 1)
        chance += rate * (weights[:, own] @ cell.out[own])
    with np.errstate(invalid="ignore"):
        return weights @ (cell.out * cell.is_one) / total, chance / total


def largest(cell: Drops) -> float:
    """Precision of leaving out as many of each score, the target's photos first."""
    own = [cell.label == score for score in np.unique(cell.label)]
    found = sum(min(cell.out[one].sum(), cell.is_one[one].sum()) for one in own)
    return found / cell.out.sum()


def within(cell: Drops) -> float:
    """Mean of the areas under the ROC within each score, weighted by its photos."""
    aucs, sizes = [], []
    for score in np.unique(cell.label):
        own = cell.label == score
        if 0 < cell.is_one[own].mean() < 1:
            aucs.append(roc_auc_score(cell.is_one[own], cell.out[own]))
            sizes.append(own.sum())
    return np.average(aucs, weights=sizes)


if __name__ == "__main__":
    tyro.cli(main)
