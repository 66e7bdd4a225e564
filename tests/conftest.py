"""Shared by the tests: a tiny scored folder that a network learns in seconds, and real photos."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rsrl_lib import pixels, recipe, record, sources

# A shell's background jobs ignore Ctrl-C, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]
COLOURS = {2: (200, 40, 40), 3: (40, 160, 40), 4: (40, 60, 200), 5: (210, 200, 60)}
SIZES = {2: 6, 3: 14, 4: 24, 5: 16}


def draw_coloured_photos(folder: Path) -> Path:
    """60 small photos whose score is their colour, some scored wrongly; returns the CSV."""
    rng = np.random.default_rng(0)
    scores = np.repeat(list(SIZES), list(SIZES.values()))
    names = [f"{number:02d}.png" for number in range(len(scores))]
    given = scores.copy()
    given[rng.choice(np.flatnonzero(scores == 4), 4, replace=False)] = 5
    for name, score in zip(names, scores, strict=True):
        noise = rng.normal(0, 30, (48, 64, 3)) + COLOURS[int(score)]
        Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(folder / name)
    table = pd.DataFrame({"photo": names, "score": given})
    table.to_csv(folder / "scores.csv", index=False)
    return folder / "scores.csv"


@pytest.fixture(scope="session")
def coloured(tmp_path_factory):
    """The tiny scored folder, read and decoded: (ScoredPhotos, Pixels)."""
    folder = tmp_path_factory.mktemp("coloured")
    scored = sources.read_folder(folder, draw_coloured_photos(folder))
    return scored, pixels.decode(scored.table, cache=tmp_path_factory.mktemp("cache"))[0]


@pytest.fixture(scope="session")
def shared():
    """Real photos, votes and weights beside the project; they are never part of it."""
    folder = ROOT.parent / "shared"
    if not (folder / "oasis").exists():
        pytest.skip("real photos are not at ../shared; they are for development and CI only")
    return folder


@pytest.fixture
def bounded_memory(request):
    """A test may take so many bytes more than there were before it as its file's MOST_MEMORY."""
    if not Path("/proc/self/clear_refs").exists():
        yield
        return

    def kilobytes(name):
        return int(Path("/proc/self/status").read_text().split(f"{name}:")[1].split()[0])

    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
    before = kilobytes("VmRSS")
    yield
    grown = (kilobytes("VmHWM") - before) * 1024
    print(f"{request.node.name}: {grown / 1e6:.0f} MB more at the most")
    assert grown < request.module.MOST_MEMORY


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Where notebooks write, and read what an earlier one has written."""
    folder = tmp_path_factory.mktemp("notebooks")
    return {
        "run": str(folder / "run"),
        "gap_run": str(folder / "gap"),
        "runs": str(folder / "runs"),
        "sweep": str(folder / "sweep"),
        "figures": str(folder / "figures"),
    }


@pytest.fixture(scope="module")
def small_crops():
    """Crops of 67 px: what a round does stays the same, and it takes a tenth of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pixels, "CROP", 67)
        patch.setattr(recipe, "CROP", 67)
        yield


@pytest.fixture
def every_round_is_written(monkeypatch):
    """As where rounds are long: none waits for others."""
    monkeypatch.setattr(record, "SHARE_OF_WRITING", 1e9)


@contextmanager
def broken_off(module, stage: str, call: int) -> Iterator[None]:
    """What runs in here is broken off, as by Ctrl-C, when a `stage` is called so often."""
    real, calls = getattr(module, stage), []

    def breaks_off(*args, **kwargs):
        calls.append(stage)
        if len(calls) == call:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, stage, breaks_off)
        yield
