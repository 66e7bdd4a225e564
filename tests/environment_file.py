"""Writes environment.yml (conda-forge) from pyproject.toml; a test catches drift between them.

A package may have another name on conda-forge than for pip, or its name there may be another
program's. So each is listed with its name there and where that was looked up; one that is not
listed cannot be written.
"""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# By its name for pip: its name on conda-forge, and which repository of github.com/conda-forge
# makes it. It was looked up that each is there; the recipes of those whose names other programs
# may have (playwright, tyro, distributed, cleanlab, grad-cam, torch, torchvision) were read.
CONDA_FORGE = {
    "python": ("python", "python-feedstock"),
    "anywidget": ("anywidget", "anywidget-feedstock"),
    "cleanlab": ("cleanlab", "cleanlab-feedstock"),
    "distributed": ("distributed", "distributed-feedstock"),
    "filelock": ("filelock", "filelock-feedstock"),
    "grad-cam": ("grad-cam", "grad-cam-feedstock"),
    "hypothesis": ("hypothesis", "hypothesis-feedstock"),
    "imagehash": ("imagehash", "imagehash-feedstock"),
    "ipykernel": ("ipykernel", "ipykernel-feedstock"),
    "ipywidgets": ("ipywidgets", "ipywidgets-feedstock"),
    "jinja2": ("jinja2", "jinja2-feedstock"),
    "joblib": ("joblib", "joblib-feedstock"),
    "jupyterlab": ("jupyterlab", "jupyterlab-feedstock"),
    "matplotlib": ("matplotlib", "matplotlib-feedstock"),
    "numpy": ("numpy", "numpy-feedstock"),
    "openpyxl": ("openpyxl", "openpyxl-feedstock"),
    "pandas": ("pandas", "pandas-feedstock"),
    "papermill": ("papermill", "papermill-feedstock"),
    "pillow": ("pillow", "pillow-feedstock"),
    "platformdirs": ("platformdirs", "platformdirs-feedstock"),
    # playwright, of playwright-feedstock, is the program for Node, without a Python module.
    "playwright": ("playwright-python", "playwright-python-feedstock"),
    "pooch": ("pooch", "pooch-feedstock"),
    "pyarrow": ("pyarrow", "pyarrow-feedstock"),
    "pytest": ("pytest", "pytest-feedstock"),
    "pytest-xdist": ("pytest-xdist", "pytest-xdist-feedstock"),
    "ruff": ("ruff", "ruff-feedstock"),
    "safetensors": ("safetensors", "safetensors-feedstock"),
    "scikit-image": ("scikit-image", "scikit-image-feedstock"),
    "scikit-learn": ("scikit-learn", "scikit-learn-feedstock"),
    "scipy": ("scipy", "scipy-feedstock"),
    "seaborn": ("seaborn", "seaborn-feedstock"),
    "threadpoolctl": ("threadpoolctl", "threadpoolctl-feedstock"),
    "timm": ("timm", "timm-feedstock"),
    "torch": ("pytorch", "pytorch-cpu-feedstock"),  # despite its name for GPUs too
    "torchvision": ("torchvision", "torchvision-feedstock"),
    "tqdm": ("tqdm", "tqdm-feedstock"),
    "tyro": ("tyro", "tyro-feedstock"),
    "voila": ("voila", "voila-feedstock"),
}


def wanted() -> list[tuple[str, str]]:
    """What pyproject.toml asks for, extras too: names for pip, and bounds of versions."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = [f"python{project['requires-python']}", *project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        requirements += extra
    parts = [re.fullmatch(r"([\w-]+)(?:\[[\w,]+\])?(.*)", line) for line in requirements]
    return [(part[1], part[2]) for part in parts]


def environment_file() -> str:
    """Text of environment.yml as pyproject.toml has it now; KeyError for a name not looked up."""
    lines = ["# Generated from pyproject.toml by make environment.yml; edit that file instead."]
    lines += ["name: rsrl", "channels:", "  - conda-forge", "dependencies:"]
    lines += [f"  - {CONDA_FORGE[name][0]}{bound}" for name, bound in wanted()]
    lines += ["  - pip", "  - pip:", "      - --editable .", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    (ROOT / "environment.yml").write_text(environment_file())
