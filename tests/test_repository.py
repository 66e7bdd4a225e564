"""What every commit of the repository keeps true."""

import ast
import json
import re
import subprocess
import sys

import pandas as pd
import pytest

from tests.conftest import ROOT
from tests.environment_file import CONDA_FORGE, environment_file, wanted

NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))


def test_environment_yml_is_what_pyproject_generates():
    assert (ROOT / "environment.yml").read_text() == environment_file()


def test_every_package_is_named_as_conda_forge_names_it():
    lines = (ROOT / "environment.yml").read_text().splitlines()
    named = [re.match(r"  - ([\w-]+)>=", line) for line in lines]
    named = {match[1] for match in named if match}
    asked_for = {name for name, _ in wanted()}
    assert asked_for == CONDA_FORGE.keys()
    assert named == {CONDA_FORGE[name][0] for name in asked_for}
    # Of these the name for pip is another program's there, or nobody's.
    assert "playwright-python" in named and "pytorch" in named
    assert not {"playwright", "torch"} & named
    for _, feedstock in CONDA_FORGE.values():
        assert feedstock.endswith("-feedstock")


def test_the_lock_holds_every_dependency_and_no_address():
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    for name, _ in wanted():
        if name != "python":
            assert re.search(rf"^{name}==", lock, flags=re.M), name


@pytest.mark.parametrize("words", [["check"], ["format", "--check"]])
def test_ruff_finds_nothing_in_code_and_notebooks(words):
    found = subprocess.run(
        [sys.executable, "-m", "ruff", *words, "."], cwd=ROOT, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs_and_can_be_given_parameters(path):
    notebook = json.loads(path.read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
    assert notebook["metadata"]["kernelspec"]["language"] == "python"
    assert sum("parameters" in cell["metadata"].get("tags", []) for cell in code) == 1
    titles = [
        line
        for cell in notebook["cells"]
        if cell["cell_type"] == "markdown"
        for line in cell["source"]
        if line.startswith("# ")
    ]
    assert len(titles) == 1


@pytest.mark.parametrize("path", sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("[a-z]*/*.md")))
def test_every_file_that_a_page_shows_or_links_to_is_there(path):
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target


LIBRARY = ROOT / "rsrl_lib"
# Rooms of the house; each knows those above it. A sub-package is one room.
ORDER = [
    *("files", "settings", "reading", "photos", "provenance", "measures", "ratings"),
    "repeatability",
    *("sources", "drawing", "origins", "drop_rules", "recipe"),
    *("papers", "pixels", "duplicates", "losses", "backbones", "network", "machine"),
    *("features", "heads"),
    *("deciding", "training", "protocols", "controls", "duration"),
    *("notices", "dropped", "runs", "choosing", "dataset", "record", "rounds", "chapters"),
    *("summary", "comparing", "highlight", "learning_curve"),
    *("activation", "cropping", "plots", "report", "interface"),
]
# Within a sub-package the same holds of its modules.
ORDER_WITHIN = {
    "reading": "texts sheets tables tiffs pngs pictures names",
    "sources": "checked folder public_sets download __init__",
    "drawing": "shapes easel failures glassbox",
    "comparing": "grids sweeps arms comparisons folds",
    "report": "answers besides figures thumbnails page verdicts did_it_work of_a_run of_several",
    "interface": "terminal widgets rating kernels batch pages given app training_commands"
    " photo_commands map_commands rating_commands report_commands cli",
}


def modules_of(part):
    """Files of a module or a sub-package in their order."""
    if part not in ORDER_WITHIN:
        return [LIBRARY / f"{part}.py"]
    return [LIBRARY / part / f"{name}.py" for name in ORDER_WITHIN[part].split()]


def imported_by(path):
    """Names, such as `reading.pictures`, of the library's modules that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "rsrl_lib":
            inside = node.module.partition(".")[2]
            if (LIBRARY / f"{inside.replace('.', '/')}.py").exists():
                names.add(inside)
            elif inside == "sources":
                names.add("sources.__init__")
            else:
                names |= {f"{inside}.{name.name}".strip(".") for name in node.names}
    return names


def test_every_module_has_a_place_in_the_order():
    there = {path for path in LIBRARY.rglob("*.py") if not path.name.startswith("__")}
    listed = {path for part in ORDER for path in modules_of(part)}
    assert {path for path in listed if not path.name.startswith("__")} == there


def test_imports_of_the_library_run_one_way_and_without_jupyter():
    known = set()
    for path in [path for part in ORDER for path in modules_of(part)]:
        imported = imported_by(path)
        assert imported <= known, (path, imported - known)
        known.add(".".join(path.relative_to(LIBRARY).with_suffix("").parts))
        if path.stem not in ("widgets", "rating", "kernels"):
            assert not re.search(
                r"^(import|from) (ipywidgets|anywidget|IPython|papermill|voila|jupyter_client)",
                path.read_text(),
                flags=re.M,
            ), path


def test_no_function_of_the_library_is_longer_than_a_screen():
    longest = {}
    for path in sorted(LIBRARY.rglob("*.py")):
        for part in ast.walk(ast.parse(path.read_text())):
            if isinstance(part, ast.FunctionDef):
                body = part.body[1:] if ast.get_docstring(part) and part.body[1:] else part.body
                longest[path.name, part.lineno, part.name] = (
                    body[-1].end_lineno - body[0].lineno + 1
                )
    assert {name: lines for name, lines in longest.items() if lines > 45} == {}


def test_the_guide_says_what_every_module_holds():
    guide = (ROOT / "docs" / "library.md").read_text().split("## Where is what")[1]
    told = set(re.findall(r"`([a-z_]+)`", "".join(re.findall(r"^\|.*", guide, flags=re.M))))
    modules = {path.stem for path in LIBRARY.rglob("[!_]*.py")}
    assert told == modules


def test_the_examples_from_python_run_and_have_ten_lines_at_most(tmp_path, monkeypatch, capsys):
    guide = (ROOT / "docs" / "from_python.md").read_text()
    examples = re.findall(r"```python\n(.+?)```", guide, flags=re.S)
    assert len(examples) == 6
    monkeypatch.chdir(tmp_path)
    known = {}
    for code in examples:
        assert sum(bool(line.strip()) for line in code.splitlines()) <= 10
        exec(code, known)
    names = {"plain", "backbone", "rule", "loss", "memory"}
    assert {path.name for path in (tmp_path / "runs").iterdir()} == names
    kept = {name: pd.read_csv(tmp_path / "runs" / name / "rounds.csv").kept for name in names}
    assert kept["rule"][1] < kept["rule"][0]
    assert "[[" in capsys.readouterr().out


def test_the_ten_lines_of_the_guide_run(tmp_path, monkeypatch, capsys):
    guide = (ROOT / "docs" / "library.md").read_text()
    code = re.search(r"```python\n(.+?)```", guide, flags=re.S)[1]
    assert code.count("count=400") == code.count("rounds=4") == 1
    monkeypatch.chdir(tmp_path)
    exec(code.replace("count=400", "count=60").replace("rounds=4", "rounds=2"), {})
    assert "test_majority_accuracy" in capsys.readouterr().out
