"""Peak memory of a run over a number of photos, in a process of its own.

.venv/bin/python benchmarks/peak_memory.py 500
.venv/bin/python benchmarks/peak_memory.py 5000
"""

import resource
import sys
import tempfile
from pathlib import Path

from rsrl_lib import glassbox
from rsrl_lib.photos import read_folder
from rsrl_lib.pixels import decode
from rsrl_lib.rounds import Recipe, repeat
from rsrl_lib.training import Training


def main():
    count = int(sys.argv[1])
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        glassbox.write(folder / "photos", count, seed=5)
        scored = read_folder(folder / "photos", folder / "photos" / "photos.csv")
        pixels, _ = decode(scored.table, cache=folder / "cache")
        recipe = Recipe(
            backbone="squeezenet1_1", weights="none", rounds=2, training=Training(epochs=1)
        )
        repeat(scored, pixels, folder / "run", recipe)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{count} photos: peak resident memory {peak:.0f} MiB (mapped photos included)")


if __name__ == "__main__":
    main()
