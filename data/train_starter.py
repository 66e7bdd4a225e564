"""Trains the starter weights: glass-box photos of the starter scenes, craft attributes, no scores.

    .venv/bin/python data/train_starter.py --out data/starter_squeezenet1_1.safetensors

A tenth of the photos is held out; the rank correlation of each attribute there is printed. The
transferred layers alone are written, in half precision, with the names of torchvision's layers.
"""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import tyro
from safetensors.torch import save_file
from scipy.stats import spearmanr
from torch.nn import functional

from rsrl_lib.drawing import glassbox
from rsrl_lib.network import aesthetic_net
from rsrl_lib.pixels import decode
from rsrl_lib.recipe import Torchvision, Training
from rsrl_lib.sources import read_folder
from rsrl_lib.training import fine_tune, logits


def train_starter(
    out: Path,
    backbone: Torchvision = "squeezenet1_1",
    count: int = 9000,
    epochs: int = 10,
    learning_rate: float = 1e-3,
    seed: int = 1000,
) -> None:
    """Train a network from random weights to predict the six craft attributes."""
    training = Training(learning_rate=learning_rate, epochs=epochs, batch=64)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "photos"
        listed = glassbox.write(folder, count, seed=seed, scenes=glassbox.STARTER_SCENES)
        photos = read_folder(folder, listed, attribute_columns=glassbox.ATTRIBUTES)
        pixels, _ = decode(photos.table, cache=Path(scratch))
        wanted = torch.tensor(photos.attributes.to_numpy("float32"))  # (photos, attributes)
        held_out, rows = np.split(np.random.default_rng(seed).permutation(count), [count // 10])
        network = aesthetic_net(backbone, range(wanted.shape[1]), weights="none", seed=seed)
        fine_tune(
            network,
            pixels,
            rows,
            wanted[rows],
            training,
            loss=functional.binary_cross_entropy_with_logits,
            seed=seed,
            title="starter",
        )
        guessed = logits(network, pixels, held_out)
    state = network.body.state_dict()
    if backbone == "alexnet":  # its fully connected layers do not fit in a small file
        state = {name: values for name, values in state.items() if name.startswith("features")}
    save_file({name: v.half().cpu().contiguous() for name, v in state.items()}, out)
    found = pd.Series(
        [spearmanr(g, w).statistic for g, w in zip(guessed.T, wanted[held_out].T, strict=True)],
        glassbox.ATTRIBUTES,
    )
    print(f"Rank correlations on {len(held_out)} held-out photos:\n{found.round(2).to_string()}")


if __name__ == "__main__":
    tyro.cli(train_starter)
