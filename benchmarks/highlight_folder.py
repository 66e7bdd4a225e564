"""`rsrl highlight` over whole folders: photos per second and peak memory, each in its own process.

.venv/bin/python benchmarks/highlight_folder.py 100 2000
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rsrl_lib.drawing import glassbox
from rsrl_lib.pixels import decode
from rsrl_lib.recipe import Recipe, Training
from rsrl_lib.rounds import repeat
from rsrl_lib.sources import read_folder


def main(backbones=("squeezenet1_1", "alexnet")):
    counts = [int(word) for word in sys.argv[1:]]
    rsrl = str(Path(sys.executable).parent / "rsrl")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        glassbox.write(folder / "trained", 100, seed=5)
        scored = read_folder(folder / "trained", folder / "trained" / "photos.csv")
        pixels, _ = decode(scored.table, cache=folder / "cache")
        for count in counts:
            glassbox.write(folder / str(count), count, seed=6)
        for backbone in backbones:
            training = Training(steps=3, learning_rate=1e-3)
            recipe = Recipe(backbone=backbone, weights="none", rounds=2, training=training)
            repeat(scored, pixels, folder / backbone, recipe)
            for count in counts:
                out = folder / f"{backbone}-{count}"
                words = ["highlight", "--run", folder / backbone, "--rounds", "2", "1"]
                words += [folder / str(count) / "photos", "--out", out]
                begun = time.perf_counter()
                quiet = subprocess.DEVNULL
                process = subprocess.Popen([rsrl, *map(str, words)], stdout=quiet, stderr=quiet)
                _, status, used = os.wait4(process.pid, 0)
                seconds = time.perf_counter() - begun
                assert status == 0 and len(list(out.glob("*.png"))) == count
                print(
                    f"{backbone}, {count} photos: {seconds:.0f} s, start-up included "
                    f"({count / seconds:.0f} photos/s), peak {used.ru_maxrss / 1024:.0f} MiB",
                    flush=True,
                )


if __name__ == "__main__":
    main()
