"""Rounds of the head alone on known features: a command, ten rounds, one, and a thousand cells.

    PYTHONPATH=. .venv/bin/python benchmarks/head_rounds.py
    PYTHONPATH=. .venv/bin/python benchmarks/head_rounds.py --seeds 10

450 drawn photos, whose features are computed before anything is timed. A fresh `rsrl train` of ten
rounds takes turns with a process that only imports torch and torchvision. With `--seeds` a sweep of
20 arms, 5 folds and so many seeds follows, ten rounds each. Nothing else should run meanwhile.
Printed, and written to benchmarks/results/head_rounds.csv.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd

from rsrl_lib import heads, rounds
from rsrl_lib.files import ROOT
from rsrl_lib.pixels import decode
from rsrl_lib.recipe import Recipe
from rsrl_lib.sources import read_folder

RSRL = [sys.executable, "-m", "rsrl_lib"]
NETWORKS = {"squeezenet1_1": "starter", "alexnet": "none"}
RUNS = 5
GRID = """
[photos]
folder = "photos"
scores = "photos/photos.csv"
[grid]
folds = [0, 1, 2, 3, 4]
seeds = {seeds}
[common]
backbone = "squeezenet1_1"
weights = "starter"
tune = "head"
rounds = 10
[arms."keep all"]
k = [0.0]
[arms.K]
each_k = [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
[arms."0.6"]
keep_share = 0.6
[arms."0.667"]
keep_share = 0.667
[arms."0.75"]
keep_share = 0.75
[arms."0.8"]
keep_share = 0.8
[arms."0.9"]
keep_share = 0.9
[arms."top class"]
keep_share = 0.667
rule = "top-class"
[arms.prior]
keep_share = 0.667
decide = "prior"
[arms.ordinal]
keep_share = 0.667
decide = "ordinal"
[arms."cross-fitted"]
keep_share = 0.667
judges = "cross-fitted"
[arms."at random"]
keep_share = 0.667
control = "random-drop"
[arms."logit-adjusted"]
k = [0.0]
control = "logit-adjusted"
[arms."class-weighted"]
k = [0.0]
control = "class-weighted"
"""


def seconds_of(command: list[str]) -> float:
    """Wall time of a process."""
    begun = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    return time.perf_counter() - begun


def commands(folder: Path, backbone: str, weights: str) -> list[dict]:
    """A fresh `rsrl train`, in turns with the imports that it cannot do without."""
    train = [*RSRL, "train", "--photos", folder / "photos", "--cache", folder / "cache"]
    train += ["--scores", folder / "photos" / "photos.csv", "--run", folder / "run"]
    train += ["--backbone", backbone, "--weights", weights, "--tune", "head", "--rounds", "10"]
    train = [str(word) for word in train]
    imports = [sys.executable, "-c", "import torch, torchvision"]
    trained, imported = [], []
    for n in range(RUNS + 1):
        taken = [seconds_of(train), seconds_of(imports)]
        if n:  # the first decodes and computes the features
            trained.append(taken[0])
            imported.append(taken[1])
        shutil.rmtree(folder / "run")
    above = np.subtract(trained, imported)
    return [
        row(backbone, "importing torch and torchvision, s", imported),
        row(backbone, "rsrl train --tune head, above that, s", above),
    ]


def ten_rounds(folder: Path, backbone: str, weights: str) -> list[dict]:
    """A run in this process, its files included, and the search for a round's head alone."""
    scored = read_folder(folder / "photos", folder / "photos" / "photos.csv")
    decoded, _ = decode(scored.table, cache=folder / "cache")
    recipe = Recipe(backbone, weights, tune="head", rounds=10)
    searches, wholes = [], []
    real = rounds.fit_head

    def timed(*args, **kwargs):
        begun = time.perf_counter()
        loss = real(*args, **kwargs)
        searches.append(time.perf_counter() - begun)
        return loss

    with patch.object(rounds, "fit_head", timed):
        for _ in range(RUNS):
            heads._prepared.clear()  # the freedom is chosen once a run
            begun = time.perf_counter()
            rounds.repeat(scored, decoded, folder / "again", recipe)
            wholes.append(time.perf_counter() - begun)
            shutil.rmtree(folder / "again")
    return [
        row(backbone, "ten rounds with their files, s", wholes),
        row(backbone, "a round's search for its head, ms", 1000 * np.array(searches)),
    ]


def cells(folder: Path, seeds: int) -> list[dict]:
    """A sweep of 20 arms and 5 folds."""
    (folder / "grid.toml").write_text(GRID.format(seeds=list(range(seeds))))
    sweep = [*RSRL, "sweep", folder / "grid.toml", "--out", folder / "cells.csv"]
    taken = seconds_of([str(word) for word in (*sweep, "--cache", folder / "cache")])
    count = len(pd.read_csv(folder / "cells.csv"))
    return [row("squeezenet1_1", f"{count} cells of ten rounds, min", [taken / 60])]


def row(backbone: str, measure: str, values: list[float]) -> dict:
    median, lowest, highest = np.median(values), np.min(values), np.max(values)
    facts = {"backbone": backbone, "measure": measure}
    return facts | {"median": median, "lowest": lowest, "highest": highest}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--seeds", type=int, default=0)
    options.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/head_rounds.csv")
    asked = options.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        draw = [*RSRL, "glassbox", "--out", folder / "photos", "--count", "450", "--seed", "3"]
        seconds_of([str(word) for word in draw])
        for backbone, weights in NETWORKS.items():
            rows += commands(folder, backbone, weights)
            rows += ten_rounds(folder, backbone, weights)
        if asked.seeds:
            rows += cells(folder, asked.seeds)
    table = pd.DataFrame(rows)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(asked.out, index=False, float_format="%.3g")
    print(table.to_string(index=False, float_format="{:.3g}".format))


if __name__ == "__main__":
    main()
