"""How long the explorers take to answer, in the kernel: milliseconds per interaction.

    .venv/bin/python benchmarks/explorer_interaction.py RUN GAP_RUN

Both are runs over the demo's glass-box photos (demo/run and demo/gap after `make demo`), for the
explorer of highlights and for that of crops. Each setting is passed through twice and the second
time counts, as for somebody who moves a slider back and forth.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from rsrl_lib.drawing import glassbox
from rsrl_lib.interface import widgets
from rsrl_lib.runs import Run, open_run


def interactions(run: Run, gap_run: Run, photos: pd.DataFrame) -> Iterator[tuple[str, list[float]]]:
    """What is changed, and the milliseconds that every change of it takes."""
    crops = widgets._CropExplorer(gap_run, photos)
    explorer = widgets._HighlightExplorer(run, photos)
    rounds = len(run.rounds)
    moves = {
        "round I": (explorer.later, range(2, rounds + 1)),
        "k": (explorer.step, range(rounds - 1, 0, -1)),
        "photo": (explorer.thumbs, range(10, 0, -1)),
        "channel J": (explorer.strip, range(10, 0, -1)),
        "fading": (explorer.fade, (0.1, 0.3, 0.5, 0.7, 0.9)),
        "crops: photo": (crops.thumbs, range(10, 0, -1)),
        "crops: threshold": (crops.threshold, (0.1, 0.5, 0.7, 0.9, 0.3)),
        "crops: aspect ratio": (crops.ratio, ("1:1", "3:2", "2:3", "16:9", "as the region")),
        "crops: level": (crops.level, ("high", "low")),
    }
    for name, (control, values) in moves.items():
        for _ in range(2):
            taken = []
            for value in values:
                begun = time.perf_counter()
                control.value = value
                taken.append(1000 * (time.perf_counter() - begun))
        yield name, taken


def main():
    run, gap_run = (open_run(Path(folder)) for folder in sys.argv[1:3])
    for name, taken in interactions(run, gap_run, glassbox.open_set(700, 0).table):
        print(f"{name}: median {np.median(taken):.0f} ms, longest {max(taken):.0f} ms")


if __name__ == "__main__":
    main()
