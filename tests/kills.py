"""Kills trainings, decodings, sweeps and batches of notebooks by SIGKILL, gives the same command
again, and compares what they leave with what one that was never killed left.

    .venv/bin/python tests/kills.py --kills 100

A quarter of the kills each. Half of them come at any moment since the start of the process, half at
a moment since it began to write. After each kill, what stands under a final name is read, and must
be whole. A command may be killed some ten times before it gets through.
"""

import hashlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import tyro
from PIL import Image
from safetensors.torch import load_file

from rsrl_lib.comparing.sweeps import read_results
from rsrl_lib.drawing import glassbox
from rsrl_lib.reading.tables import read_ours
from rsrl_lib.runs import open_run

GRID = """
[photos]
folder = "photos"
scores = "photos/photos.csv"
[grid]
dataset = "glass-box"
folds = [0, 1]
seeds = [0]
[common]
backbone = "squeezenet1_1"
weights = "none"
rounds = 2
steps = 3
batch = 16
shrink_to = 64
[arms."keep training"]
[arms.drop]
keep_share = 0.7
[arms."as many at random"]
control = "random-drop"
keep_share = 0.7
"""
DECODE = """
from pathlib import Path
from rsrl_lib.sources import read_folder
from rsrl_lib.pixels import decode
decode(read_folder(Path("photos"), Path("many.csv")).table, cache=Path(r"{out}"))
"""
RSRL = str(Path(sys.executable).parent / "rsrl")


def commands(out: Path) -> dict[str, list[str]]:
    """A command of each kind; all it writes is below `out`, but for photos decoded before."""
    training = f"""train --photos photos --scores photos/photos.csv --cache cache --run {out}
        --backbone squeezenet1_1 --weights none --rounds 6 --steps 6 --batch 16 --shrink-to 96
        --keep-share 0.7"""
    sweep = f"sweep grid.toml --out {out}/all.csv --cache cache --jobs 2"
    notebooks = f"""notebooks 01 03 --out {out}/notebooks -p run {out}/run -p count 90
        -p other_count 24 -p rounds 3 -p epochs 1 -p figures {out}/figures"""
    return {
        "training": [RSRL, *training.split()],
        "decoding": [sys.executable, "-c", DECODE.format(out=out)],
        "sweep": [RSRL, *sweep.split()],
        "notebooks": [RSRL, *notebooks.split()],
    }


def of_run(folder: Path) -> dict:
    """Everything a run's folder holds, by name; raises where something is not whole."""
    if not (folder / "network_last.safetensors").exists():
        return {}
    run = open_run(folder)
    found = {name: getattr(run, name).to_csv() for name in ("split", "rounds", "per_class")}
    found |= {name: getattr(run, name).to_csv() for name in ("confusion", "samples")}
    for path in folder.glob("*.safetensors"):
        # The order of the facts in a header is arbitrary; the tensors are compared.
        tensors = {name: tensor.numpy().tobytes() for name, tensor in load_file(path).items()}
        found[path.name] = sorted(tensors.items())
    return found


def of_decoding(folder: Path) -> dict:
    paths = [path for path in folder.glob("*.npy") if not path.name.endswith(".broken.npy")]
    arrays = {path.name: np.load(path, mmap_mode="r") for path in paths}
    return {name: hashlib.sha256(array).hexdigest() for name, array in arrays.items()}


def of_sweep(folder: Path) -> dict:
    table = folder / "all.csv"
    if not table.exists():
        return {}
    results = read_results(table)
    found = {"all.csv": results.sort_values(["arm", "fold"]).to_csv(index=False)}
    for path in folder.glob("*.parquet"):
        own = pd.read_parquet(path)
        assert set(results.cell) <= set(own.cell), f"{path} lacks cells of {table}"
        own = own[own.cell.isin(results.cell)].sort_values(["arm", "fold"], kind="stable")
        found[path.name] = own.to_csv(index=False)
    return found


