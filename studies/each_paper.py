"""The three documents that retrain, each by its own protocol, beside the same with nothing dropped.

    PYTHONPATH=. .venv/bin/python studies/each_paper.py --count 100

On drawn photos, from the starter weights of SqueezeNet 1.1: the one deviation from each document.
Written to data/results/each_paper.csv: a row a document, arm and round. One seed and one fold, so
what it shows is how the protocols go, not that one of them is better.
"""

import argparse
from pathlib import Path

import pandas as pd

from rsrl_lib.drawing import glassbox
from rsrl_lib.files import ROOT, WORK
from rsrl_lib.papers import recipe_of
from rsrl_lib.pixels import decode
from rsrl_lib.rounds import repeat

PAPERS = ("ssrl-2019", "rsrl-a", "rsrl-b")
OTHERS = {"backbone": "squeezenet1_1", "weights": "starter"}
ARMS = {"as published": {}, "nothing dropped": {"k": (0.0,)}}
SHOWN = ["round", "kept", "k1", "loss", "chosen"]
SHOWN += [
    f"{part}_{measure}"
    for part in ("train", "test")
    for measure in ("accuracy", "majority_accuracy", "macro_f1", "total_f", "quadratic_loss")
]


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--count", type=int, default=100)
    options.add_argument("--work", type=Path, default=WORK / "runs" / "each_paper")
    options.add_argument("--out", type=Path, default=ROOT / "data/results/each_paper.csv")
    asked = options.parse_args()
    photos = glassbox.open_set(asked.count, 0)
    pixels, _ = decode(photos.table)
    tables = []
    for paper in PAPERS:
        for arm, changes in ARMS.items():
            recipe = recipe_of(paper, **OTHERS, **changes)
            folder = asked.work / f"{paper} {arm}".replace(" ", "_")
            run = repeat(photos, pixels, folder, recipe)
            tables.append(run.rounds[SHOWN].assign(paper=paper, arm=arm, photos=len(photos)))
            together = pd.concat(tables)
            together.to_csv(asked.out, index=False, float_format="%.4f")


if __name__ == "__main__":
    main()
