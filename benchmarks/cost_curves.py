"""How costs grow with the number of photos: seconds and memory of each stage, and exponents.

    PYTHONPATH=. .venv/bin/python benchmarks/cost_curves.py --counts 500 2000 8000 32000

Photos are drawn once (1,000 of 640 x 427) and written again and again under other names, each with
some bytes after its end, so that every file has a digest of its own. Each count runs in a process
of its own: decoding into the cache, one pass of training and the likelihoods (SqueezeNet 1.1 at 64
px, so that the largest count takes minutes; costs per photo, not their size, are looked at), two
rounds of a run (one step each; the rest is judging, deciding, tables, saving), features and ten
rounds of the head alone (without the features), two figures of chapter 3. Written to
benchmarks/results/cost_curves.csv: a row per count; the exponent b of seconds = a * count^b beside
it in the printed table. Memory is that which cannot be given back (RssAnon, the peak of each
stage): pages of the mapped cache are not.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from rsrl_lib import plots
from rsrl_lib import training as t
from rsrl_lib.drawing import glassbox
from rsrl_lib.features import features
from rsrl_lib.files import ROOT
from rsrl_lib.network import aesthetic_net
from rsrl_lib.pixels import decode
from rsrl_lib.reading.tables import read_ours
from rsrl_lib.recipe import Recipe, Training
from rsrl_lib.rounds import repeat
from rsrl_lib.sources import read_folder


def draw(folder, count):
    """Photos and a table of `count` rows."""
    drawn = folder / "drawn"
    glassbox.write(drawn, min(count, 1000), seed=5)
    table = read_ours(drawn / "photos.csv")
    (folder / "photos").mkdir()
    contents = []
    for name in table.photo:
        with Image.open(drawn / name) as picture:
            larger = (640, 427) if picture.width >= picture.height else (427, 640)
            picture.convert("RGB").resize(larger).save(folder / "larger.jpg", quality=90)
        contents.append((folder / "larger.jpg").read_bytes())
    rows = []
    for n in range(count):
        name = f"{n:06d}.jpg"
        (folder / "photos" / name).write_bytes(contents[n % len(contents)] + f"{n}".encode())
        rows.append((name, table.score[n % len(table)]))
    pd.DataFrame(rows, columns=["photo", "score"]).to_csv(folder / "scores.csv", index=False)


def anonymous(peak):
    """Keep the largest RssAnon of this process in `peak`, in MiB."""
    while True:
        status = Path("/proc/self/status").read_text()
        peak[0] = max(peak[0], int(status.split("RssAnon:")[1].split()[0]) / 1024)
        time.sleep(0.02)


def one(folder):
    """All stages over the photos of a folder; prints JSON."""
    peak = [0.0]
    threading.Thread(target=anonymous, args=(peak,), daemon=True).start()
    seconds, peaks, begun = {}, {}, time.perf_counter()

    def lap(stage):
        nonlocal begun
        seconds[stage], peaks[f"{stage}, MiB"] = time.perf_counter() - begun, peak[0]
        peak[0], begun = 0.0, time.perf_counter()

    scored = read_folder(folder / "photos", folder / "scores.csv")
    lap("reading")
    pixels, _ = decode(scored.table, cache=folder / "cache")
    lap("decoding")
    network = aesthetic_net("squeezenet1_1", range(2, 10), weights="starter")
    nodes = network.nodes(scored.table.score)
    training, rows = Training(epochs=1, shrink_to=64), np.arange(len(pixels))
    t.fine_tune(network, pixels, rows, nodes, training, seed=0)
    lap("training")
    t.logits(network, pixels, **training.view)
    lap("likelihoods")
    features(network, pixels, crops="random", shrink_to=64)
    lap("features of one view")
    few = replace(training, steps=1)
    recipe = Recipe("squeezenet1_1", "starter", rounds=2, training=few)
    run = repeat(scored, pixels, folder / "run", recipe)
    lap("two rounds of a run")
    alone = replace(recipe, tune="head", rounds=10)
    features(network, pixels, **alone.view)
    lap("features of the whole photo and its mirror")
    repeat(scored, pixels, folder / "head", alone)
    lap("ten rounds of the head")
    samples = run.samples
    last = samples[(samples.part == "train") & (samples["round"] == 2)]
    plots.save(plots.likelihoods_by_class(last, {5: 0.9}, "Likelihoods").figure, folder, "a")
    plots.save(plots.life_of_photos(samples, "Lives"), folder, "b")
    lap("two figures of chapter 3")
    sizes = {"cache, MB": sum(p.stat().st_size for p in (folder / "cache").iterdir()) / 1e6}
    sizes["run, MB"] = sum(p.stat().st_size for p in (folder / "run").iterdir()) / 1e6
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = {"photos": len(pixels), **seconds, **sizes, **peaks}
    print(json.dumps(found | {"peak with mapped pages, MiB": rss}))


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--counts", type=int, nargs="+", default=[500, 2000, 8000, 32000])
    options.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/cost_curves.csv")
    asked = options.parse_args()
    if asked.one:
        one(asked.one)
        return
    rows = []
    for count in asked.counts:
        with tempfile.TemporaryDirectory() as scratch:
            draw(Path(scratch), count)
            command = [sys.executable, __file__, "--one", scratch]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                sys.exit(done.stderr[-2000:])
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            print(rows[-1], flush=True)
            shutil.rmtree(scratch, ignore_errors=True)
    table = pd.DataFrame(rows).set_index("photos")
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(asked.out, float_format="%.4g")
    slopes = {
        name: np.polyfit(np.log(table.index), np.log(values), 1)[0]
        for name, values in table.items()
    }
    print(table.T.assign(exponent=pd.Series(slopes)).to_string(float_format="{:.3g}".format))


if __name__ == "__main__":
    main()
