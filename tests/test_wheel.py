"""The library as others install it: a wheel in an environment of its own, used elsewhere.

The environment sees PyTorch and the rest through the one that runs the tests, and neither that
one's installation of the library nor the checkout.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import ROOT

NEEDED = ("papermill", "ipykernel", "pip", "setuptools")
MISSING = [name for name in NEEDED if find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")

WRITTEN = shutil.ignore_patterns("cache", "glassbox-*", "sweeps", "oasis", "figures", "__pycache__")
SHIPPED = {
    "rsrl_lib": ["**/*.py", "interface/*.css", "interface/*.js", "report/templates/*"],
    "notebooks": ["[0-9]*.ipynb", "app.ipynb"],
    "data": ["*.py", "oasis_registry.csv", "starter_*.safetensors"],
    "data/results": ["*"],
}
NOT_SHIPPED = (
    "data/mine.csv",
    "data/cache/photos.npy",
    "data/glassbox-demo-60-0/photos.csv",
    "notebooks/notes.ipynb",
    "notebooks/.ipynb_checkpoints/01_old.ipynb",
)


def said(*words, **how):
    """What a command prints; a failure of the test where it fails."""
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, **how)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def files(folder):
    there = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    return {path.as_posix() for path in there if path.suffix != ".pyc"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built of a copy that also holds what a checkout in use holds."""
    source = tmp_path_factory.mktemp("source")
    for name in ("rsrl_lib", "notebooks", "data"):
        shutil.copytree(ROOT / name, source / name, ignore=WRITTEN)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in NOT_SHIPPED:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("{}")
    made = source / "made"
    offline = ["--no-deps", "--no-index", "--no-build-isolation"]
    said(sys.executable, "-m", "pip", "wheel", *offline, "--wheel-dir", made, source)
    return next(made.glob("*.whl"))


class Installed:
    """An environment with the wheel, whose user has a home and works in a folder."""

    def __init__(self, wheel, folder):
        self.work, self.home, self.environment = (folder / name for name in ("work", "home", "env"))
        self.work.mkdir()
        self.home.mkdir()
        said(sys.executable, "-m", "venv", "--without-pip", self.environment)
        places = {"base": str(self.environment), "platbase": str(self.environment)}
        self.scripts = Path(sysconfig.get_path("scripts", "venv", places))
        self.packages = Path(sysconfig.get_path("purelib", "venv", places))
        (self.packages / "shared.pth").write_text(sysconfig.get_path("purelib"))
        pip = [sys.executable, "-m", "pip", "--python", self.scripts / "python"]
        said(*pip, "install", "--no-deps", "--no-index", wheel)
        self.before = files(self.packages)

    def __call__(self, command, *words):
        hidden = {"PYTHONPATH", "XDG_CACHE_HOME", "VIRTUAL_ENV", "TMPDIR"}
        known = {name: value for name, value in os.environ.items() if name not in hidden}
        known["HOME"] = str(self.home)
        return said(self.scripts / command, *words, cwd=self.work, env=known)


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    return Installed(wheel, tmp_path_factory.mktemp("installed"))


def test_the_wheel_holds_what_the_commands_need_and_nothing_of_a_checkout_in_use(wheel):
    expected = set()
    for folder, patterns in SHIPPED.items():
        place = folder if folder == "rsrl_lib" else f"rsrl_lib/{folder}"
        for pattern in patterns:
            for path in (ROOT / folder).glob(pattern):
                expected.add(f"{place}/{path.relative_to(ROOT / folder).as_posix()}")
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    assert set(names) == expected
    assert len(names) > 50


def test_it_is_used_where_it_is_installed_and_writes_to_the_users_cache(installed):
    program = "import rsrl_lib, rsrl_lib.files as f; print(rsrl_lib.__file__, f.ROOT, f.WORK)"
    *places, cache = installed("python", "-c", program).split()
    for place in places:
        assert Path(place).is_relative_to(installed.packages)
    assert Path(cache).is_relative_to(installed.home)
    program = "from rsrl_lib.sources import fetch_oasis as f; print(f.__kwdefaults__['registry'])"
    registry = Path(installed("python", "-c", program).strip())
    assert registry.is_relative_to(installed.packages)
    assert len(pd.read_csv(registry)) > 500


def test_it_trains_on_drawings_from_the_starter_weights_and_assesses(installed):
    installed("rsrl", "glassbox", "--out", "drawn", "--count", "60", "--seed", "2")
    words = ["--photos", "drawn", "--scores", "drawn/photos.csv", "--run", "run", "--rounds", "1"]
    words += ["--epochs", "1", "--backbone", "squeezenet1_1", "--weights", "starter"]
    assert "The run is finished" in installed("rsrl", "train", *words)
    assert any(name.endswith(".npy") for name in files(installed.home))
    before = files(installed.home) | files(installed.work)
    installed("rsrl", "assess", "--run", "run", "drawn/photos", "--csv", "assessed.csv")
    assert len(pd.read_csv(installed.work / "assessed.csv")) == 60
    assert (files(installed.home) | files(installed.work)) - before == {"assessed.csv"}


def test_it_executes_a_notebook_that_draws_from_kept_tables(installed):
    chapter = "10_two_accuracies"
    installed("rsrl", "notebooks", chapter, "--out", "executed", "-p", "figures", "figures")
    assert files(installed.work / "executed") == {f"{chapter}.ipynb"}
    assert files(installed.work / "figures")


def test_nothing_is_written_where_it_is_installed(installed):
    """The last of these tests."""
    assert files(installed.packages) == installed.before
