"""Commands and smoke notebooks in clean environments: oldest, newest, and newer Pythons.

    .venv/bin/python tests/environments.py

Each is made in a temporary folder (5 GB or more), used, and deleted. The full tests are for the
lock (`make test`). An interpreter that is not found is skipped, and named.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import tyro

ROOT = Path(__file__).resolve().parents[1]
WHICH = {
    "oldest": ("python3.11", ["--resolution", "lowest-direct"]),
    "newest": ("python3.11", ["--upgrade"]),
    "newest, Python 3.12": ("python3.12", ["--upgrade"]),
    "newest, Python 3.13": ("python3.13", ["--upgrade"]),
}
SHOWN = ("torch", "torchvision", "numpy", "pandas", "papermill", "ipywidgets")


def say(*words, **how) -> str:
    done = subprocess.run(list(map(str, words)), cwd=ROOT, text=True, capture_output=True, **how)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, words))}: {(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


def runs(interpreter: str) -> bool:
    found = shutil.which(interpreter)  # which may be a stand-in for one that is not installed
    return bool(found) and not subprocess.run([found, "-c", "import ensurepip"]).returncode


def tried(interpreter: str, how: list[str], tests: list[str], scratch: Path) -> str:
    """Versions and the last line of the tests, in an environment made for them."""
    say(interpreter, "-m", "venv", scratch / "uv")
    say(scratch / "uv/bin/python", "-m", "pip", "install", "--quiet", "uv")
    version = say(interpreter, "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()
    words = ["--python-version", version, "--all-extras", "--quiet", "pyproject.toml", *how]
    say(scratch / "uv/bin/uv", "pip", "compile", *words, "--output-file", scratch / "wanted.txt")
    say(interpreter, "-m", "venv", scratch / "own")
    python = scratch / "own/bin/python"
    pip = [python, "-m", "pip", "install", "--quiet", "--no-deps"]
    say(*pip, "--requirement", scratch / "wanted.txt")
    say(*pip, "--editable", ".")
    found = json.loads(say(python, "-m", "pip", "list", "--format", "json"))
    versions = {package["name"]: package["version"] for package in found}
    print(", ".join(f"{name} {versions[name]}" for name in SHOWN), flush=True)
    done = subprocess.run([python, "-m", "pytest", "-q", *tests], cwd=ROOT, text=True, stdout=-1)
    if done.returncode:
        print(done.stdout[-6000:])
    return done.stdout.strip().splitlines()[-1]


def main(
    names: tyro.conf.Positional[tuple[str, ...]] = tuple(WHICH),
    tests: tuple[str, ...] = ("tests/test_cli.py", "tests/test_notebooks.py"),
) -> None:
    """Run the tests in the environments `names`; fails where one of them fails."""
    failed = False
    for name in names:
        interpreter, how = WHICH[name]
        print(f"{name}:", flush=True)
        if not runs(interpreter):
            print(f"skipped, no {interpreter} is found")
            continue
        with tempfile.TemporaryDirectory() as scratch:
            line = tried(interpreter, how, list(tests), Path(scratch))
        failed |= "failed" in line or "error" in line or "passed" not in line
        print(line, flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    tyro.cli(main)
