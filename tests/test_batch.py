"""Notebooks run on the Python that runs `rsrl`, wherever they lie, and failures are named."""

import json
import os
import re
import sys
from pathlib import Path

import nbformat
import pytest

papermill = pytest.importorskip("papermill")

from rsrl_lib.files import ROOT, InputError  # noqa: E402
from rsrl_lib.interface import batch  # noqa: E402

ODD = ["a{b}", "{run}", "{", "}{", "{0}", "50%s", "#1", "what?", "http:", "s3:"]


def write_notebook(folder, name, code):
    folder.mkdir(parents=True, exist_ok=True)
    parameters = nbformat.v4.new_code_cell('run = ""', metadata={"tags": ["parameters"]})
    cells = [parameters, nbformat.v4.new_code_cell(code)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), folder / name)


def printed(path):
    """What the last cell of an executed notebook printed."""
    return nbformat.read(path, as_version=4).cells[-1].outputs[0].text


def files(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def story(tmp_path, monkeypatch):
    """A folder with two short notebooks, taken for those of the library."""
    monkeypatch.setattr(batch, "ROOT", tmp_path / "root")
    for name in ("01_first.ipynb", "02_second.ipynb"):
        write_notebook(tmp_path / "root" / "notebooks", name, "import sys; print(sys.executable)")
    return tmp_path / "root" / "notebooks"


def test_another_kernel_of_the_same_name_is_not_taken(story, tmp_path, monkeypatch, capfd):
    kernel = tmp_path / "jp" / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    argv = [str(tmp_path / "no_python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel.write_text(json.dumps({"argv": argv, "display_name": "x", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jp"))
    batch.run_notebooks((), tmp_path / "out", (), timeout=60)
    assert printed(tmp_path / "out" / "02_second.ipynb").strip() == sys.executable
    assert files(tmp_path / "out") == ["01_first.ipynb", "02_second.ipynb"]
    assert "encryption" not in capfd.readouterr().err


@pytest.mark.parametrize("place", ["out", "parameter", "cwd", "temporary", "notebooks"])
def test_a_path_may_hold_what_papermill_would_fill_in(place, story, tmp_path, monkeypatch):
    odd = tmp_path.joinpath(*ODD)
    odd.mkdir(parents=True)
    out = odd / "out" if place == "out" else tmp_path / "out"
    if place == "cwd":
        monkeypatch.chdir(odd)
        out = Path("http://out")
    if place == "temporary":
        monkeypatch.setenv("TMPDIR", str(odd))
        monkeypatch.setattr("tempfile.tempdir", None)
    if place == "notebooks":
        monkeypatch.setattr(batch, "ROOT", odd)
    given = str(odd / "x{y}") if place == "parameter" else "plain"
    write_notebook(batch.ROOT / "notebooks", "01_first.ipynb", "print(run)")
    batch.run_notebooks(("1",), out, [("run", given)], timeout=60)
    assert files(out) == ["01_first.ipynb"]
    told = printed(out / "01_first.ipynb").strip()
    assert (out / told).resolve() == Path(given).resolve()


def test_an_executed_notebook_finds_its_files_from_where_it_lies(story, tmp_path, monkeypatch):
    """Beside it they are named from there, so that a demo can be moved; elsewhere as a whole."""
    monkeypatch.chdir(tmp_path)
    write_notebook(story, "01_first.ipynb", "import os; print(run, os.getcwd())")
    out = Path("demo", "notebooks")
    batch.run_notebooks(("1",), out, [("run", "demo/run")], timeout=60)
    assert printed(out / "01_first.ipynb").split() == ["../run", str(tmp_path / out)]
    batch.run_notebooks(("1",), out, [("run", "runs/mine")], timeout=60)
    assert printed(out / "01_first.ipynb").split()[0] == str(tmp_path / "runs" / "mine")


def test_every_parameter_that_names_a_place_is_known():
    paths = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
    declared = [about for path in paths for about in batch.declared_parameters(path).values()]
    named = {about["name"] for about in declared if re.search("folder|CSV|csv|AVA", about["help"])}
    assert {"photos", "scores", "run"} <= named <= batch.PLACES


def test_a_parameter_that_is_none_unless_given_takes_what_is_given():
    declared = {Path("05.ipynb"): {"later": {"default": "None"}, "step": {"default": "1"}}}
    given = batch._values([("later", "3"), ("step", "2")], declared)
    assert given == {"later": 3, "step": 2}
    assert batch._values([("later", "None")], declared) == {"later": None}
    with pytest.raises(InputError, match="The parameter step is 'last'"):
        batch._values([("step", "last")], declared)


def test_a_kernel_that_does_not_start_is_named_and_the_others_go_on(story, tmp_path, monkeypatch):
    once = tmp_path / "once"
    once.mkdir()
    (once / "ipykernel_launcher.py").write_text(
        "import pathlib, runpy, sys\n"
        "here = pathlib.Path(__file__).parent\n"
        "if not (here / 'been').exists():\n"
        "    (here / 'been').touch()\n"
        "    sys.exit('no kernel today')\n"
        "sys.path.remove(str(here))\n"
        "runpy.run_module('ipykernel_launcher', run_name='__main__')\n"
    )
    path = [str(once), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    with pytest.raises(InputError) as failed:
        batch.run_notebooks((), tmp_path / "out", (), timeout=60)
    said = str(failed.value)
    assert said.startswith("1 of 2 notebooks failed (01_first: its kernel, ")
    assert f"{sys.executable} -m ipykernel_launcher, did not start" in said
    assert printed(tmp_path / "out" / "02_second.ipynb").strip() == sys.executable
    assert not list((tmp_path / "out").glob("*.partial*"))


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("1 / 0", "01_first, cell 2: ZeroDivisionError: division by zero"),
        ("import os; os._exit(3)", "01_first: its kernel died"),
        ("import time; time.sleep(60)", "01_first: a cell took longer than the timeout of 2 s"),
    ],
)
def test_whatever_ends_a_notebook_the_next_has_its_turn(code, says, story, tmp_path):
    write_notebook(story, "01_first.ipynb", code)
    with pytest.raises(InputError) as failed:
        batch.run_notebooks((), tmp_path / "out", (), timeout=2)
    assert str(failed.value) == f"1 of 2 notebooks failed ({says})."
    assert files(tmp_path / "out") == ["01_first.ipynb", "02_second.ipynb"]


