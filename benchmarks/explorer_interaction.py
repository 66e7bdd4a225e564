"""How long the highlight explorer takes to answer, in the kernel: milliseconds per interaction.

    .venv/bin/python benchmarks/explorer_interaction.py RUN

RUN is a run over the demo's glass-box photos (demo/run after `make demo`). Each setting is passed
through twice and the second time counts, as for somebody who moves a slider back and forth.
"""

import sys
import time
from pathlib import Path

import numpy as np

from rsrl_lib import glassbox, widgets
from rsrl_lib.rounds import open_run


def main():
    run, photos = open_run(Path(sys.argv[1])), glassbox.open_set(700, 0).table
    explorer = widgets._HighlightExplorer(run, photos)
    rounds = len(run.rounds)
    moves = {
        "round I": (explorer.later, range(2, rounds + 1)),
        "k": (explorer.step, range(rounds - 1, 0, -1)),
        "photo": (explorer.thumbs, range(10, 0, -1)),
        "channel J": (explorer.strip, range(10, 0, -1)),
        "fading": (explorer.fade, (0.1, 0.3, 0.5, 0.7, 0.9)),
    }
    for name, (control, values) in moves.items():
        for _ in range(2):
            taken = []
            for value in values:
                begun = time.perf_counter()
                control.value = value
                taken.append(1000 * (time.perf_counter() - begun))
        print(f"{name}: median {np.median(taken):.0f} ms, longest {max(taken):.0f} ms")


if __name__ == "__main__":
    main()
