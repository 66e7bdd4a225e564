"""Which network makes the better starter in a small file: SqueezeNet 1.1 whole, or AlexNet's
convolutions without its fully connected layers.

    .venv/bin/python studies/starter_networks.py

SqueezeNet's file is the shipped one; AlexNet learns the same craft attributes from as many photos
in as many passes and is cut down to what fits in 5 MB of half precision. Both are fine-tuned on the
demo set's training photos; kappa is on its validation photos.
"""

import itertools
import sys
import tempfile
from pathlib import Path

import numpy as np
from safetensors.torch import load_file

from rsrl_lib.drawing import glassbox
from rsrl_lib.files import ROOT
from rsrl_lib.measures import measures
from rsrl_lib.network import STARTER, aesthetic_net
from rsrl_lib.pixels import decode
from rsrl_lib.protocols import merge_rare, split
from rsrl_lib.recipe import Training
from rsrl_lib.training import fine_tune, judge

sys.path.insert(0, str(ROOT / "data"))
from train_starter import train_starter


def main():
    scored = glassbox.open_set(700, 0)
    pixels, _ = decode(scored.table)
    labels, _ = merge_rare(scored.table.score.to_numpy())
    parts = split(labels, fold=0, seed=0).to_numpy()
    train, held_out = np.flatnonzero(parts == "train"), parts == "validation"
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "alexnet.safetensors"
        train_starter(file, "alexnet", learning_rate=3e-4)
        states = {"squeezenet1_1": load_file(STARTER), "alexnet": load_file(file)}
    for backbone, state in states.items():
        state = {name: values.float() for name, values in state.items()}
        for rate, epochs in itertools.product((3e-4, 1e-4), (5, 10)):
            pace = Training(
                learning_rate=rate, head_learning_rate=10 * rate, epochs=epochs, batch=16
            )
            network = aesthetic_net(backbone, np.unique(labels), weights="none")
            network.body.load_state_dict(state, strict=False)
            fine_tune(network, pixels, train, network.nodes(labels[train]), pace, seed=0)
            assigned = judge(network, pixels, labels=labels).assigned.to_numpy()
            found = measures(labels[held_out], assigned[held_out], network.scores)
            print(
                f"{backbone}, learning rate {rate:g}, {epochs} epochs: kappa {found['kappa']:.2f}, "
                f"accuracy {found['accuracy']:.2f} (majority {found['majority_accuracy']:.2f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
