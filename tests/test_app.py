"""What rsrl app serves and by which options; what rsrl demo replaces, and what it leaves alone."""

import ast
from pathlib import Path

import nbformat
import pytest

from rsrl_lib.files import ROOT, InputError
from rsrl_lib.interface import app, batch
from tests.conftest import draw_coloured_photos

pytest.importorskip("papermill")
voila = pytest.importorskip("voila.app")


@pytest.fixture
def notebooks_run(monkeypatch):
    """Stands for the execution of all notebooks; where they were to go, and with what."""
    calls = []

    def run_notebooks(names, out, parameters, *, timeout):
        calls.append((names, out, dict(parameters)))
        for name in ("run", "gap_run"):
            folder = Path(dict(parameters)[name])
            folder.mkdir()
            (folder / app.NETWORK).touch()

    monkeypatch.setattr(app, "run_notebooks", run_notebooks)
    return calls


@pytest.fixture
def served(monkeypatch):
    """Stands for Voila: the words it was started by, its folder, and the parameters of the page."""
    seen = {}

    def launch_instance(words):
        page, *seen["words"] = words
        seen["cwd"] = Path.cwd()
        assert list(seen["cwd"].iterdir()) == [Path(page)]
        code = [cell.source for cell in nbformat.read(page, as_version=4).cells[1:3]]
        for assigned in ast.parse("\n".join(code)).body:
            seen[assigned.targets[0].id] = ast.literal_eval(assigned.value)

    monkeypatch.setattr(voila.Voila, "launch_instance", launch_instance)
    return seen


def serve(run=None, gap_run=None, **given):
    own = {"photos": None, "scores": None, "source": "folder", "options": ""}
    app.serve(run, gap_run, **own | {"port": 1234, "browser": False} | given)


def a_run(folder):
    folder.mkdir(parents=True)
    (folder / app.NETWORK).touch()
    return folder


def test_a_demo_replaces_its_own_and_leaves_the_rest(notebooks_run, tmp_path):
    demo, elsewhere = tmp_path / "demo", tmp_path / "elsewhere"
    app.make_demo(demo, timeout=9)
    kept = demo / "my notes.txt"
    kept.touch()
    (demo / "run" / "old.csv").touch()
    elsewhere.mkdir()
    (elsewhere / "mine.png").touch()
    (demo / "figures").symlink_to(elsewhere, target_is_directory=True)
    app.make_demo(demo, timeout=9)
    assert kept.exists() and (elsewhere / "mine.png").exists()
    assert not (demo / "run" / "old.csv").exists() and not (demo / "figures").exists()
    places = {"run": demo / "run", "gap_run": demo / "gap", "figures": demo / "figures"}
    places = {name: str(path) for name, path in places.items()} | {"count": str(batch.DEMO_PHOTOS)}
    assert notebooks_run == [((), demo / "notebooks", places)] * 2


def test_the_readme_says_how_many_photos_a_demo_draws():
    assert f"all chapters on {batch.DEMO_PHOTOS} drawn photos" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", ["run", "notebooks", "photo.jpg"])
def test_a_folder_that_is_not_a_demos_is_left_as_it_is(name, notebooks_run, tmp_path):
    mine = tmp_path / "demo" / name / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.touch()
    with pytest.raises(InputError, match="demo holds files that no rsrl demo has made"):
        app.make_demo(tmp_path / "demo", timeout=9)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [mine]
    assert not notebooks_run


def test_a_demo_that_is_a_file_is_refused(notebooks_run, tmp_path):
    (tmp_path / "demo").touch()
    with pytest.raises(InputError, match="demo is no folder"):
        app.make_demo(tmp_path / "demo", timeout=9)


