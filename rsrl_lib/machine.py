"""What the work is done by: GPU or processor, threads, precision, and several processes together.

Nothing here knows of photos or networks. Precision and device are chosen here and nowhere else.
"""

import atexit
import os
import platform
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm.auto import tqdm


@cache
def device() -> torch.device:
    """The GPU where there is one, one for each process of `torchrun`, else the processor."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device(
        "cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count()
    )


@cache
def team() -> tuple[int, int]:
    """Which of how many processes this is that train a network together: those of `torchrun`."""
    if not distributed.is_torchelastic_launched():
        return 0, 1
    if device().type == "cuda":
        torch.cuda.set_device(device())
    distributed.init_process_group("nccl" if device().type == "cuda" else "gloo")
    atexit.register(distributed.destroy_process_group)
    return distributed.get_rank(), distributed.get_world_size()


def shared(network: nn.Module) -> nn.Module:
    """The network as it is called to learn: the processes of a `team` share its gradients."""
    return DistributedDataParallel(network) if team()[1] > 1 else network


def averaged(value: torch.Tensor) -> torch.Tensor:
    """The mean of a value over the processes of a `team`."""
    processes = team()[1]
    total = value.clone()
    if processes > 1:
        distributed.all_reduce(total)
    return total / processes


def as_the_first_has_them(values: Iterable[torch.Tensor]) -> None:
    """Give every process of a `team` what its first one has, in place."""
    for value in values if team()[1] > 1 else ():
        distributed.broadcast(value, 0)


def own_share(rows: torch.Tensor) -> torch.Tensor:
    """Those of some rows that this process of a `team` works on."""
    rank, processes = team()
    return rows[rank::processes]


def all_shares(part: torch.Tensor, count: int) -> torch.Tensor:
    """All `count` results, in the order of the rows, from what each process has of its share."""
    processes = team()[1]
    if processes == 1:
        return part
    parts = [part] * processes
    distributed.all_gather_object(parts, part)
    together = torch.empty(count, *part.shape[1:])
    for rank, own in enumerate(parts):
        together[rank::processes] = own
    return together


def wait_for_all() -> None:
    """Until every process of a `team` has come as far."""
    if team()[1] > 1:
        distributed.barrier()


def ahead(items: Iterable) -> Iterator:
    """The same items, each being made while the one before it is worked on."""
    items = iter(items)
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Work by so many threads of torch; afterwards it has as many as before.

    For a photo or two, one is as fast as several, and waits for nobody: several wait for the
    slowest at every step, which beside other work may not get a core.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def cores(root: Path = Path("/")) -> int:
    """Cores that this process may keep busy: those it may run on, or fewer by a container's quota.

    `root` is where the files of the system are (cgroups, version 2 and 1).
    """
    allowed = (
        len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count()
    )
    group = root / "sys" / "fs" / "cgroup"
    for names in (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]):
        try:
            quota, period = " ".join(
                (group / name).read_text() for name in names
            ).split()
        except (OSError, ValueError):
            continue
        if quota.isdigit():  # neither "max" nor -1, which mean none
            allowed = min(allowed, max(1, -(-int(quota) // int(period))))
    return allowed


# Torch counts the cores of the machine, also where a container gets a part of their time.
if "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > cores():
    torch.set_num_threads(cores())
OWN_THREADS = torch.get_num_threads()


def threads_of(machine: dict[str, object]) -> int:
    """How many threads go on with a run that was begun on this `machine`: as many as before.

    Their number changes the last digits. Another one, by `OMP_NUM_THREADS` or
    `torch.set_num_threads`, is kept, and so is a smaller one of a smaller machine; both are told.
    """
    now = torch.get_num_threads()
    before = machine.get("threads", now)
    is_asked_for = "OMP_NUM_THREADS" in os.environ or now != OWN_THREADS
    if before == now or not (is_asked_for or before > cores()):
        return before
    found = f"This run was begun by {before} threads and goes on by {now}"
    tqdm.write(f"{found}: its last digits can differ.", file=sys.stderr)
    return now


def fast_precision() -> str:
    """`bfloat16` where this machine multiplies it in hardware, else `float32`."""
    if device().type == "cuda":
        is_fast = torch.cuda.is_bf16_supported(including_emulation=False)
        return "bfloat16" if is_fast else "float32"
    has_bfloat16 = (
        torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    )
    return "bfloat16" if has_bfloat16 else "float32"


def chosen_precision(asked: str) -> str:
    """`bfloat16` or `float32`; where "auto" is asked for, the fast one of this machine."""
    return fast_precision() if asked == "auto" else asked


def machine(precision: str) -> dict[str, object]:
    """What numbers depend on beside recipe and photos: device, precision, threads, versions."""
    names = {"torch": torch, "torchvision": torchvision, "numpy": np}
    versions = {name: module.__version__ for name, module in names.items()}
    return {
        "device": torch.cuda.get_device_name() if device().type == "cuda" else "cpu",
        "precision": chosen_precision(precision),
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version()} | versions,
    }


def autocast(precision: str) -> torch.autocast:
    """Compute in this precision, or in the fast one of this machine where it is "auto"."""
    is_low = chosen_precision(precision) == "bfloat16"
    return torch.autocast(device().type, torch.bfloat16, enabled=is_low)
