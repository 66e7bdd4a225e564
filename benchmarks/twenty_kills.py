"""Kills a run at random moments (SIGKILL), resumes it, and compares its tables byte by byte.

    .venv/bin/python benchmarks/twenty_kills.py

Every run is killed five times, each time a random while after a random number of further rounds
(after none: within imports, reading, or the first of them); then it is finished undisturbed and
compared, tables and conv1 of all rounds, with a run that was never killed.
"""

import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from safetensors.torch import load_file

from rsrl_lib import glassbox
from rsrl_lib.photos import read_folder
from rsrl_lib.pixels import decode

TABLES = ("split.csv", "rounds.csv", "per_class.csv", "confusion.csv", "samples.parquet")
WEIGHTS = ("conv1.safetensors", "network_best.safetensors", "network_last.safetensors")
ROUNDS = 8


def start(scratch, name):
    """A training process over the photos of `scratch`."""
    words = f"""train --photos {scratch}/photos --scores {scratch}/photos/photos.csv
        --cache {scratch}/cache --run {scratch}/{name} --backbone squeezenet1_1 --weights none
        --rounds {ROUNDS} --epochs 1 --keep-share 0.7 --learning-rate 0.001"""
    command = [str(Path(sys.executable).parent / "rsrl"), *words.split()]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, stdout=quiet, stderr=quiet)


def finished_rounds(folder):
    table = folder / "rounds.csv"
    return len(table.read_text().splitlines()) - 1 if table.exists() else 0


def contents(folder):
    tables = {name: (folder / name).read_bytes() for name in TABLES}
    # The order of the facts in a safetensors header is arbitrary; the tensors are compared.
    weights = {name: load_file(folder / name) for name in WEIGHTS}
    return tables | {
        name: sorted((key, tensor.numpy().tobytes()) for key, tensor in tensors.items())
        for name, tensors in weights.items()
    }


def main(wanted=20):
    chance = random.Random(0)
    scratch = Path(tempfile.mkdtemp())
    table = glassbox.write(scratch / "photos", 120, seed=5)
    decode(read_folder(scratch / "photos", table).table, cache=scratch / "cache")
    process = start(scratch, "never")
    while finished_rounds(scratch / "never") < 1:
        time.sleep(0.01)
    begun = time.monotonic()
    assert process.wait() == 0
    round_seconds = (time.monotonic() - begun) / (ROUNDS - 1)
    expected = contents(scratch / "never")
    print(f"A round of the run that is never killed takes {round_seconds:.1f} s.", flush=True)
    kills, runs = [], 0
    while len(kills) < wanted:
        runs += 1
        folder = scratch / f"killed{runs}"
        for _ in range(5):
            process = start(scratch, folder.name)
            until = finished_rounds(folder) + chance.choice([0, 0, 1, 1, 2])
            while process.poll() is None and finished_rounds(folder) < until:
                time.sleep(0.005)
            run_up = 8 if until == finished_rounds(folder) else 0
            try:
                process.wait(chance.uniform(0, 1.2) * (round_seconds + run_up))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                kills.append(finished_rounds(folder))
        assert start(scratch, folder.name).wait() == 0
        found = contents(folder)
        differ = [name for name in expected if found[name] != expected[name]]
        print(f"{folder.name}: killed at rounds {kills}, differing: {differ}", flush=True)
        if differ:
            sys.exit(f"{', '.join(differ)} differ; both runs are kept in {scratch}.")
    shutil.rmtree(scratch)
    print(f"{len(kills)} kills over {runs} runs, after {kills} finished rounds; all identical.")


if __name__ == "__main__":
    main()
