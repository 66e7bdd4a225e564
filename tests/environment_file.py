"""Writes environment.yml (conda-forge) from pyproject.toml; a test catches drift between them."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONDA_NAMES = {"torch": "pytorch"}


def environment_file() -> str:
    """Text of environment.yml as pyproject.toml has it now."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [f"python{project['requires-python']}", *project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        wanted += extra
    lines = ["# Generated from pyproject.toml by make environment.yml; edit that file instead."]
    lines += ["name: rsrl", "channels:", "  - conda-forge", "dependencies:"]
    for requirement in wanted:
        name, bound = re.fullmatch(r"([\w-]+)(?:\[[\w,]+\])?(.*)", requirement).groups()
        lines.append(f"  - {CONDA_NAMES.get(name, name)}{bound}")
    lines += ["  - pip", "  - pip:", "      - --editable .", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    (ROOT / "environment.yml").write_text(environment_file())