def test_without_a_run_the_demo_is_made_once_and_shown(
    notebooks_run, served, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        serve()
    assert len(notebooks_run) == 1
    assert served["run"] == str(tmp_path / "demo" / "run")
    assert served["gap_run"] == str(tmp_path / "demo" / "gap")
    assert served["photos"] == served["scores"] == ""


def test_paths_are_made_absolute_and_may_hold_anything(served, tmp_path, monkeypatch):
    odd = tmp_path / "a{b}" / "50%s #1?"
    draw_coloured_photos(_folder(odd / "photos"))
    a_run(odd / "x{y}")
    (odd / "temporary {0}").mkdir()
    monkeypatch.chdir(odd)
    monkeypatch.setattr("tempfile.tempdir", str(odd / "temporary {0}"))
    names = [f"{path.name},3" for path in (odd / "photos").glob("*.png")]
    (odd / "votes.csv").write_text("\n".join(["photo,score", *names]))
    given = {"photos": Path("photos"), "scores": Path("photos/scores.csv")}
    serve(Path("x{y}"), options="{votes: votes.csv, strict: false}", **given)
    assert served["run"] == served["gap_run"] == str(odd / "x{y}")
    assert served["photos"] == str(odd / "photos")
    assert served["scores"] == str(odd / "photos" / "scores.csv")
    assert served["options"] == {"votes": str(odd / "votes.csv"), "strict": False}
    assert served["words"][-2:] == ["--port=1234", "--no-browser"]
    # A program that configures Voila is not taken from where the command is given.
    assert served["cwd"].parent == odd / "temporary {0}"
    assert not served["cwd"].exists()


def _folder(path):
    path.mkdir(parents=True)
    return path


def test_the_page_is_served_as_the_readme_promises(served, tmp_path):
    serve(a_run(tmp_path / "run"), a_run(tmp_path / "gap"), browser=True, port=8866)
    options = dict(option.removeprefix("--").split("=", 1) for option in served["words"])
    assert options["Voila.ip"] == "127.0.0.1"
    settings = ast.literal_eval(options["Voila.tornado_settings"])
    assert settings == {"websocket_max_message_size": 134217728, "allow_remote_access": False}
    assert options["VoilaConfiguration.file_allowlist"] == "[]"
    for name in ("template", "theme"):
        assert options[f"VoilaConfiguration.allow_{name}_override"] == "NO"
    assert options["MappingKernelManager.cull_idle_timeout"] == "600"
    assert options["MappingKernelManager.cull_interval"] == "60"
    assert options["port"] == "8866"
    assert served["gap_run"] == str(tmp_path / "gap")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"run": Path("nowhere")}, "nowhere holds no run with a finished round"),
        ({"gap_run": Path("nowhere")}, "nowhere holds no run with a finished round"),
        ({"photos": Path(), "scores": Path("nowhere.csv")}, "nowhere.csv"),
        ({"photos": Path()}, "Needed is a CSV"),
        ({"scores": Path("scores.csv")}, "give their folder too"),
        ({"options": "{score_column: x}"}, "give their folder too"),
        ({"options": "{score"}, "The options are '{score'; give names and values"),
        ({"options": "3"}, "The options are '3'"),
        ({"options": "{scroe: a}", "photos": Path(), "source": "ava"}, "not those of ava"),
    ],
)
def test_what_cannot_be_shown_is_told_before_a_page_is(given, says, served, tmp_path):
    with pytest.raises(InputError) as told:
        serve(**{"run": a_run(tmp_path / "run")} | given)
    assert says in str(told.value)
    assert not served


def test_the_rating_page_is_served_for_the_photos_that_are_given(monkeypatch, tmp_path, capsys):
    seen = {}

    def launch_instance(words):
        page, *seen["words"] = words
        (cell,) = nbformat.read(page, as_version=4).cells
        seen["code"] = cell.source

    monkeypatch.setattr(voila.Voila, "launch_instance", launch_instance)
    draw_coloured_photos(tmp_path).unlink()
    monkeypatch.chdir(tmp_path)
    how = {"scale": (1, 5), "rater": "anna", "port": 1234, "browser": False}
    app.serve_rating(Path(), Path("mine.csv"), **how)
    call = ast.parse(seen["code"]).body[-1].value
    given = [ast.literal_eval(word) for word in call.args]
    assert given == [str(tmp_path), str(tmp_path / "mine.csv")]
    named = {word.arg: ast.literal_eval(word.value) for word in call.keywords}
    assert named == {"scale": (1, 5), "rater": "anna", "page": True}
    assert {"--no-browser", "--port=1234", *app.PAGE} == set(seen["words"])
    assert "60 photos to score from 1 to 5." in capsys.readouterr().out
    assert not (tmp_path / "mine.csv").exists()


@pytest.mark.parametrize(
    "how, told",
    [
        ({"scale": (1, 100)}, "needs a key of its own"),
        ({"scores": Path("scores.csv")}, "has not written"),
        ({"scores": Path("mine.jpg")}, "is no name of a CSV"),
        ({"photos": Path("nowhere")}, "nowhere is not there"),
    ],
)
def test_what_cannot_be_rated_is_told_before_there_is_a_page(how, told, monkeypatch, tmp_path):
    monkeypatch.setattr(voila.Voila, "launch_instance", lambda words: pytest.fail("a page"))
    draw_coloured_photos(tmp_path)
    monkeypatch.chdir(tmp_path)
    given = {"photos": Path(), "scores": Path("mine.csv"), "scale": None, "rater": None}
    with pytest.raises(InputError, match=told):
        app.serve_rating(**given | how, port=1234, browser=False)


@pytest.mark.parametrize("port", [0, 65536])
def test_a_port_that_there_cannot_be_is_refused(port):
    with pytest.raises(InputError, match=f"--port lies in 1..65535, not {port}"):
        app._launch(lambda folder: folder, port=port, browser=False)
