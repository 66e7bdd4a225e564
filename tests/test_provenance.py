"""What run.json says of where a run comes from."""

import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pandas as pd
import pytest

from rsrl_lib import rounds
from rsrl_lib.provenance import common_folder
from tests.test_rounds import altered

pytestmark = pytest.mark.usefixtures("small_crops")
RECIPE = altered(tune="head", rounds=1)


def test_a_run_remembers_photos_command_and_date(coloured, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "bin" / "rsrl"), "train", "--run", "a b"])
    run = rounds.repeat(*coloured, tmp_path / "run", RECIPE)
    made = run.info["provenance"]
    folder = Path(coloured[0].table.path[0]).parent
    assert made["folder"] == str(folder)
    assert made["command"] == "rsrl train --run 'a b'"
    assert made["given_in"] == str(Path.cwd())
    age = datetime.now().astimezone() - datetime.fromisoformat(made["begun"])
    assert 0 <= age.total_seconds() < 600

    monkeypatch.setattr(sys, "argv", ["-c"])
    run = rounds.repeat(*coloured, run.folder, replace(RECIPE, rounds=2))
    later = run.info["provenance"]
    assert {name: later[name] for name in made} == made
    assert [each["command"] for each in later["continued"]] == [None]
    rounds.repeat(*coloured, run.folder, replace(RECIPE, rounds=2))
    assert run.info["provenance"] == later  # nothing was asked for


def test_a_run_of_before_goes_on_without_provenance(coloured, tmp_path):
    run = rounds.repeat(*coloured, tmp_path / "run", RECIPE)
    without = {name: value for name, value in run.info.items() if name != "provenance"}
    pd.Series(without).to_json(run.folder / "run.json")
    rounds.repeat(*coloured, run.folder, replace(RECIPE, rounds=2))
    assert "provenance" not in run.info and len(run.rounds) == 2


def test_photos_of_several_folders_have_no_common_one(tmp_path):
    def table(*paths):
        names = [Path(path).name for path in paths]
        return pd.DataFrame({"photo": names, "path": paths})

    assert common_folder(table("/a/1.png", "/a/2.png")) == "/a"
    assert common_folder(table("/a/1.png", "/b/2.png")) is None
    assert common_folder(table("/a/1.png").assign(photo="one")) is None
    nested = pd.DataFrame({"photo": ["x/1.png", "2.png"], "path": ["/a/x/1.png", "/a/2.png"]})
    assert common_folder(nested) == "/a"
