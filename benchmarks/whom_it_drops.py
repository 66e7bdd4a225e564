"""Whom does dropping drop? What a sweep's drops hit, where something is known of the photos.

    .venv/bin/python benchmarks/whom_it_drops.py --oasis data/oasis

Reads `data/results/glassbox_arms_drops.parquet` and `oasis_arms_drops.parquet`, and writes
`data/results/whom_it_drops.csv`: a row per cell and target. Only training photos of the three
largest classes count, since the papers' rules drop no others. Targets:

    mislabelled   glass-box: the score is not that of the noise-free quality
    border        glass-box: the quarter of the photos whose quality is nearest to a class border
    disputed      OASIS: the quarter of the photos on whose beauty raters disagree most
    stray         OASIS, single votes: the quarter of the votes farthest from the crowd's mean

All dropping decisions of a run are pooled: `precision` is the share of the target among the photos
left out, `recall` the share left out of the target, `auc` that of the number of rounds out.
`base_rate` is the precision, `share_out` the recall, of dropping as many at random.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import tyro
from sklearn.metrics import roc_auc_score

from rsrl_lib import glassbox
from rsrl_lib.drop_rules import largest_classes
from rsrl_lib.network import replacing
from rsrl_lib.photos import ROOT, ScoredPhotos, read_folder
from rsrl_lib.protocols import merge_rare
from rsrl_lib.sweeps import single_votes

RESULTS = ROOT / "data" / "results"
KEYS = ["dataset", "labels", "arm", "seed", "fold"]


def main(oasis: Path | None = None, count: int = 700, drawn: int = 0) -> None:
    """Measure what is dropped.

    Args:
        oasis: Folder with the photos and votes of OASIS; without it, of glass-box photos alone.
        count: Glass-box photos of the grid, and
        drawn: the seed that they were drawn with.
    """
    rows = []
    facts = pd.read_csv(glassbox.set_folder(count, drawn) / "photos.csv").set_index("photo")
    near = facts.border_distance <= facts.border_distance.quantile(0.25)
    known = {"mislabelled": facts.mislabelled == 1, "border": near}
    for place, out in cells_of("glassbox_arms"):
        rows += [place | found for found in hits(out, glassbox.open_set(count, drawn), known)]
    if oasis:
        votes = oasis / "votes.csv"
        scored = read_folder(
            oasis / "photos", oasis / "photos.csv", mean_column="mean_score", votes=votes
        )
        spread = pd.read_csv(votes, dtype={"photo": str}).groupby("photo").score.std()
        disputed = spread[scored.table.photo] >= spread.quantile(0.75)
        for place, out in cells_of("oasis_arms"):
            labelled, known = scored, {"disputed": disputed}
            if place["labels"] == "single_vote":
                labelled, crowd = single_votes(scored, place["seed"])
                far = pd.Series(abs(labelled.table.score.to_numpy() - crowd), disputed.index)
                known = known | {"stray": far >= far.quantile(0.75)}
            rows += [place | found for found in hits(out, labelled, known)]
    table = pd.DataFrame(rows)
    with replacing(RESULTS / "whom_it_drops.csv") as partial:
        table.to_csv(partial, index=False, float_format="%.5f")
    means = table.drop(columns=["seed", "fold", "photos"])
    means = means.groupby([*KEYS[:3], "target"], sort=False).mean()
    print(means.to_string(float_format="{:.3f}".format))


def cells_of(name: str):
    """Place of every cell that dropped something, and in how many rounds each photo was out."""
    drops = pd.read_parquet(RESULTS / f"{name}_drops.parquet")
    rounds = pd.read_csv(RESULTS / f"{name}.csv").drop_duplicates("cell").set_index("cell").rounds
    for cell, out in drops.groupby("cell", sort=False):
        # Resampling leaves photos out of the first round already, before anything is judged.
        if 0 < out.rounds_out.max() < rounds[cell]:
            place = {key: out[key].iloc[0] for key in KEYS}
            yield place, out.set_index("photo").rounds_out / (rounds[cell] - 1)


def hits(out: pd.Series, photos: ScoredPhotos, known: dict[str, pd.Series]) -> list[dict]:
    """How well the share of rounds that photos were out of finds those of a target."""
    labels = pd.Series(merge_rare(photos.table.score.to_numpy())[0], photos.table.photo)
    labels = labels[out.index]
    out = out[labels.isin(largest_classes(labels.to_numpy()))]
    found = []
    for target, truth in known.items():
        is_one = truth[out.index].to_numpy(bool)
        row = {"target": target, "photos": len(out), "base_rate": is_one.mean()}
        row |= {"share_out": out.mean(), "precision": np.average(is_one, weights=out)}
        row |= {"recall": out[is_one].mean(), "auc": roc_auc_score(is_one, out)}
        found.append(row)
    return found


if __name__ == "__main__":
    tyro.cli(main)
