"""A sweep on a Dask cluster of one worker and of two, and on joblib processes: what is gained?

    .venv/bin/python benchmarks/two_workers.py

Scheduler and workers are processes of their own, each worker with one thread for matrix work, so
two of them use two cores. Eight cells of a small grid (glass-box photos, SqueezeNet 1.1 from the
starter weights at 96 px, three rounds of eight steps); the tables are compared as well. Workers
have imported the library before the clock starts.
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from rsrl_lib.sweeps import read_results, sweep

GRID = """
[photos]
glassbox = {count = 120, seed = 0}
[grid]
folds = [0, 1]
[common]
backbone = "squeezenet1_1"
weights = "starter"
rounds = 3
steps = 8
shrink_to = 96
precision = "float32"
[arms."keep training"]
k = [0.0]
[arms.own-class]
k = [0.9]
[arms.two-thirds]
keep_share = 0.667
[arms.random]
control = "random-drop"
"""


@contextmanager
def cluster(workers):
    """Address of a scheduler with so many workers."""
    from distributed import Client

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    alone = os.environ | {"OMP_NUM_THREADS": "1"}
    quiet = {"env": alone, "stderr": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    python = [sys.executable, "-m"]
    address = f"tcp://127.0.0.1:{port}"
    scheduler = ["distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", port]
    worker = ["distributed.cli.dask_worker", address, "--nthreads", "1", "--no-nanny"]
    started = [subprocess.Popen([*python, *scheduler, "--no-dashboard"], **quiet)]
    started += [
        subprocess.Popen([*python, *worker, "--no-dashboard"], **quiet) for _ in range(workers)
    ]
    try:
        with Client(address, timeout=30) as client:
            client.wait_for_workers(workers, timeout=60)
            client.run(lambda: __import__("rsrl_lib.sweeps") and None)
        yield address
    finally:
        for process in started:
            process.kill()
            process.wait()


def main():
    seconds, tables = {}, []
    with tempfile.TemporaryDirectory() as scratch:
        grid, cache = Path(scratch, "grid.toml"), Path(scratch, "cache")
        grid.write_text(GRID)

        def timed(name, **where):
            begun = time.perf_counter()
            sweep(grid, Path(scratch, f"{name}.csv"), cache=cache, **where)
            seconds[name] = time.perf_counter() - begun
            tables.append(read_results(Path(scratch, f"{name}.csv")))
            print(f"{name}: {seconds[name]:.0f} s", flush=True)

        for workers in (1, 2, 1):
            with cluster(workers) as address:
                timed(f"{workers} Dask, take {len(tables) + 1}", cluster=address)
        for jobs in (1, 2):
            timed(f"{jobs} joblib", jobs=jobs)
    one = (seconds["1 Dask, take 1"] + seconds["1 Dask, take 3"]) / 2
    same = all(table.equals(tables[0]) for table in tables)
    print(f"two workers are {one / seconds['2 Dask, take 2']:.2f} times as fast as one")
    print(
        f"two joblib processes of one thread against one of two: "
        f"{seconds['1 joblib'] / seconds['2 joblib']:.2f}"
    )
    print(f"all tables the same: {same}")


if __name__ == "__main__":
    main()