def of_notebooks(folder: Path) -> dict:
    found = of_run(folder / "run")
    for path in (folder / "figures").glob("*.png"):
        with Image.open(path) as picture:
            picture.load()
            found[path.name] = hashlib.sha256(picture.tobytes()).hexdigest()
    for path in (folder / "notebooks").glob("*.ipynb"):
        if not path.name.endswith(".partial.ipynb"):
            cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
            assert all(cell["execution_count"] for cell in cells), f"{path} is not executed whole"
            found[path.name] = len(cells)
    return found


READ = {
    "training": of_run,
    "decoding": of_decoding,
    "sweep": of_sweep,
    "notebooks": of_notebooks,
}


def start(kind: str, out: Path, scratch: Path) -> subprocess.Popen:
    log = (scratch / f"{out.name}.log").open("a")
    return subprocess.Popen(commands(out)[kind], stdout=log, stderr=log, cwd=scratch)


def kill(process: subprocess.Popen) -> None:
    """It and all that it started, kernels and workers too."""
    family = [psutil.Process(process.pid)]
    family += family[0].children(recursive=True)
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()
    psutil.wait_procs(family[1:])


def begins_to_write(out: Path, process: subprocess.Popen) -> None:
    while process.poll() is None and not any(path.is_file() for path in out.rglob("*")):
        time.sleep(0.01)


def torment(kind: str, wanted: int, scratch: Path, chance: random.Random) -> None:
    began = time.monotonic()
    process = start(kind, scratch / f"{kind}_never", scratch)
    begins_to_write(scratch / f"{kind}_never", process)
    start_up = time.monotonic() - began
    assert process.wait() == 0, f"see {scratch}/{kind}_never.log"
    whole = time.monotonic() - began
    expected = READ[kind](scratch / f"{kind}_never")
    print(
        f"{kind}: {whole:.0f} s when it is never killed, of which {start_up:.0f} s before it "
        f"writes; {len(expected)} things are compared",
        flush=True,
    )
    kills, writing, runs = 0, 0, 0
    while kills < wanted:
        runs += 1
        out = scratch / f"{kind}_{runs}"
        while True:
            process = start(kind, out, scratch)
            if late := chance.random() < 0.5:
                before = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
                if before:
                    time.sleep(start_up)
                begins_to_write(out, process)
            try:
                code = process.wait(chance.uniform(0, whole - start_up if late else whole))
                break
            except subprocess.TimeoutExpired:
                kill(process)
                kills, writing = kills + 1, writing + late
            for name, value in READ[kind](out).items():
                growing = kind in ("training", "sweep", "notebooks")
                assert growing or value == expected[name], f"{name} of {out} is not whole"
            if kills >= wanted:
                code = start(kind, out, scratch).wait()
                break
        if code:
            sys.exit(f"{kind} ended with {code} after {kills} kills; see {scratch}/{out.name}.log")
        found = READ[kind](out)
        if differ := [name for name in expected if found.get(name) != expected[name]]:
            sys.exit(f"{', '.join(differ)} differ after {kills} kills; all is in {scratch}.")
        shutil.rmtree(out)
    print(
        f"{kind}: {kills} kills of {runs} runs, {writing} of them since it began to write; all "
        f"{len(expected)} things identical in the end",
        flush=True,
    )


def main(kills: int = 100, seed: int = 0) -> None:
    """Kill `kills` times in all, the moments drawn by `seed`."""
    scratch = Path(tempfile.mkdtemp())
    table = read_ours(glassbox.write(scratch / "photos", 120, seed=5))
    many = [f"many/{n}.jpg" for n in range(2400)]
    (scratch / "photos" / "many").mkdir()
    for number, name in enumerate(many):
        (scratch / "photos" / name).hardlink_to(scratch / "photos" / table.photo[number % 120])
    pd.DataFrame({"photo": many, "score": np.arange(2400) % 5 + 3}).to_csv(
        scratch / "many.csv", index=False
    )
    (scratch / "grid.toml").write_text(GRID)
    for number, kind in enumerate(READ):
        torment(kind, (kills + number) // len(READ), scratch, random.Random(seed + number))
    shutil.rmtree(scratch)


if __name__ == "__main__":
    tyro.cli(main)
