import shutil
import sys

import pandas as pd
import pytest

from rsrl_lib import cli, rounds
from tests.conftest import draw_coloured_photos

pytestmark = pytest.mark.usefixtures("small_crops")
QUICK = ["--backbone", "squeezenet1_1", "--weights", "none", "--epochs", "1", "--rounds", "2"]


def rsrl(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["rsrl", *map(str, words)])
    cli.main()


def refused(monkeypatch, *words):
    with pytest.raises(SystemExit) as stopped:
        rsrl(monkeypatch, *words)
    return str(stopped.value)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    draw_coloured_photos(folder)
    return folder


@pytest.fixture
def train(folder, tmp_path):
    places = ["--photos", folder, "--scores", folder / "scores.csv", "--run", tmp_path / "run"]
    return ["train", *places, "--cache", tmp_path / "cache", *QUICK]


def test_train_makes_a_run_and_assess_reads_it(monkeypatch, train, folder, tmp_path, capsys):
    rsrl(monkeypatch, *train, "--k", "0.5", "0.4", "0.3", "--other", folder)
    assert "The run is finished; round" in capsys.readouterr().out
    info = rounds.open_run(tmp_path / "run").info
    assert info["recipe"]["drop"]["k"] == [0.5, 0.4, 0.3]
    assert info["recipe"]["training"]["epochs"] == 1

    rsrl(monkeypatch, *train, "--k", "0.5", "0.4", "0.3", "--other", folder)
    assert "The run is finished; round" in capsys.readouterr().out

    table = tmp_path / "assessed.csv"
    rsrl(
        monkeypatch, "assess", "--run", tmp_path / "run", folder / "00.png", folder, "--csv", table
    )
    assessed = pd.read_csv(table)
    assert list(assessed) == ["photo", "score", *[f"likelihood_{s}" for s in (2, 3, 4, 5)]]
    assert len(assessed) == 61
    best = assessed.filter(like="likelihood").idxmax(axis=1).str[-1].astype(int)
    assert (assessed.score == best).all()
    assert assessed.filter(like="likelihood").stack().between(0, 1).all()


def test_skip_broken_leaves_photos_out_and_lists_them(monkeypatch, train, folder, tmp_path, capsys):
    there = tmp_path / "broken"
    shutil.copytree(folder, there)
    (there / "03.png").write_bytes(b"no picture")
    (there / "04.png").unlink()
    words = [there if word == folder else word for word in train]
    words[words.index(folder / "scores.csv")] = there / "scores.csv"
    assert "04.png" in refused(monkeypatch, *words)
    rsrl(monkeypatch, *words, "--skip-broken")
    assert "2 photos were left out" in capsys.readouterr().out
    assert set(pd.read_csv(tmp_path / "run" / "left_out.csv").photo) == {"03.png", "04.png"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--rounds", "0"], "rounds must be 1 or more"),
        (["--k", "0.9", "--keep-share", "0.5"], "exclude each other"),
        (["--backbone", "squeezenet1_0", "--weights", "starter"], "not of squeezenet1_0"),
        (["--score-column", "rating"], "rating"),
        (["--scores", "nothing.csv"], "nothing.csv"),
    ],
)
def test_bad_input_is_one_sentence_and_a_failure(monkeypatch, train, words, says):
    said = refused(monkeypatch, *train, *words)
    assert said.startswith("rsrl: ")
    assert says in said
    assert "\n" not in said


def test_a_run_without_a_finished_round_cannot_assess(monkeypatch, tmp_path):
    said = refused(monkeypatch, "assess", "--run", tmp_path, tmp_path / "a.jpg")
    assert "holds no run with a finished round" in said


def test_a_misspelt_notebook_parameter_names_the_nearest(monkeypatch, tmp_path):
    said = refused(monkeypatch, "notebooks", "01", "--out", tmp_path, "-p", "phtos", "x")
    assert "There is no parameter 'phtos'; did you mean 'photos'?" in said
    said = refused(monkeypatch, "notebooks", "distribution", "--out", tmp_path)
    assert "did you mean '01_score_distribution'?" in said


@pytest.mark.parametrize("command", ["train", "assess", "glassbox", "starter", "notebooks"])
def test_help_of_every_command_has_an_example(monkeypatch, capsys, command):
    with pytest.raises(SystemExit) as stopped:
        rsrl(monkeypatch, command, "--help")
    assert stopped.value.code == 0
    assert f"Example: rsrl {command}" in " ".join(capsys.readouterr().out.replace("│", "").split())
