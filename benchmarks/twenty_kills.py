"""Kills a run at random moments (SIGKILL), resumes it, and compares its tables byte by byte.

    .venv/bin/python benchmarks/twenty_kills.py

Runs are killed again and again until they finish by luck or were killed five times; then they are
finished undisturbed and compared with a run that was never killed.
"""

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rsrl_lib import glassbox
from rsrl_lib.photos import read_folder
from rsrl_lib.pixels import decode

TABLES = ("split.csv", "rounds.csv", "per_class.csv", "confusion.csv", "samples.parquet")


def start(scratch, name):
    """A training process over the photos of `scratch`."""
    words = f"""train --photos {scratch}/photos --scores {scratch}/photos/photos.csv
        --cache {scratch}/cache --run {scratch}/{name} --backbone squeezenet1_1 --weights none
        --rounds 5 --epochs 1 --keep-share 0.7 --learning-rate 0.001"""
    command = [str(Path(sys.executable).parent / "rsrl"), *words.split()]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, stdout=quiet, stderr=quiet)


def contents(folder):
    return {name: (folder / name).read_bytes() for name in TABLES}


def main(wanted=20, seed=0):
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        table = glassbox.write(folder / "photos", 120, seed=5)
        decode(read_folder(folder / "photos", table).table, cache=folder / "cache")
        begun = time.monotonic()
        process = start(folder, "never")
        while not (folder / "never" / "run.json").exists():
            time.sleep(0.05)
        before = time.monotonic() - begun  # imports and reading; nothing can be lost there
        assert process.wait() == 0
        length = time.monotonic() - begun
        expected = contents(folder / "never")
        print(f"A run that is never killed takes {length:.0f} s.", flush=True)
        kills, runs, rounds_found = 0, 0, []
        while kills < wanted:
            runs += 1
            name = f"killed{runs}"
            for _ in range(5):
                process = start(folder, name)
                try:
                    process.wait(before + chance.uniform(-0.05, 0.6) * (length - before))
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                    kills += 1
                    done = folder / name / "rounds.csv"
                    rounds_found.append(
                        len(done.read_text().splitlines()) - 1 if done.exists() else 0
                    )
                if process.returncode == 0 or kills == wanted:
                    break
            assert start(folder, name).wait() == 0
            found = contents(folder / name)
            same = found == expected
            print(f"{name}: {kills} kills so far, tables identical: {same}", flush=True)
            if not same:
                differ = [table for table in TABLES if found[table] != expected[table]]
                sys.exit(f"{', '.join(differ)} differ; killed at {rounds_found} finished rounds.")
        print(f"{kills} kills over {runs} runs, at {rounds_found} finished rounds; all identical.")


if __name__ == "__main__":
    main()
