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
from math import ceil
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
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    return torch.device("cuda", local_rank % torch.cuda.device_count())


@cache
def team() -> tuple[int, int]:
    """Which of how many processes this is that train a network together: those of `torchrun`."""
    if not distributed.is_torchelastic_launched():
        return 0, 1
    if device().type == "cuda":
        torch.cuda.set_device(device())
        distributed.init_process_group("nccl")
    else:
        distributed.init_process_group("gloo")
    atexit.register(distributed.destroy_process_group)
    return distributed.get_rank(), distributed.get_world_size()


def shared(network: nn.Module) -> nn.Module:
    """The network as it is called to learn: the processes of a `team` share its gradients."""
    _, processes = team()
    return DistributedDataParallel(network) if processes > 1 else network


def averaged(value: torch.Tensor) -> torch.Tensor:
    """The mean of a value over the processes of a `team`."""
    _, processes = team()
    total = value.clone()
    if processes > 1:
        distributed.all_reduce(total)
    return total / processes


def as_the_first_has_them(values: Iterable[torch.Tensor]) -> None:
    """Give every process of a `team` what its first one has, in place."""
    _, processes = team()
    if processes == 1:
        return
    for value in values:
        distributed.broadcast(value, 0)


def own_share(rows: torch.Tensor) -> torch.Tensor:
    """Those of some rows that this process of a `team` works on."""
    rank, processes = team()
    return rows[rank::processes]


def all_shares(part: torch.Tensor, count: int) -> torch.Tensor:
    """All `count` results, in the order of the rows, from what each process has of its share."""
    _, processes = team()
    if processes == 1:
        return part
    parts = [part] * processes
    distributed.all_gather_object(parts, part)
    together = torch.empty(count, *part.shape[1:])
    for rank, part_of_rank in enumerate(parts):
        together[rank::processes] = part_of_rank
    return together


def wait_for_all() -> None:
    """Until every process of a `team` has come as far."""
    _, processes = team()
    if processes > 1:
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
    has_affinity = hasattr(os, "sched_getaffinity")
    allowed = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count()
    group = root / "sys" / "fs" / "cgroup"
    for names in (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]):
        try:
            texts = [(group / name).read_text() for name in names]
            quota, period = " ".join(texts).split()
        except (OSError, ValueError):
            continue
        if quota.isdigit():  # neither "max" nor -1, which mean none
            of_quota = ceil(int(quota) / int(period))
            allowed = min(allowed, max(1, of_quota))
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
    tqdm.write(
        f"This run was begun by {before} threads and goes on by {now}: its last digits can "
        "differ.",
        file=sys.stderr,
    )
    return now


def fast_precision() -> str:
    """`bfloat16` where this machine multiplies it in hardware, else `float32`."""
    if device().type == "cuda":
        is_fast = torch.cuda.is_bf16_supported(including_emulation=False)
        return "bfloat16" if is_fast else "float32"
    has_avx512 = torch.cpu._is_avx512_bf16_supported()
    is_fast = has_avx512 or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if is_fast else "float32"


def chosen_precision(asked: str) -> str:
    """`bfloat16` or `float32`; where "auto" is asked for, the fast one of this machine."""
    return fast_precision() if asked == "auto" else asked


def machine(precision: str) -> dict[str, object]:
    """What numbers depend on beside recipe and photos: device, precision, threads, versions."""
    is_on_gpu = device().type == "cuda"
    return {
        "device": torch.cuda.get_device_name() if is_on_gpu else "cpu",
        "precision": chosen_precision(precision),
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "numpy": np.__version__,
        },
    }


def autocast(precision: str) -> torch.autocast:
    """Compute in this precision, or in the fast one of this machine where it is "auto"."""
    is_low = chosen_precision(precision) == "bfloat16"
    return torch.autocast(device().type, torch.bfloat16, enabled=is_low)
