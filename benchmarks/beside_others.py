"""Explorers and a training alone and beside other work, as it was before and as it is now.

    PYTHONPATH=. .venv/bin/python benchmarks/beside_others.py

Before: threads of OpenMP that wait keep their cores busy for 3 ms, and explorers use as many as
there are cores. Now: they sleep, and explorers use one. The others are two processes that multiply
matrices on all cores, or two of Python alone. Printed are milliseconds an interaction of both
explorers takes (median and longest), and the seconds of one round of training over 200 drawn
photos, five epochs from starter weights. Everything is done `--repeats` times, the ways in turns,
and the median counts. Nothing else may work on the machine meanwhile.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.explorer_interaction import interactions
from rsrl_lib.drawing import glassbox
from rsrl_lib.files import ROOT
from rsrl_lib.interface import widgets
from rsrl_lib.pixels import decode
from rsrl_lib.recipe import Recipe, Training
from rsrl_lib.rounds import repeat
from rsrl_lib.runs import open_run

OPENMP = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
WAYS = {"before": {"GOMP_SPINCOUNT": "300000"}, "now": {}}  # libgomp's own where nothing is said
OTHERS = {
    "alone": "",
    "beside two on all cores": "import torch; x = torch.randn(1500, 1500)\nwhile True: x @ x",
    "beside two of Python": "while True: pass",
}
SMALL = Recipe("squeezenet1_1", "starter", rounds=3, training=Training(steps=2, shrink_to=64))
LOW_HIGH = Recipe("squeezenet1_1", "starter", rounds=1, levels="low-high", training=SMALL.training)


def environment(way: dict[str, str]) -> dict[str, str]:
    """That of a process in which OpenMP is told no more than `way`."""
    bare = {name: value for name, value in os.environ.items() if name not in OPENMP}
    return bare | way | {"PYTHONPATH": str(ROOT)}


@contextmanager
def busy(code: str):
    """Two processes that work until the end, if there is anything to do for them."""
    words = [sys.executable, "-c", code]
    started = [subprocess.Popen(words, env=environment({})) for _ in range(2 if code else 0)]
    time.sleep(5 if code else 0)
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def measured(scratch: Path, count: int, way: str) -> dict[str, float]:
    """What is measured in this process: explorers and a training."""
    if way == "before":
        widgets.threads = lambda _count: nullcontext()
    photos = glassbox.open_set(count, 0)
    runs = [open_run(scratch / name) for name in ("run", "gap")]
    taken = [ms for _, each in interactions(*runs, photos.table) for ms in each]
    pixels, _ = decode(photos.table, cache=scratch / "cache")
    recipe = Recipe("squeezenet1_1", "starter", rounds=1)
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        repeat(photos, pixels, Path(folder) / "run", recipe)
        seconds = time.perf_counter() - begun
    return {
        "an interaction, ms": np.median(taken),
        "the longest, ms": max(taken),
        "training, s": seconds,
    }


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--count", type=int, default=200)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--in-here", nargs=2, metavar=("FOLDER", "WAY"), help="for its own use")
    asked = options.parse_args()
    if asked.in_here:
        folder, way = asked.in_here
        print(json.dumps(measured(Path(folder), asked.count, way)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        photos = glassbox.open_set(asked.count, 0)
        pixels, _ = decode(photos.table, cache=Path(scratch) / "cache")
        repeat(photos, pixels, Path(scratch) / "run", SMALL)
        repeat(photos, pixels, Path(scratch) / "gap", LOW_HIGH)
        for others, code in OTHERS.items():
            for way, said in [*WAYS.items()] * asked.repeats:
                words = [
                    sys.executable,
                    __file__,
                    "--count",
                    asked.count,
                    "--in-here",
                    scratch,
                    way,
                ]
                with busy(code):
                    told = subprocess.check_output(
                        [*map(str, words)],
                        env=environment(said),
                        text=True,
                        stderr=subprocess.DEVNULL,
                    )
                rows.append({"others": others, "way": way, **json.loads(told.splitlines()[-1])})
                print(rows[-1], file=sys.stderr, flush=True)
    table = pd.DataFrame(rows).groupby(["others", "way"], sort=False).median()
    print(f"{os.cpu_count()} cores, {asked.count} photos, medians of {asked.repeats}")
    print(table.round(1).to_string())


if __name__ == "__main__":
    main()
