"""What goes wrong around a run costs the round in which it happened, and is said in a sentence."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from rsrl_lib import network, rounds, runs
from rsrl_lib.files import InputError
from tests.conftest import ROOT
from tests.test_rounds import RECIPE, contents

pytestmark = pytest.mark.usefixtures("small_crops")


@pytest.fixture(scope="module")
def run(coloured, small_crops, tmp_path_factory):
    """One to which nothing happened."""
    return rounds.repeat(*coloured, tmp_path_factory.mktemp("runs") / "run", RECIPE)


def goes_on_as_if_nothing_had_been(coloured, folder, expected):
    """The run in `folder` has its first round, and finished ends like one without a fault."""
    assert list(runs.open_run(folder).rounds["round"])[:1] == [1]
    assert runs.open_run(folder).network("last").conv1.weight.isfinite().all()
    rounds.repeat(*coloured, folder, RECIPE)
    assert contents(folder) == contents(expected.folder)


def faulty(monkeypatch, module, name, fault, *, call):
    """Let a function do `fault` instead when it is called for the `call`-th time."""
    whole, calls = getattr(module, name), []

    def instead(*given, **named):
        calls.append(name)
        return (fault if len(calls) == call else whole)(*given, **named)

    monkeypatch.setattr(module, name, instead)


def full(state, path, *_):
    Path(path).write_bytes(b"half a network")
    raise OSError(28, "No space left on device", str(path))


@pytest.mark.usefixtures("every_round_is_written")
@pytest.mark.parametrize("call", [2, 3, 4])  # the best or last network of round 1, 2, ...
def test_a_full_disk_costs_the_round_that_could_not_be_saved(
    run,
    coloured,
    tmp_path,
    monkeypatch,
    call,
):
    with monkeypatch.context() as patch:
        faulty(patch, network, "save_file", full, call=call)
        with pytest.raises(InputError, match=r"network_\w+.*could not be written .*No space left"):
            rounds.repeat(*coloured, tmp_path / "run", RECIPE)
    if call == 2:  # not even round 1 was saved whole
        assert not (tmp_path / "run" / "network_last.safetensors").exists()
        rounds.repeat(*coloured, tmp_path / "run", RECIPE)
        assert contents(tmp_path / "run") == contents(run.folder)
    else:
        goes_on_as_if_nothing_had_been(coloured, tmp_path / "run", run)


def test_a_folder_that_vanishes_is_said_and_a_new_run_can_begin(coloured, tmp_path, monkeypatch):
    def vanish(*given, **named):
        shutil.rmtree(tmp_path / "run")
        return 1.0

    with monkeypatch.context() as patch:
        patch.setattr(rounds, "fine_tune", vanish)
        with pytest.raises(InputError, match=r"rounds\.csv could not be written.*non-existent"):
            rounds.repeat(*coloured, tmp_path / "run", RECIPE)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_made_is_said(coloured, tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file" / "run", Path("/proc/run")):
        with pytest.raises(InputError, match=r"run.* could not be written \(.*give the folder"):
            rounds.repeat(*coloured, folder, RECIPE)


def test_a_loss_that_is_no_number_ends_the_run_after_its_last_good_round(
    run,
    coloured,
    tmp_path,
    monkeypatch,
):
    def diverging(network, *_, **__):
        network.head.weight.data.fill_(np.nan)
        raise InputError("The training loss became nan")

    with monkeypatch.context() as patch:
        faulty(patch, rounds, "fine_tune", diverging, call=2)
        with pytest.raises(InputError, match="loss became nan"):
            rounds.repeat(*coloured, tmp_path / "run", RECIPE)
    goes_on_as_if_nothing_had_been(coloured, tmp_path / "run", run)


def test_a_clock_that_was_set_back_changes_nothing(run, coloured, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        faulty(patch, rounds, "fine_tune", lambda *_, **__: 1 / 0, call=2)
        with pytest.raises(ZeroDivisionError):
            rounds.repeat(*coloured, tmp_path / "run", RECIPE)
    for path in (tmp_path / "run").iterdir():
        os.utime(path, (4e9, 4e9))  # the year 2096
    goes_on_as_if_nothing_had_been(coloured, tmp_path / "run", run)


@pytest.fixture
def command(coloured, tmp_path):
    """`rsrl train` over the coloured photos, in a process that does something first."""
    folder = Path(coloured[0].table.path[0]).parent
    words = ["rsrl", "train", "--photos", folder, "--scores", folder / "scores.csv"]
    words += ["--run", tmp_path / "run", "--cache", tmp_path / "cache", "--weights", "none"]
    words += ["--epochs", 1, "--rounds", 2]

    def start(*more, first=""):
        code = [
            "import sys",
            f"sys.argv = {[*map(str, [*words, *more])]}",
            "import rsrl_lib.interface.cli",
        ]
        python = [sys.executable, "-c", "\n".join([*code, first, "rsrl_lib.interface.cli.main()"])]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(python, **quiet)

    return start


def is_stopped_with_a_sentence(process, run):
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 1, said
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith("rsrl: stopped; a training keeps its finished rounds")
    assert len(runs.open_run(run).rounds) >= 1


def test_ctrl_c_is_a_sentence_and_the_same_command_goes_on(command, tmp_path):
    more = ["--backbone", "squeezenet1_1", "--shrink-to", 64]
    process = command(*more, "--rounds", 200)
    while not (tmp_path / "run" / "network_last.safetensors").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    is_stopped_with_a_sentence(process, tmp_path / "run")


def test_ctrl_c_while_a_thread_is_being_started_is_the_same_sentence(command, tmp_path):
    """Python then waits for no such thread, and a thread killed within torch aborts the process."""
    interrupted_in_a_start = f"""
