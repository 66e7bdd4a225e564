"""Does a frozen round show what fine-tuning shows? What was asked: `two_ways_of_tuning.md`.

    .venv/bin/rsrl fetch oasis --out data/oasis
    .venv/bin/python studies/two_ways_of_tuning.py --oasis data/oasis

Trains the four grids `two_ways_….toml` and writes `data/results`:

    two_ways_rounds.csv        a row per training and round: photos kept, measures on test photos
    two_ways_agreement.csv     a row per pair of trainings and round: how far they drop the same
    two_ways_out.csv           a row per pair of trainings: rank correlation of rounds left out
    two_ways_mislabelled.csv   a row per arm: wrong scores among what it drops (`whom_it_drops.py`)
    two_ways_cells.csv         a row per training: seconds, and whether the kept photos settle
    two_ways.json              grids, commands, machines

The fine-tuned trainings of drawn photos are those of `glassbox_arms.csv`. Some of them are run
again, for the photos that each round dropped (way `fine-tuned again`).
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import tyro
import whom_it_drops
from alike import compared, rank_correlations

from rsrl_lib.comparing.comparisons import holm
from rsrl_lib.comparing.grids import Cell, read_grid
from rsrl_lib.comparing.sweeps import DONE, folder_of, sweep
from rsrl_lib.drawing import glassbox
from rsrl_lib.files import ROOT, replacing
from rsrl_lib.protocols import merge_rare, split
from rsrl_lib.reading.tables import read_ours
from rsrl_lib.runs import Run
from rsrl_lib.sources import read_folder
from rsrl_lib.summary import settled

RESULTS = ROOT / "data" / "results"
COMMAND = "python studies/two_ways_of_tuning.py --oasis data/oasis"
STUDIES = Path("studies")
WORK = Path("data/sweeps")
GRIDS = {
    "two_ways_glassbox": "two_ways_glassbox",
    "two_ways_glassbox_again": "two_ways_glassbox",
    "two_ways_oasis": "two_ways_oasis",
    "two_ways_oasis_fine_tuned": "two_ways_oasis",
}
"""Table of each grid."""
SET = (700, 0)
"""Count and seed of the drawn photos."""
DRAWN, REAL = "glass-box", "OASIS, training part"
FROZEN, TWIN = ", frozen", ", twin"
PLACE = ["seed", "fold"]
MEASURES = ["test_macro_f1", "test_accuracy", "test_kappa"]


def main(oasis: Path, jobs: int = 1) -> None:
    """Train what is not trained yet, and write the tables.

    Args:
        oasis: Folder with the photos of OASIS.
        jobs: Trainings at once.
    """
    put_training_part(oasis)
    grids = {}
    for grid, table in GRIDS.items():
        out = WORK / f"{table}.csv"
        sweep(STUDIES / f"{grid}.toml", out, jobs=jobs)
        grids |= json.loads(out.with_suffix(".json").read_text())["grids"]
    runs = list(trained())
    photos = {cell.dataset: len(run.split) for cell, run in runs}
    facts = {"command": COMMAND, "photos": photos, "grids": grids}
    with replacing(RESULTS / "two_ways.json") as partial:
        partial.write_text(json.dumps(facts, indent=1) + "\n")

    tables = {
        "rounds": rounds_of(runs),
        "agreement": agreement(runs),
        "out": left_out_alike(),
        "mislabelled": mislabelled(),
        "cells": pd.DataFrame([of_cell(cell, run) for cell, run in runs]),
    }
    for name, table in tables.items():
        with replacing(RESULTS / f"two_ways_{name}.csv") as partial:
            table.to_csv(partial, index=False, float_format="%.4f")


def put_training_part(oasis: Path) -> None:
    """Put the photos of OASIS that train in fold 0, seed 0, into a folder of their own."""
    scored = read_folder(oasis / "photos", oasis / "photos.csv", mean_column="mean_score")
    paths = scored.table.path.map(Path)
    digests = paths.map(lambda path: hashlib.sha256(path.read_bytes()).hexdigest()).to_numpy()
    labels, _ = merge_rare(scored.table.score.to_numpy(), groups=digests)
    trains = (split(labels, fold=0, seed=0, groups=digests) == "train").to_numpy()

    target = WORK / "oasis_training_part"
    shutil.rmtree(target, ignore_errors=True)
    (target / "photos").mkdir(parents=True)
    for path in paths[trains]:
        (target / "photos" / path.name).symlink_to(path.resolve())
    columns = ["photo", "score", "mean_score"]
    scored.table.loc[trains, columns].to_csv(target / "photos.csv", index=False)


def trained() -> Iterator[tuple[Cell, Run]]:
    """Every training of the four grids, with its run."""
    for grid, table in GRIDS.items():
        for cell in read_grid(STUDIES / f"{grid}.toml"):
            yield cell, Run(folder_of(cell, WORK / f"{table}.csv"))


def named(dataset: str, arm: str) -> dict[str, str]:
    """Photos, way and arm of a training, as the tables have them."""
    if arm.endswith(FROZEN):
        return {"photos": dataset, "way": "frozen", "arm": arm.removesuffix(FROZEN)}
    way = "fine-tuned again" if dataset == DRAWN else "fine-tuned"
    return {"photos": dataset, "way": way, "arm": arm}


def rounds_of(runs: list[tuple[Cell, Run]]) -> pd.DataFrame:
    """Photos kept and measures of every round; of those run here also who comes or goes."""
    tables = []
    for cell, run in runs:
        names = named(cell.dataset, cell.arm) | {"seed": cell.seed, "fold": cell.fold}
        kept = kept_photos(run.samples)
        moved = kept.astype(float).diff(axis=1).abs().mean().to_numpy()  # NaN of the first
        table = run.rounds[["round", "kept", *MEASURES]]
        tables.append(table.assign(**names, photos_in_all=len(kept), moved=moved))

    before = pd.read_parquet(RESULTS / "glassbox_arms_rounds.parquet")
    drops = pd.read_parquet(RESULTS / "glassbox_arms_drops.parquet")
    arms = {named(cell.dataset, cell.arm)["arm"] for cell, _ in runs}
    before = before[before.arm.isin(arms)]
    before = before.assign(
        photos=DRAWN,
        way="fine-tuned",
        photos_in_all=before.cell.map(drops.groupby("cell").size()),
    )
    both = pd.concat([before, *tables], ignore_index=True)
    return both[
        ["photos", "way", "arm", *PLACE, "round", "kept", "photos_in_all", "moved", *MEASURES]
    ]


def kept_photos(samples: pd.DataFrame) -> pd.DataFrame:
    """Whether each training photo (row) was kept in each round (column)."""
    of_training = samples[samples.part == "train"]
    return of_training.pivot(index="photo", columns="round", values="kept")


def agreement(runs: list[tuple[Cell, Run]]) -> pd.DataFrame:
    """How far two trainings of the same photos, rule, seed and fold drop the same, by round.

    The logits of a round decide whom the next one drops, so a row has the logits of round `round`
    and the photos that round + 1 leaves out.
    """
    samples = {}
    for cell, run in runs:
        if run.rounds.kept.nunique() > 1 and cell.recipe.control == "none":
            samples[cell.dataset, cell.arm, cell.seed, cell.fold] = run.samples
    rows = []
    for (dataset, arm, seed, fold), one in samples.items():
        for pair, ending in (("both ways", FROZEN), ("twins", TWIN)):
            other = samples.get((dataset, arm + ending, seed, fold))
            if other is None:
                continue
            place = {"photos": dataset, "pair": pair, "arm": arm, "seed": seed, "fold": fold}
            rows += [place | row for row in compared(one, other)]
    return pd.DataFrame(rows)


def left_out_alike() -> pd.DataFrame:
    """Rank correlation of the rounds that each photo was left out of, of two trainings.

    `both ways` holds frozen trainings against fine-tuned ones. `twins` are the fine-tuned ones of
    `glassbox_arms.csv`, in bfloat16, and the same again in the precision of another machine.
    """
    kept = pd.read_parquet(RESULTS / "glassbox_arms_drops.parquet")
    own = pd.read_parquet(WORK / "two_ways_glassbox_drops.parquet")
    own_real = pd.read_parquet(WORK / "two_ways_oasis_drops.parquet")
    drawn = labels_of(glassbox.set_folder(*SET) / "photos.csv")
    real = labels_of(WORK / "oasis_training_part" / "photos.csv")
    tables = [
        rank_correlations(kept, own, drawn, FROZEN).assign(photos=DRAWN, pair="both ways"),
        rank_correlations(kept, own, drawn, "").assign(photos=DRAWN, pair="twins"),
        rank_correlations(own_real, own_real, real, FROZEN).assign(photos=REAL, pair="both ways"),
    ]
    table = pd.concat(tables, ignore_index=True)
    # What is drawn at random is drawn by the seed, so alike wherever as many are dropped.
    return table[~table.arm.str.startswith("random")]


def labels_of(scores: Path) -> pd.Series:
    """Label of each photo of a set, by name."""
    table = read_ours(scores)
    labels, _ = merge_rare(table.score.to_numpy())
    return pd.Series(labels, table.photo)


def mislabelled() -> pd.DataFrame:
    """Wrong scores among what each arm drops, in both ways, beside chance."""
    scored = glassbox.open_set(*SET)
    facts = read_ours(glassbox.set_folder(*SET) / "photos.csv").set_index("photo")
    is_wrong = facts.mislabelled == 1
    sources = {
        "fine-tuned": RESULTS / "glassbox_arms",
        "frozen": (WORK / "two_ways_glassbox").resolve(),
    }
    hits = {}
    for way, source in sources.items():
        for (_, _, arm), _, out in whom_it_drops.cells_of(str(source)):
            if arm.endswith(FROZEN) == (way == "frozen"):
                key = way, arm.removesuffix(FROZEN)
                hits.setdefault(key, []).append(whom_it_drops.hit(out, scored, is_wrong))
    arms = {arm for way, arm in hits if way == "frozen"}
    rows = []
    for (way, arm), cells in hits.items():
        if arm in arms:
            rows.append({"way": way, "arm": arm, **whom_it_drops.told(cells)})
    table = pd.DataFrame(rows)
    judges = ~table.arm.str.startswith("random")
    table.loc[judges, "p_holm"] = holm(table.p[judges])
    return table


def of_cell(cell: Cell, run: Run) -> dict[str, object]:
    """How long a training took, and whether the photos that it keeps settle."""
    seconds = (run.folder / DONE).stat().st_mtime - (run.folder / "run.json").stat().st_mtime
    samples = run.samples
    sentences = settled(samples)
    state = "neither"
    if kept_photos(samples).to_numpy().all():
        state = "nothing dropped"
    elif sentences:
        state = "settled" if "settled" in sentences[0] else "in turn"
    place = {"seed": cell.seed, "fold": cell.fold}
    return named(cell.dataset, cell.arm) | place | {"seconds": seconds, "kept_photos": state}


if __name__ == "__main__":
    tyro.cli(main)
