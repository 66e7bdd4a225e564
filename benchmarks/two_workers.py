"""A sweep on a Dask cluster of one worker and of two, and on joblib processes: what is gained?

    .venv/bin/python benchmarks/two_workers.py

Scheduler and workers are processes of their own, each worker with one thread for matrix work, so
two of them use two cores; how much faster two such processes are on this machine than one, with
nothing in common, is measured first. Eight cells of a small grid (glass-box photos, SqueezeNet 1.1
from the starter weights at 96 px, three rounds of 24 steps); the tables are compared as well.
Workers have imported the library before the clock starts.
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from rsrl_lib.comparing.sweeps import read_results, sweep

GRID = """
[photos]
glassbox = {count = 120, seed = 0}
[grid]
folds = [0, 1]
[common]
backbone = "squeezenet1_1"
weights = "starter"
rounds = 3
steps = 24
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
            client.run(lambda: __import__("rsrl_lib.comparing.sweeps") and None)
        yield address
    finally:
        for process in started:
            process.kill()
            process.wait()


def limit():
    """Steps of a network in two processes of one thread, in as many as one does meanwhile."""
    code = """
import time, torch
from rsrl_lib.network import aesthetic_net
torch.set_num_threads(1)
last = torch.channels_last
network = aesthetic_net("squeezenet1_1", range(8), weights="none")
network, photos, steps = network.to(memory_format=last), torch.randn(32, 3, 96, 96), -1
photos = photos.to(memory_format=last)
while steps < 0 or time.perf_counter() < begun + 8:
    begun = time.perf_counter() if steps < 0 else begun
    network(photos).sum().backward()
    steps += 1
print(steps)
"""

    def steps(processes):
        how = {
            "stdout": subprocess.PIPE,
            "text": True,
            "env": os.environ | {"OMP_NUM_THREADS": "1"},
        }
        started = [subprocess.Popen([sys.executable, "-c", code], **how) for _ in range(processes)]
        return sum(int(process.communicate()[0]) for process in started)

    return steps(2) / steps(1)


def main():
    print(f"the machine's own: {limit():.2f}", flush=True)
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

        for workers in (1, 2):
            with cluster(workers) as address:
                timed(f"{workers} Dask", cluster=address)
        for jobs in (1, 2):
            timed(f"{jobs} joblib", jobs=jobs)
    same = all(table.equals(tables[0]) for table in tables)
    for where in ("Dask", "joblib"):
        gain = seconds[f"1 {where}"] / seconds[f"2 {where}"]
        print(f"{where}: two processes are {gain:.2f} times as fast as one")
    print(f"all tables the same: {same}")


if __name__ == "__main__":
    main()
