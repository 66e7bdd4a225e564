"""Which network makes the better starter in a small file: SqueezeNet 1.1 whole, or AlexNet's
convolutions without its fully connected layers.

    .venv/bin/python benchmarks/starter_networks.py

Both learn craft attributes from the same glass-box photos, are cut down to what fits in 5 MB of
half precision, and are fine-tuned on the demo set's training photos; kappa is on its validation
photos.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from safetensors.torch import load_file

from rsrl_lib import glassbox
from rsrl_lib.measures import measures
from rsrl_lib.network import aesthetic_net
from rsrl_lib.photos import ROOT
from rsrl_lib.pixels import decode
from rsrl_lib.protocols import merge_rare, split
from rsrl_lib.training import Training, fine_tune, judge

sys.path.insert(0, str(ROOT / "data"))
from train_starter import train_starter


def main(count=3000, epochs=5):
    scored = glassbox.open_set(700, 0)
    pixels, _ = decode(scored.table)
    labels, _ = merge_rare(scored.table.score.to_numpy())
    parts = split(labels, fold=0, seed=0).to_numpy()
    train, held_out = np.flatnonzero(parts == "train"), parts == "validation"
    for backbone in ("squeezenet1_1", "alexnet"):
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / "starter.safetensors"
            begun = time.perf_counter()
            rate = 1e-3 if backbone == "squeezenet1_1" else 3e-4
            train_starter(file, backbone, count=count, epochs=epochs, learning_rate=rate)
            trained, size = time.perf_counter() - begun, file.stat().st_size / 1e6
            state = {name: values.float() for name, values in load_file(file).items()}
        for pace in (
            Training(learning_rate=3e-4, head_learning_rate=3e-3, batch=16),
            Training(learning_rate=1e-4, head_learning_rate=1e-3, batch=16),
        ):
            network = aesthetic_net(backbone, np.unique(labels), weights="none")
            network.body.load_state_dict(state, strict=False)
            begun = time.perf_counter()
            fine_tune(network, pixels, train, network.nodes(labels[train]), pace, seed=0)
            seconds = time.perf_counter() - begun
            assigned = judge(network, pixels, top_score=4, labels=labels).assigned.to_numpy()
            found = measures(labels[held_out], assigned[held_out], network.scores)
            print(
                f"{backbone}: {size:.1f} MB, trained in {trained:.0f} s; "
                f"fine-tuned at {pace.learning_rate:g} in {seconds:.0f} s: kappa "
                f"{found['kappa']:.2f}, accuracy {found['accuracy']:.2f} "
                f"(majority {found['majority_accuracy']:.2f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