import os, signal, threading, time
from pathlib import Path
started = threading.Thread._bootstrap_inner
def late(thread, sent=[]):
    if not sent and Path({str(tmp_path / "run" / "network_last.safetensors")!r}).exists():
        sent.append(os.kill(os.getpid(), signal.SIGINT))
        time.sleep(0.002)  # the main thread comes out of its wait; with 1 to 3 ms it was an abort
    started(thread)
threading.Thread._bootstrap_inner = late
"""
    more = ["--backbone", "squeezenet1_1", "--shrink-to", 64, "--rounds", 200]
    process = command(*more, first=interrupted_in_a_start)
    is_stopped_with_a_sentence(process, tmp_path / "run")


def test_memory_that_runs_out_is_a_sentence(command):
    room = "import rsrl_lib.rounds, resource as r, pathlib as p\n"
    room += "size = 4096 * int(p.Path('/proc/self/statm')"
    room += ".read_text().split()[0]); r.setrlimit(r.RLIMIT_AS, (size + 4 * 10**8,) * 2)"
    process = command("--backbone", "vgg16", first=room)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 1
    assert "Traceback" not in said
    assert "rsrl: memory ran out (" in said.splitlines()[-1]


ALL_COMMANDS = """
import sys
from pathlib import Path
from rsrl_lib import pixels, rounds, sources
from rsrl_lib.interface import cli
from rsrl_lib.recipe import Recipe, Training
from tests.conftest import draw_coloured_photos
from tests.test_sweeps import GRID
out = Path(sys.argv[1])
(out / "photos").mkdir()
draw_coloured_photos(out / "photos")
text = GRID.format(folder=out / "photos").replace("folds = [0, 1]", "folds = [0]")
(out / "grid.toml").write_text(text.split("[arms.dropping]")[0])
photos = [out / "photos" / name for name in ("00.png", "30.png", "59.png")]
train = ["train", "--photos", out / "photos", "--scores", out / "photos" / "scores.csv"]
train += ["--run", out / "run", "--cache", out / "cache", "--weights", "none", "--epochs", 1]
train += ["--backbone", "squeezenet1_1", "--shrink-to", 64, "--rounds", 2]
run = ["--run", out / "run"]
for words in (
    train,
    ["assess", *run, *photos, "--csv", out / "assessed.csv"],
    ["highlight", *run, "--rounds", 2, 1, *photos, "--out", out / "highlights"],
    ["crop", *run, *photos, "--out", out / "crops"],
    ["sweep", out / "grid.toml", "--out", out / "all.csv", "--cache", out / "cache", "--jobs", 1],
):
    sys.argv = ["rsrl", *map(str, words)]
    cli.main()
scored = sources.read_folder(out / "photos", out / "photos" / "scores.csv")
decoded = pixels.decode(scored.table, cache=out / "cache")[0]
quick = Training(epochs=1, shrink_to=64)
recipe = Recipe("squeezenet1_1", "none", rounds=3, control="cross-fitted", training=quick)
stopped = iter((False, True))
def stop(*args, save=rounds.Record.add, **kwargs):
    save(*args, **kwargs)
    if next(stopped):
        raise KeyboardInterrupt
rounds.Record.add = stop
try:
    rounds.repeat(scored, decoded, out / "halves", recipe)
except KeyboardInterrupt:
    assert list((out / "halves").glob("half_?_2.safetensors"))
"""


@pytest.mark.parametrize("umask", [0o002, 0o077])
def test_what_any_command_leaves_can_be_read_by_whom_the_umask_lets_read(tmp_path, umask):
    words = [sys.executable, "-c", ALL_COMMANDS, str(tmp_path)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, umask=umask, cwd=ROOT, env=environment, **quiet)
    assert done.returncode == 0, done.stderr[-2000:]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    kinds = {".csv", ".json", ".npy", ".parquet", ".png", ".safetensors", ".toml"}
    assert kinds <= {path.suffix for path in files}
    closed = {
        str(path.relative_to(tmp_path)): oct(path.stat().st_mode & 0o777)
        for path in files
        if path.stat().st_mode & 0o777 != 0o666 & ~umask
    }
    assert closed == {}
