"""One network trained by two processes that torchrun starts, against one process alone."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

TRAIN = """
import sys
import numpy as np, torch
from rsrl_lib import losses, training as t
from rsrl_lib.machine import team
from rsrl_lib.recipe import Training
from rsrl_lib.network import aesthetic_net
from rsrl_lib.pixels import Pixels

pixels = Pixels(np.load(sys.argv[1]))
labels = np.arange(len(pixels)) % 3 + 2
backbone = sys.argv[4]
weights = "starter" if backbone == "squeezenet1_1" else "none"
network = aesthetic_net(backbone, [2, 3, 4], weights=weights)
for layer in network.modules():
    if isinstance(layer, torch.nn.Dropout):
        layer.p = 0
rows = np.arange(len(pixels))
weights = 1.0 + rows % 2
targets = losses.joint_targets(network.nodes(labels), weights, np.empty((len(rows), 0)))
# Not AdamW, which divides by gradients that may be nothing but rounding.
steps = {"optimiser": "sgd", "learning_rate": 3e-4, "head_learning_rate": 3e-3, "epochs": 2}
training = Training(**steps, batch=int(sys.argv[3]), precision="float32", shrink_to=96)
view = {"precision": "float32", "shrink_to": 96}
before = t.logits(network, pixels, rows[:11], **view)
loss = t.fine_tune(network, pixels, rows, targets, training, loss=losses.joint_loss, seed=3)
logits = t.logits(network, pixels, rows[:11], **view)
state = torch.cat([values.detach().double().flatten() for values in network.state_dict().values()])
found = {"loss": loss, "logits": logits, "before": before, "state": state}
np.savez(f"{sys.argv[2]}{team()[0]}.npz", **found)
"""


def torchrun(*command, cwd):
    start = [str(Path(sys.executable).with_name("torchrun")), "--standalone", "--nproc-per-node=2"]
    return subprocess.run(
        [*start, *map(str, command)], cwd=cwd, capture_output=True, text=True, timeout=300
    )


# Of 23 photos in batches of 11 the last batch has one, and one of the processes nothing of it.
# Batch normalisation (ResNet-18) sees a share, so that one process alone trains another network.
@pytest.mark.parametrize(
    ("backbone", "batch"), [("squeezenet1_1", 8), ("squeezenet1_1", 11), ("resnet18", 8)]
)
def test_two_processes_train_the_network_that_one_trains(coloured, tmp_path, backbone, batch):
    np.save(tmp_path / "photos.npy", coloured[1].array[:23])
    script = tmp_path / "train.py"
    script.write_text(TRAIN)
    done = torchrun(script, "photos.npy", "both", batch, backbone, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    alone = [sys.executable, str(script), "photos.npy", "alone", str(batch), backbone]
    subprocess.run(alone, cwd=tmp_path, check=True, capture_output=True)
    one, first, second = (np.load(tmp_path / f"{n}.npz") for n in ("alone0", "both0", "both1"))
    for name in ("loss", "logits", "state"):
        assert np.array_equal(first[name], second[name])
        assert backbone == "resnet18" or np.allclose(one[name], first[name], atol=1e-5)
    assert np.abs(one["logits"] - one["before"]).max() > 0.05  # the tolerance is no change


def test_a_run_under_torchrun_is_whole_goes_on_and_is_refused_with_its_sentence(coloured, tmp_path):
    table = coloured[0].table[["photo", "score"]]
    table.to_csv(tmp_path / "scores.csv", index=False)
    folder = Path(coloured[0].table.path[0]).parent
    rsrl = Path(sys.executable).with_name("rsrl")
    command = ["--no-python", "--", rsrl, "train", "--photos", folder, "--scores", "scores.csv"]
    command += ["--run", "run", "--backbone", "squeezenet1_1", "--weights", "starter"]
    command += ["--steps", 2, "--shrink-to", 64, "--cache", "cache"]
    done = torchrun(*command, "--rounds", 2, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("The run is finished") == 1
    assert len(pd.read_csv(tmp_path / "run" / "rounds.csv")) == 2
    refused = torchrun(*command, "--rounds", 2, "--batch", 4, cwd=tmp_path)
    assert refused.returncode != 0
    assert "holds a run of another recipe (batch 32 there and 4 now)" in refused.stderr
    further = torchrun(*command, "--rounds", 3, cwd=tmp_path)
    assert further.returncode == 0, further.stderr[-2000:]
    assert len(pd.read_csv(tmp_path / "run" / "rounds.csv")) == 3


def test_what_comes_ahead_comes_in_order_and_its_error_is_raised():
    from rsrl_lib.machine import ahead

    def items():
        yield from range(5)
        raise OSError("gone")

    seen = []
    with pytest.raises(OSError, match="gone"):
        seen.extend(ahead(items()))
    assert seen == [0, 1, 2, 3, 4]
    assert not list(ahead(iter(())))
    assert torch.equal(torch.tensor(list(ahead(range(1, 4)))), torch.tensor([1, 2, 3]))