def test_a_damaged_notebook_is_named(story, tmp_path, monkeypatch):
    """What no one foresaw is told with its kind, as a kernel is that never answers."""

    def refuses(path, *given, **options):
        if path.stem == "01_first":
            raise RuntimeError("Kernel didn't respond in 60 seconds")
        raise LookupError("no such thing")

    monkeypatch.setattr(batch, "execute", refuses)
    with pytest.raises(InputError) as failed:
        batch.run_notebooks((), tmp_path / "out", (), timeout=60)
    assert "did not start (Kernel didn't respond in 60 seconds); 02_second: LookupError: no" in str(
        failed.value
    )


def test_an_interrupted_notebook_leaves_nothing_behind(story, tmp_path, monkeypatch):
    def interrupted(path, target, *given, **options):
        target.write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(batch, "execute", interrupted)
    with pytest.raises(KeyboardInterrupt):
        batch.run_notebooks((), tmp_path / "out", (), timeout=60)
    assert files(tmp_path / "out") == []


def test_without_ipykernel_the_extra_and_the_python_are_named(story, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipykernel", None)
    with pytest.raises(InputError, match=r"'notebooks' .*install rsrl-lib\[notebooks\] for ") as no:
        batch.run_notebooks((), tmp_path / "out", (), timeout=60)
    assert sys.executable in str(no.value)


def test_an_installation_without_notebooks_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(batch, "ROOT", tmp_path)
    with pytest.raises(InputError, match="There are no notebooks in"):
        batch.run_notebooks(("01",), tmp_path / "out", (), timeout=60)


def test_how_long_notebooks_take_is_told_before_and_corrected_by_those_that_are_done():
    paths = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
    usual = batch.usual_seconds(paths)
    assert usual.keys() == {path.stem for path in paths}
    first, second, *_ = usual
    told = batch._of_the_others({first: 10, second: 20, "third": 40}, {first: 20, second: 40})
    assert told == " (the other takes about 80 s at this pace)"
    assert batch._of_the_others({first: 10}, {first: 20}) == ""
    assert batch._of_the_others({}, {"of one's own": 3}) == ""
