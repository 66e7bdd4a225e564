"""How fast, against whom, and how far from what this machine can do: `make bench`.

One table, printed and written to benchmarks/results/latest.csv with the columns measure, ours,
other, ratio (how many times faster or smaller ours is) and limit (what the machine's own measured
rate would allow, or what was aimed at). All sides run in this one call, one after the other, each
in a process of its own whose start counts; ours runs first and last, and its mean is taken. fastai
and timm have an environment of their own (.venv-others) that shares this project's PyTorch.

    make bench                    about ten minutes
    make bench BENCH=--long       three seeds from starter weights as well, and rounds of the head
                                  alone against the plain loop, best with --count 500
"""

import argparse
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from rsrl_lib import pixels
from rsrl_lib import training as t
from rsrl_lib.drawing import glassbox
from rsrl_lib.files import ROOT
from rsrl_lib.interface import widgets
from rsrl_lib.machine import fast_precision
from rsrl_lib.network import aesthetic_net, save_network
from rsrl_lib.recipe import Recipe, Training
from rsrl_lib.rounds import repeat
from rsrl_lib.sources import read_folder

OTHERS = ROOT / ".venv-others/bin/python"
LATEST = ROOT / "benchmarks/results/latest.csv"


def job(kind, folder, *options):
    """`repetitive_job.py` in a process of its own; what it prints."""
    python = OTHERS if kind in ("fastai", "timm") else sys.executable
    script = ROOT / "benchmarks/repetitive_job.py"
    command = [python, "-W", "ignore", script, kind, folder, *options]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(list(map(str, command)), env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{kind}: {done.stderr[-2000:]}")
    print(f"{kind}: {done.stdout.strip()}", flush=True)
    return json.loads(done.stdout.splitlines()[-1])


def rate(work, repeats=5):
    """Seconds of the fastest of some calls: what disturbs a machine only ever slows it."""
    taken = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return min(taken)


def matrix_rate(dtype):
    """Measured rate of a matrix product, FLOP/s; of a small one where already that takes long."""
    side = 256
    a = torch.randn(side, side, dtype=dtype)
    if rate(lambda: a @ a, 2) < 0.01:
        side = 2048
    a = torch.randn(side, side, dtype=dtype)
    return 2 * side**3 / rate(lambda: a @ a)


def flops(backbone):
    """Floating-point operations of a photo of 227 px: likelihoods alone, and training."""
    network = aesthetic_net(backbone, range(2, 9), weights="none")
    with FlopCounterMode(display=False) as forward:
        found = network(torch.randn(1, 3, 227, 227))
    with FlopCounterMode(display=False) as backward:
        found.sum().backward()
    return forward.get_total_flops(), forward.get_total_flops() + backward.get_total_flops()


def whole_jobs(folder, backbone, weights, seed, kinds, add, best_rate):
    """Ours against others; every second of every process counts."""
    options = ["--backbone", backbone, "--weights", weights, "--seed", seed]
    options += ["--learning-rate", 3e-4, "--epochs", 4] if weights == "starter" else []
    found = {kind: job(kind, folder, *options) for kind in kinds}
    ours = [found["ours"], job("ours", folder, *options)]
    forward, backward = flops(backbone)
    per_job = ours[0]["trained"] * backward + ours[0]["judged"] * forward
    name = f"{backbone} from {weights}" if weights != "none" else backbone
    title = {"plain": "plain loop", "fastai": "fastai vision_learner", "timm": "timm loop"}
    mean = np.mean([one["whole"] for one in ours])
    for kind in kinds[1:]:
        label = f"whole job vs {title[kind]}"
        label += "" if backbone == "alexnet" else f", {name}"
        add(label, "s", mean, found[kind]["whole"], limit=per_job / best_rate)
    plain = found["plain"]
    for stage, count, cost in (
        ("training", "trained", backward),
        ("likelihoods", "judged", forward),
    ):
        speed = [one[count] / one["seconds"][stage] for one in (*ours, plain)]
        limit = best_rate / cost
        add(f"{stage}, {name}", "photos/s", np.mean(speed[:2]), speed[2], limit, faster=True)
    memory = [max(one["MiB"] for one in ours), plain["MiB"]]
    add(f"peak memory, {name}", "MiB", *memory)
    scores = [ours[0]["macro_f1"], plain["macro_f1"]]
    add(f"macro-F1 of test photos, {name}, seed {seed}", "", *scores, faster=True)


def frozen_job(folder, add):
    """Ten rounds of the head alone against ten of five epochs of the plain loop."""
    options = ["--backbone", "squeezenet1_1", "--weights", "starter", "--learning-rate", 3e-4]
    options += ["--rounds", 10, "--epochs", 5]
    ours = [job("frozen", folder, *options) for _ in range(3)]
    plain = job("plain", folder, *options)
    whole = np.median([one["whole"] for one in ours])
    add("frozen repetitive job vs plain loop", "s", whole, plain["whole"], plain["whole"] / 40)
    # Against heads as one would write them, ten rounds of ours against one of theirs, too.
    theirs = {rounds: job("logistic", folder, *options, "--rounds", rounds) for rounds in (10, 1)}
    for rounds, one in theirs.items():
        label = f"frozen repetitive job vs scikit-learn's heads in {rounds} rounds"
        add(label, "s", whole, one["whole"], one["whole"])
    above = [one["macro_f1"] - one["commonest_f1"] for one in (ours[0], plain)]
    label = "its macro-F1 of test photos above the commonest score's"
    add(label, "", *above, 0.05, faster=True)


def precisions(add):
    """Automatic precision against both that it chooses from."""
    network = aesthetic_net("alexnet", range(2, 9), weights="none")
    array = np.random.default_rng(0).integers(256, size=(32, 256, 256, 3), dtype=np.uint8)
    photos = pixels.Pixels(array)

    def speed(precision, count, repeats):
        training = Training(steps=1, precision=precision)
        rows, nodes = np.arange(count), torch.zeros(count, dtype=int)
        run = partial(t.fine_tune, network, photos, rows, nodes, training, seed=0)
        return count / rate(run, repeats)

    for precision in ("float32", "bfloat16"):
        # Without hardware for it, bfloat16 takes seconds a photo.
        size = (2, 1) if fast_precision() != precision == "bfloat16" else (32, 4)
        speeds = [speed(one, *size) for one in ("auto", precision)]
        label = f"training in automatic precision ({fast_precision()}) vs {precision}, alexnet"
        add(label, "photos/s", *speeds, faster=True)


def decoding(folder, scratch, add):
    """Photos into the cache, against a plain loop of Pillow; small ones and large ones."""
    table = read_folder(folder, folder / "photos.csv").table.head(200)
    large = scratch / "large"
    large.mkdir()
    for path in table.path[:12]:
        with Image.open(path) as picture:
            picture.resize((4000, 3000)).save(large / Path(path).name, quality=90)
    names = [path.name for path in sorted(large.iterdir())]
    others = pd.DataFrame({"photo": names, "path": [str(large / name) for name in names]})
    for label, some in (("640 x 427", table), ("12 megapixels", others)):

        def plain(paths=some.path):
            for path in paths:
                with Image.open(path) as picture:
                    np.array(picture.convert("RGB").resize((256, 256)))

        def draft(paths=some.path):
            for path in paths:
                with Image.open(path) as picture:
                    picture.draft(None, (512, 512))
                    picture.load()

        def ours(table=some):
            pixels.decode(table, cache=Path(tempfile.mkdtemp(dir=scratch)))

        speeds = [len(some) / rate(way, 3) for way in (ours, plain, draft)]
        limit = speeds[2] * os.cpu_count()
        add(f"decoding JPEGs of {label}", "photos/s", *speeds[:2], limit, faster=True)


def saving(scratch, add):
    """A network on the disk for good, against torch.save of network and optimiser."""
    network = aesthetic_net("alexnet", range(2, 9), weights="none")
    optimiser = torch.optim.AdamW(network.parameters())
    for values in network.parameters():
        values.grad = torch.zeros_like(values)
    optimiser.step()
    size = sum(values.nbytes for values in network.parameters())

    def plain():
        state = {"network": network.state_dict(), "optimiser": optimiser.state_dict()}
        write(lambda file: torch.save(state, file))

    def write(how):
        with (scratch / "plain").open("wb") as file:
            how(file)
            file.flush()
            os.fsync(file.fileno())

    content = os.urandom(size)
    seconds = [
        rate(work, 3)
        for work in (
            lambda: save_network(network, scratch / "ours"),
            plain,
            lambda: write(lambda file: file.write(content)),
        )
    ]
    add("saving a round, alexnet", "s", *seconds)


def imports(add):
    """Every module of the library, beyond torch and torchvision."""
    files = sorted((ROOT / "rsrl_lib").rglob("[a-z]*.py"))
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files]
    ours = f"import {', '.join(modules)}"
    code = (
        "import time; a = time.perf_counter(); import torch, torchvision; b = time.perf_counter()"
    )
    code += f"; {ours}; print(b - a, time.perf_counter() - b)"
    runs = [subprocess.check_output([sys.executable, "-c", code], text=True) for _ in range(4)]
    theirs, beyond = np.array([line.split() for line in runs[1:]], float).min(0)
    add("importing rsrl_lib (all modules) vs torch and torchvision", "s", beyond, theirs, 2)


