"""The whole repetitive job by an earlier revision of the library and by today's, in turns.

    PYTHONPATH=. .venv/bin/python benchmarks/before_after.py 38bfc4d

Today's `repetitive_job.py` calls both; each process is started twice, and means are printed: 240
photos of 640 x 427, three rounds of two epochs; and 24 JPEGs of 12 megapixels, decoded.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import tyro
from PIL import Image

from benchmarks.cost_curves import draw
from rsrl_lib.files import ROOT

JOBS = {"alexnet": "none", "squeezenet1_1": "starter"}
DECODE = """
import sys, time
from pathlib import Path
from rsrl_lib.reading.pictures import read_unscored
from rsrl_lib.pixels import decode
begun, (photos, cache) = time.perf_counter(), map(Path, sys.argv[1:])
decode(read_unscored(photos), cache=cache)
print(time.perf_counter() - begun)
"""


def say(library: Path, *words) -> str:
    """The last line that Python prints with the library of a folder."""
    command = [sys.executable, "-W", "ignore", *map(str, words)]
    how = {
        "env": {"PYTHONPATH": str(library)},
        "cwd": library,
        "capture_output": True,
        "text": True,
    }
    return subprocess.run(command, check=True, **how).stdout.splitlines()[-1]


def job(library: Path, folder: Path, backbone: str) -> dict[str, float]:
    """Seconds of the whole job and of its stages, and MiB."""
    words = [ROOT / "benchmarks/repetitive_job.py", "ours", folder, "--backbone", backbone]
    found = json.loads(say(library, *words, "--weights", JOBS[backbone]))
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
        large = Path(scratch) / "large"
        large.mkdir()
        for path in sorted(photos.glob("*.jpg"))[:24]:
            with Image.open(path) as picture:
                picture.resize((4000, 3000)).save(large / path.name, quality=90)
        for n in range(2):
            for name, library in (("before", before), ("after", ROOT)):
                seconds = float(say(library, "-c", DECODE, large, Path(scratch) / f"{name}{n}"))
                print(f"24 JPEGs of 12 megapixels, {name}: {seconds:.2f} s", flush=True)
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
