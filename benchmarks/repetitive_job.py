"""The whole repetitive job, side by side: a plain fine-tuning loop against this library.

The plain loop is the one of torchvision's reference scripts: an `ImageFolder`-like dataset that
decodes every photo in every epoch, a `DataLoader` with two workers, float32. Both sides see the
same photos (glass-box scenes redrawn at about 640 x 427), splits, rounds, epochs, batches, drop
decisions by the same rule and the same number of gradient steps. One process, one run:

    .venv/bin/python benchmarks/repetitive_job.py

prints photos per second in training and in the likelihood pass, the time of the whole job, macro-F1
of both, the machine's measured bfloat16 matrix rate and the share of it that training reaches.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms

from rsrl_lib import glassbox
from rsrl_lib.drop_rules import DropRule, decide, largest_classes
from rsrl_lib.measures import measures
from rsrl_lib.network import aesthetic_net
from rsrl_lib.photos import read_folder
from rsrl_lib.pixels import MEAN, STD, decode
from rsrl_lib.protocols import merge_rare, split
from rsrl_lib.training import Training, fast_precision, fine_tune, judge


class Photos(Dataset):
    """Decodes a photo whenever it is asked for one."""

    def __init__(self, paths, targets, transform):
        self.paths, self.targets, self.transform = paths, targets, transform

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        with Image.open(self.paths[i]) as picture:
            return self.transform(picture.convert("RGB")), self.targets[i]


NORMAL = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
RESIZED = transforms.Resize((256, 256), antialias=True)
RANDOM = [RESIZED, transforms.RandomCrop(227), transforms.RandomHorizontalFlip(), *NORMAL]
CENTRE = [RESIZED, transforms.CenterCrop(227), *NORMAL]


def plain_epochs(network, paths, targets, training):
    """One round of the plain loop; returns the steps it took."""
    data = Photos(paths, targets, transforms.Compose(RANDOM))
    loader = DataLoader(data, training.batch, shuffle=True, num_workers=2)
    groups = [
        {"params": network.body.parameters(), "lr": training.learning_rate},
        {"params": network.head.parameters(), "lr": training.head_learning_rate},
    ]
    optimiser = torch.optim.AdamW(groups, weight_decay=training.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, training.epochs * len(loader))
    criterion = torch.nn.CrossEntropyLoss()
    network.train()
    for _ in range(training.epochs):
        for photos, target in loader:
            loss = criterion(network(photos), target)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()


def plain_likelihoods(network, paths, labels, top_score):
    """The plain likelihood pass: own and top likelihood, assigned node."""
    data = Photos(paths, np.searchsorted(network.scores, labels), transforms.Compose(CENTRE))
    network.eval()
    own, top, assigned = [], [], []
    with torch.inference_mode():
        for photos, target in DataLoader(data, 64, num_workers=2):
            judged = network(photos).sigmoid()
            own += judged[torch.arange(len(target)), target].tolist()
            top += judged[:, network.scores.index(top_score)].tolist()
            assigned += judged.argmax(1).tolist()
    scores = np.array(network.scores)[assigned]
    return pd.DataFrame({"own_likelihood": own, "top_likelihood": top, "assigned": scores})


def job(kind, scored, labels, parts, training, *, cache, backbone, weights, rounds, seed):
    """The repetitive job one way or the other: seconds by stage, photos passed, test macro-F1."""
    seconds = {"decode": 0.0, "train": 0.0, "likelihoods": 0.0}
    passed = {"train": 0, "likelihoods": 0}
    paths = scored.table.path.to_numpy()
    network = aesthetic_net(backbone, np.unique(labels), weights=weights, seed=seed)
    train = np.flatnonzero(parts == "train")
    rule, max1 = DropRule(keep_share=0.667), largest_classes(labels[train])[0]
    kept = np.ones(len(train), bool)
    if kind == "ours":
        started = time.perf_counter()
        pixels, _ = decode(scored.table, cache=cache)
        seconds["decode"] = time.perf_counter() - started
    for i in range(1, rounds + 1):
        rows = train[kept]
        started = time.perf_counter()
        if kind == "ours":
            fine_tune(network, pixels, rows, network.nodes(labels[rows]), training, seed=seed + i)
        else:
            torch.manual_seed(seed + i)
            plain_epochs(network, paths[rows], network.nodes(labels[rows]), training)
        trained = time.perf_counter()
        if kind == "ours":
            table = judge(network, pixels, top_score=max1, labels=labels)
        else:
            table = plain_likelihoods(network, paths, labels, max1)
        seconds["likelihoods"] += time.perf_counter() - trained
        seconds["train"] += trained - started
        passed["train"] += len(rows) * training.epochs
        passed["likelihoods"] += len(table)
        of_train = table.iloc[train]
        decision = decide(
            rule,
            labels[train],
            of_train.own_likelihood.to_numpy(),
            of_train.top_likelihood.to_numpy(),
            after_round=i,
        )
        kept = decision.kept
    test = np.flatnonzero(parts == "test")
    found = measures(labels[test], table.assigned.to_numpy()[test], network.scores)
    return seconds, passed, found["macro_f1"]


def matrix_rate(side=2048, repeats=6):
    """Best measured rate of a bfloat16 matrix product, in FLOP/s."""
    a = torch.randn(side, side, dtype=torch.bfloat16)
    rates = []
    for _ in range(repeats):
        started = time.perf_counter()
        a @ a
        rates.append(2 * side**3 / (time.perf_counter() - started))
    return max(rates)


def training_flops(network):
    """Floating-point operations of one photo, forward and backward, at 227 px."""
    with FlopCounterMode(display=False) as counter:
        network(torch.randn(1, 3, 227, 227)).sum().backward()
    return counter.get_total_flops()


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--count", type=int, default=500)
    options.add_argument("--rounds", type=int, default=4)
    options.add_argument("--epochs", type=int, default=3)
    options.add_argument("--backbone", default="alexnet")
    options.add_argument("--weights", default="none")
    options.add_argument("--learning-rate", type=float, default=1e-4)
    options.add_argument("--seeds", type=int, default=1)
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        compare(asked, Path(scratch))


def compare(asked, scratch):
    """Draw the photos, run both loops for every seed, print the table."""
    folder = scratch / "photos"
    glassbox.write(folder, asked.count, seed=5)
    scored = read_folder(folder, folder / "photos.csv")
    for path in scored.table.path:
        with Image.open(path) as picture:
            larger = (640, 427) if picture.width >= picture.height else (427, 640)
            picture.convert("RGB").resize(larger, Image.Resampling.BICUBIC).save(path, quality=90)
    labels, _ = merge_rare(scored.table.score.to_numpy())
    training = Training(epochs=asked.epochs, learning_rate=asked.learning_rate)
    how = {"backbone": asked.backbone, "weights": asked.weights, "rounds": asked.rounds}
    peak = matrix_rate()
    flops = training_flops(aesthetic_net(asked.backbone, np.unique(labels), weights="none"))
    print(f"{asked.count} photos, {torch.get_num_threads()} threads, {fast_precision()}, {how}")
    print(
        f"bfloat16 matrix rate {peak / 1e12:.2f} TFLOP/s; training {flops / 1e9:.2f} GFLOP a photo"
    )
    rows = []
    for seed in range(asked.seeds):
        parts = split(labels, fold=seed % 5, seed=0).to_numpy()
        for kind in ("plain", "ours"):
            seconds, passed, macro_f1 = job(
                kind,
                scored,
                labels,
                parts,
                training,
                cache=scratch / f"{seed}",
                **how,
                seed=seed * 100,
            )
            speed = passed["train"] / seconds["train"]
            row = {"loop": kind, "seed": seed, "whole job s": sum(seconds.values())}
            row |= {"decode s": seconds["decode"], "training photos/s": speed}
            row["likelihood photos/s"] = passed["likelihoods"] / seconds["likelihoods"]
            row |= {"share of matrix rate": speed * flops / peak, "test macro-F1": macro_f1}
            rows.append(row)
            print(pd.Series(row).to_string(), flush=True)
    table = pd.DataFrame(rows)
    means = table.groupby("loop").mean(numeric_only=True)
    print(table.to_string(index=False, float_format="{:.3f}".format))
    print(
        f"whole job: {means.loc['plain', 'whole job s'] / means.loc['ours', 'whole job s']:.2f} "
        "times the plain loop's speed"
    )


if __name__ == "__main__":
    main()