def interaction(folder, scratch, add):
    """The highlight explorer, from a control's change to the new picture, in the kernel."""
    scored = read_folder(folder, folder / "photos.csv")
    small = scored.select(np.arange(120))
    decoded, _ = pixels.decode(small.table, cache=scratch / "explorer")
    training = Training(steps=2, learning_rate=1e-3, shrink_to=64)
    recipe = Recipe("squeezenet1_1", "starter", rounds=3, training=training)
    run = repeat(small, decoded, scratch / "run", recipe)
    explorer = widgets._HighlightExplorer(run, small.table)
    moves = [(explorer.later, (2, 3)), (explorer.thumbs, (3, 2, 1)), (explorer.fade, (0.2, 0.8))]
    first, again = [], []
    for taken in (first, again):
        for control, values in moves:
            for value in values:
                begun = time.perf_counter()
                control.value = value
                taken.append(1000 * (time.perf_counter() - begun))
    label = "explorer interaction, again vs for the first time"
    add(label, "ms", np.median(again), np.median(first), 100)


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--count", type=int, default=240)
    options.add_argument("--long", action="store_true")
    options.add_argument("--out", type=Path, default=LATEST)
    asked = options.parse_args()
    rates = {dtype: matrix_rate(dtype) for dtype in (torch.float32, torch.bfloat16)}
    best = max(rates.values())
    told = ", ".join(f"{str(k)[6:]} {v / 1e12:.3f} TFLOP/s" for k, v in rates.items())
    cpu = platform.processor() or platform.machine()
    print(f"{torch.get_num_threads()} threads of {cpu}; matrix products: {told}")
    rows = []

    def add(measure, unit, ours, other, limit=None, *, faster=False):
        ratio = ours / other if faster else other / ours
        name = f"{measure}, {unit}" if unit and not measure.startswith("whole") else measure
        row = {"measure": name, "ours": ours, "other": other, "ratio": ratio, "limit": limit}
        rows.append(row)
        print(pd.Series(row).to_dict(), flush=True)

    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        folder = scratch / "photos"
        glassbox.write(folder, asked.count, seed=5)
        for path in read_folder(folder, folder / "photos.csv").table.path:
            with Image.open(path) as picture:
                larger = (640, 427) if picture.width >= picture.height else (427, 640)
                bytes_ = io.BytesIO()
                picture.convert("RGB").resize(larger).save(bytes_, "JPEG", quality=90)
            Path(path).write_bytes(bytes_.getvalue())
        everybody = ("ours", "plain", "fastai", "timm")
        whole_jobs(folder, "alexnet", "none", 0, everybody, add, best)
        for seed in range(3 if asked.long else 1):
            kinds = ("ours", "plain")
            whole_jobs(folder, "squeezenet1_1", "starter", seed, kinds, add, best)
        if asked.long:
            frozen_job(folder, add)
        precisions(add)
        decoding(folder, scratch, add)
        saving(scratch, add)
        imports(add)
        interaction(folder, scratch, add)
    for dtype, found in rates.items():
        rows.append(
            {"measure": f"matrix products, {str(dtype)[6:]}, TFLOP/s", "limit": found / 1e12}
        )
    table = pd.DataFrame(rows)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(asked.out, index=False, float_format="%.4g")
    print(table.to_string(index=False, float_format="{:.3g}".format))


if __name__ == "__main__":
    main()
