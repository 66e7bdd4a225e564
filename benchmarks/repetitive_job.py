"""The whole repetitive job by one of four loops, in a process of its own.

    python benchmarks/repetitive_job.py KIND FOLDER

KIND is `ours`; `frozen`, ours that trains the head alone; `plain`, the loop of torchvision's
reference scripts, which decodes every photo in every epoch by a `DataLoader` with two workers, in
float32; `fastai`, a `vision_learner` without its own head; `timm`, its loaders, optimiser and
schedule; or `logistic`, features by a `DataLoader` and scikit-learn's logistic regression. All
have the same photos (FOLDER with photos.csv), split, network, starting weights, rounds, epochs,
batches, learning rates, and drop rule, by their own likelihoods. Printed, as JSON: seconds of each
stage and since the process was started, photos passed, peak memory, macro-F1 on test photos.
`bench.py` calls it for each kind.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF

import numpy as np
import pandas as pd
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from rsrl_lib.drop_rules import DropRule, decide, largest_classes
from rsrl_lib.features import features
from rsrl_lib.heads import FREEDOMS, fit_head, freeze, head_logits
from rsrl_lib.losses import joint_targets
from rsrl_lib.measures import measures
from rsrl_lib.network import aesthetic_net
from rsrl_lib.pixels import MEAN, STD, decode
from rsrl_lib.protocols import fold_of_each, merge_rare, split
from rsrl_lib.recipe import Training
from rsrl_lib.sources import read_folder
from rsrl_lib.training import fine_tune, logits

NORMAL = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
RESIZED = transforms.Resize((256, 256), antialias=True)
RANDOM = [RESIZED, transforms.RandomCrop(227), transforms.RandomHorizontalFlip(), *NORMAL]
CENTRE = [RESIZED, transforms.CenterCrop(227), *NORMAL]


class Photos(Dataset):
    """Decodes a photo whenever it is asked for one."""

    def __init__(self, paths, targets, transform):
        self.paths, self.targets, self.transform = paths, targets, transform

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        with Image.open(self.paths[i]) as picture:
            return self.transform(picture.convert("RGB")), self.targets[i]


class Ours:
    """Photos decoded once, precision by the processor."""

    def __init__(self, network, table, training):
        self.network, self.training = network, training
        with tempfile.TemporaryDirectory() as cache:
            self.pixels, _ = decode(table, cache=Path(cache))

    def train(self, rows, nodes, seed):
        fine_tune(self.network, self.pixels, rows, nodes, self.training, seed=seed)

    def logits(self):
        return logits(self.network, self.pixels)


class Frozen(Ours):
    """The head alone, on features that are computed once."""

    def __init__(self, network, table, training):
        super().__init__(network, table, training)
        self.seen = features(network, self.pixels)
        self.frozen = None

    def train(self, rows, nodes, seed):
        attributes = np.empty((len(rows), 0))
        targets = joint_targets(nodes, np.ones(len(rows)), attributes)
        is_first = self.frozen is None
        if is_first:  # then `rows` are all training photos
            folds = fold_of_each(nodes.numpy())
            scores = len(self.network.scores)
            self.frozen = freeze(self.seen, None, rows, targets, folds, levels=scores)
        fit_head(self.network, self.frozen, rows, targets, warm_start=not is_first)

    def logits(self):
        return head_logits(self.network, self.seen)


class Plain:
    """As in torchvision's reference scripts."""

    def __init__(self, network, table, training):
        self.network, self.training = network, training
        self.paths = table.path.to_numpy()
        self.random, self.centre = transforms.Compose(RANDOM), transforms.Compose(CENTRE)

    def optimiser(self, steps):
        groups = [
            {"params": self.network.body.parameters(), "lr": self.training.learning_rate},
            {"params": self.network.head.parameters(), "lr": self.training.head_learning_rate},
        ]
        optimiser = torch.optim.AdamW(groups, weight_decay=self.training.weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        return optimiser, lambda _done: schedule.step()

    def train(self, rows, nodes, seed):
        torch.manual_seed(seed)
        photos = Photos(self.paths[rows], nodes, self.random)
        loader = DataLoader(photos, self.training.batch, shuffle=True, num_workers=2)
        optimiser, after_step = self.optimiser(self.training.epochs * len(loader))
        criterion = torch.nn.CrossEntropyLoss()
        self.network.train()
        done = 0
        for _epoch in range(self.training.epochs):
            for photos, target in loader:
                loss = criterion(self.network(photos), target)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                done += 1
                after_step(done)

    def logits(self):
        self.network.eval()
        photos = Photos(self.paths, np.zeros(len(self.paths)), self.centre)
        with torch.inference_mode():
            batches = DataLoader(photos, 64, num_workers=2)
            found = [self.network(photos) for photos, _ in batches]
        return torch.cat(found).numpy()


class Logistic(Plain):
    """Features of the same two views by a `DataLoader`, heads by scikit-learn."""

    def __init__(self, *given):
        super().__init__(*given)
        mirror = transforms.RandomHorizontalFlip(1.0)
        views = ([RESIZED, *NORMAL], [RESIZED, mirror, *NORMAL])
        seen = [self.features(transforms.Compose(view)) for view in views]
        self.seen = (seen[0] + seen[1]) / 2
        self.model = None

    def features(self, view):
        body = self.network.body.eval()
        photos = Photos(self.paths, np.zeros(len(self.paths)), view)
        with torch.inference_mode():
            batches = DataLoader(photos, 64, num_workers=2)
            return torch.cat([body(photos) for photos, _ in batches]).numpy()

    def train(self, rows, nodes, seed):
        features, nodes = self.seen[rows], nodes.numpy()
        if self.model is None:
            how = {"l1_ratios": (0,), "scoring": "neg_log_loss", "use_legacy_attributes": False}
            chooser = LogisticRegressionCV(Cs=FREEDOMS, cv=5, max_iter=1000, **how)
            self.model = make_pipeline(StandardScaler(), chooser).fit(features, nodes)
            self.freedom = chooser.C_
            return
        head = LogisticRegression(C=self.freedom, max_iter=1000)
        self.model = make_pipeline(StandardScaler(), head).fit(features, nodes)

    def logits(self):
        return self.model.decision_function(self.seen)


class Timm(Plain):
    """timm's transforms, optimiser and schedule around the same network."""

    def __init__(self, *given):
        from timm.data import create_transform

        super().__init__(*given)
        how = {"input_size": (3, 227, 227), "interpolation": "bilinear"}
        self.random = create_transform(is_training=True, **how)
        self.centre = create_transform(crop_pct=227 / 256, **how)

    def optimiser(self, steps):
        from timm.optim import create_optimizer_v2
        from timm.scheduler import CosineLRScheduler

        groups = [
            {"params": list(self.network.body.parameters()), "lr": self.training.learning_rate},
            {"params": self.network.head.parameters(), "lr": self.training.head_learning_rate},
        ]
        decay = {"weight_decay": self.training.weight_decay}
        optimiser = create_optimizer_v2(groups, "adamw", self.training.learning_rate, **decay)
        return optimiser, CosineLRScheduler(optimiser, steps, t_in_epochs=True).step


class Fastai:
    """`vision_learner` with fastai's data blocks, one-cycle schedule and optimiser."""

    def __init__(self, network, table, training):
        from fastai.vision import all as f

        self.f, self.training, self.paths = f, training, table.path.to_numpy()
        self.scores, self.learner = network.scores, None
        features, *rest = network.body.children()
        self.head = torch.nn.Sequential(rest[0], torch.nn.Flatten(), *rest[1:], network.head)
        self.arch = lambda **_: torch.nn.Sequential(features, self.head)

    def loaders(self, rows, nodes):
        f = self.f
        size = f.Resize((256, 256), method="squish")
        block = f.DataBlock(
            (f.ImageBlock, f.CategoryBlock(vocab=range(len(self.scores)), sort=False)),
            get_x=f.ColReader("path"),
            get_y=f.ColReader("node"),
            splitter=lambda table: (range(len(table)), [0]),  # it insists on something to validate
            item_tfms=[size, f.RandomCrop(227), f.FlipItem()],
            batch_tfms=[f.Normalize.from_stats(MEAN, STD)],
        )
        table = pd.DataFrame({"path": self.paths[rows], "node": nodes.numpy()})
        return block.dataloaders(table, bs=self.training.batch, num_workers=2)

    def train(self, rows, nodes, seed):
        f, training = self.f, self.training
        f.set_seed(seed)
        loaders = self.loaders(rows, nodes)
        loaders.train.drop_last = False  # as many steps as the others
        if self.learner is None:
            self.learner = f.vision_learner(
                loaders,
                self.arch,
                cut=1,
                custom_head=self.head,
                pretrained=False,
                init=None,
                normalize=False,
                loss_func=f.CrossEntropyLossFlat(),
                wd=training.weight_decay,
            )
        self.learner.dls = loaders
        self.learner.unfreeze()
        rates = slice(training.learning_rate, training.head_learning_rate)
        with self.learner.no_bar(), self.learner.no_logging():
            self.learner.fit_one_cycle(training.epochs, rates)

    def logits(self):
        photos = self.learner.dls.test_dl(pd.DataFrame({"path": self.paths}), bs=64)
        with self.learner.no_bar(), self.learner.no_logging():
            return self.learner.get_preds(dl=photos, act=self.f.noop)[0].numpy()


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("kind", choices=("ours", "frozen", "plain", "fastai", "timm", "logistic"))
    options.add_argument("folder", type=Path)
    options.add_argument("--backbone", default="alexnet")
    options.add_argument("--weights", default="none")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--epochs", type=int, default=2)
    options.add_argument("--learning-rate", type=float, default=1e-4)
    options.add_argument("--seed", type=int, default=0)
    asked = options.parse_args()
    table = read_folder(asked.folder, asked.folder / "photos.csv").table
    labels, _ = merge_rare(table.score.to_numpy())
    parts = split(labels, fold=asked.seed % 5, seed=0).to_numpy()
    network = aesthetic_net(
        asked.backbone, np.unique(labels), weights=asked.weights, seed=asked.seed
    )
    training = Training(epochs=asked.epochs, learning_rate=asked.learning_rate)
    seconds, passed = {"decoding": 0.0, "training": 0.0, "likelihoods": 0.0}, 0
    begun = time.perf_counter()

    def lap(stage):
        nonlocal begun
        seconds[stage] += time.perf_counter() - begun
        begun = time.perf_counter()

    kinds = {"ours": Ours, "frozen": Frozen, "plain": Plain, "fastai": Fastai, "timm": Timm}
    kinds["logistic"] = Logistic
    loop = kinds[asked.kind](network, table, training)
    lap("decoding")
    train = np.flatnonzero(parts == "train")
    rule, max1 = DropRule(keep_share=0.667), largest_classes(labels[train])[0]
    nodes, kept = network.nodes(labels), np.ones(len(train), bool)
    for i in range(1, asked.rounds + 1):
        rows = train[kept]
        loop.train(rows, nodes[rows], asked.seed * 100 + i)
        lap("training")
        passed += len(rows) * training.epochs
        values = loop.logits()  # (photos, scores)
        lap("likelihoods")
        own = values[train, nodes[train]], values[train, network.scores.index(max1)]
        kept = decide(rule, labels[train], *own, after_round=i).kept
    test = np.flatnonzero(parts == "test")
    assigned = np.array(network.scores)[values.argmax(1)]
    found = {"seconds": seconds, "trained": passed, "judged": len(labels) * asked.rounds}
    measured = measures(labels[test], assigned[test], network.scores)
    found["macro_f1"] = measured["macro_f1"]
    commonest = np.full(len(test), max1)
    found["commonest_f1"] = measures(labels[test], commonest, network.scores)["macro_f1"]
    # The clock of process start, so that imports count.
    ticks = int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19])
    up = float(Path("/proc/uptime").read_text().split()[0])
    found["whole"] = up - ticks / os.sysconf("SC_CLK_TCK")
    peak = [resource.getrusage(who).ru_maxrss / 1024 for who in (RUSAGE_SELF, RUSAGE_CHILDREN)]
    found["MiB"] = peak[0] + (
        2 * peak[1] if asked.kind not in ("ours", "frozen") else 0
    )  # and two loaders
    print(json.dumps(found))


if __name__ == "__main__":
    main()
