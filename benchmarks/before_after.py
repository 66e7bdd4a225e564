"""The whole repetitive job by an earlier revision of the library and by today's, in turns.

    PYTHONPATH=. .venv/bin/python benchmarks/before_after.py 38bfc4d

Today's `repetitive_job.py` calls both; each process is started twice, and means are printed: 240
photos of 640 x 427, three rounds of two epochs.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import tyro

from benchmarks.cost_curves import draw
from rsrl_lib.photos import ROOT

JOBS = {"alexnet": "none", "squeezenet1_1": "starter"}


def job(library: Path, folder: Path, backbone: str) -> dict[str, float]:
    """What a process that imports the library of a folder prints."""
    words = [ROOT / "benchmarks/repetitive_job.py", "ours", folder, "--backbone", backbone]
    words += ["--weights", JOBS[backbone]]
    command = [sys.executable, "-W", "ignore", *map(str, words)]
    done = subprocess.run(
        command, env={"PYTHONPATH": str(library)}, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    whole = {"whole job, s": found["whole"], "memory, MiB": found["MiB"]}
    return {f"{stage}, s": seconds for stage, seconds in found["seconds"].items()} | whole


def main(revision: tyro.conf.Positional[str], count: int = 240) -> None:
    """Time both, and print one table."""
    with tempfile.TemporaryDirectory() as scratch:
        before, photos = Path(scratch) / "before", Path(scratch) / "photos"
        for words in (["clone", "--quiet", ROOT, before], ["-C", before, "checkout", revision]):
            subprocess.run(["git", *map(str, words)], check=True, capture_output=True)
        draw(Path(scratch), count)
        (Path(scratch) / "scores.csv").rename(photos / "photos.csv")
        rows = [
            {"network": backbone, "library": name, **job(library, photos, backbone)}
            for backbone in JOBS
            for _ in range(2)
            for name, library in (("before", before), ("after", ROOT))
        ]
    means = pd.DataFrame(rows).groupby(["network", "library"], sort=False).mean()
    print(means.T.to_string(float_format="{:.1f}".format))


if __name__ == "__main__":
    tyro.cli(main)
