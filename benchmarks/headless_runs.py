"""Executes notebooks headless again and again, some at a time: does one ever hang or fail?

    .venv/bin/python benchmarks/headless_runs.py 05 06 --times 50

Smoke size, over a run of two rounds that is made first. A run that takes longer than the limit
counts as hung.
"""

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import papermill
import tyro

from rsrl_lib.drawing import glassbox
from rsrl_lib.files import ROOT
from rsrl_lib.pixels import decode
from rsrl_lib.recipe import Recipe, Training
from rsrl_lib.rounds import repeat


def main(
    names: tyro.conf.Positional[tuple[str, ...]],
    times: int = 50,
    at_once: int = 2,
    limit: int = 180,
) -> None:
    """Execute each of the notebooks `times` times, and say how many hung or failed."""
    rsrl = str(Path(sys.executable).parent / "rsrl")
    # Kernels at once share the cores; a thread each keeps them from waiting for one another.
    alone = os.environ | {"OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(scratch) / "run"
        scored = glassbox.open_set(90, 0)
        pixels, _ = decode(scored.table)
        strangers = glassbox.open_set(24, 0, glassbox.OTHER_SCENES).table
        recipe = Recipe(
            "squeezenet1_1", "starter", rounds=2, training=Training(steps=4, learning_rate=1e-3)
        )
        repeat(scored, pixels, run, recipe, other=(strangers, decode(strangers)[0]))

        chapters = {n: next((ROOT / "notebooks").glob(f"{n}*.ipynb")) for n in names}
        declared = {n: papermill.inspect_notebook(str(path)) for n, path in chapters.items()}

        def execute(job):
            number, name = job
            words = [name, "--out", f"{scratch}/{number}"]
            for parameter, value in {"run": str(run), "count": "90"}.items():
                words += ["-p", parameter, value] if parameter in declared[name] else []
            begun = time.monotonic()
            try:
                quiet = subprocess.DEVNULL
                done = subprocess.run(
                    [rsrl, "notebooks", *words],
                    stdout=quiet,
                    stderr=subprocess.PIPE,
                    env=alone,
                    timeout=limit,
                )
                how = "done" if done.returncode == 0 else f"failed: {done.stderr[-300:]}"
            except subprocess.TimeoutExpired:
                how = "hung"
            return name, how, time.monotonic() - begun

        with ThreadPoolExecutor(at_once) as pool:
            jobs = [
                (n, name) for n, name in enumerate(name for _ in range(times) for name in names)
            ]
            results = list(pool.map(execute, jobs))
    for name in names:
        own = [(how, seconds) for n, how, seconds in results if n == name]
        bad = [how for how, _ in own if how != "done"]
        seconds = np.array([s for _, s in own])
        print(
            f"{name}: {len(own)} runs, {at_once} at a time, {len(bad)} hung or failed "
            f"{sorted(set(bad))}; {np.median(seconds):.0f} s each (longest {seconds.max():.0f} s)"
        )
    sys.exit(any(how != "done" for _, how, _ in results))


if __name__ == "__main__":
    tyro.cli(main)
