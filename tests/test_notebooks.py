"""Every notebook runs without a browser, at smoke size, in reading order."""

from pathlib import Path

import pytest

papermill = pytest.importorskip("papermill")

from tests.conftest import ROOT  # noqa: E402

SMOKE = {
    "count": 90,
    "other_count": 24,
    "rounds": 2,
    "epochs": 1,
    "tried": 3,
    "long_epochs": 2,
    "keep_share": 0.7,
    "min_per_class": 2,
    "recompute": True,
    "steps": 3,
    "resamples": 200,
}
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SOLUTIONS = sorted((ROOT / "notebooks" / "solutions").glob("*.ipynb"))


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebooks")
    return {
        "run": str(folder / "run"),
        "gap_run": str(folder / "gap"),
        "runs": str(folder / "runs"),
        "sweep": str(folder / "sweep"),
        "figures": str(folder / "figures"),
    }


def execute(path, places, tmp_path, **given):
    declared = papermill.inspect_notebook(str(path))
    wanted = {k: v for k, v in (SMOKE | places | given).items() if k in declared}
    for needed, maker in (("run", "03_repetitive_retraining"), ("gap_run", "07_sample_weighting")):
        if needed in declared and path.stem != maker and not Path(wanted[needed]).exists():
            execute(ROOT / "notebooks" / f"{maker}.ipynb", places, tmp_path, **given)
    return papermill.execute_notebook(
        str(path), str(tmp_path / path.name), wanted, execution_timeout=300, progress_bar=False
    )


@pytest.mark.parametrize("path", CHAPTERS + SOLUTIONS, ids=lambda path: path.stem)
def test_a_notebook_runs_at_smoke_size(path, places, tmp_path):
    notebook = execute(path, places, tmp_path)
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_runs_on_real_photos(path, places, tmp_path, shared, real_folder):
    given = {
        "photos": str(shared / "oasis" / "photos"),
        "scores": str(real_folder / "photos.csv"),
        "options": {
            "mean_column": "mean_score",
            "votes": str(real_folder / "votes.csv"),
            "attribute_columns": ["category"],
        },
        "other": str(real_folder / "other"),
        "ava": str(shared / "ava" / "AVA.txt"),
        "run": places["run"] + "_real",
        "gap_run": places["gap_run"] + "_real",
    }
    execute(path, places, tmp_path, **given)


@pytest.fixture(scope="module")
def real_folder(shared, tmp_path_factory):
    """A table of some of the real photos, and a folder of a few others."""
    import pandas as pd

    folder = tmp_path_factory.mktemp("real")
    table = pd.read_csv(shared / "oasis" / "photos.csv", dtype={"photo": str})
    scored, rest = table.iloc[::6], table.iloc[1::40]
    scored.to_csv(folder / "photos.csv", index=False)
    votes = pd.read_csv(shared / "oasis" / "votes.csv", dtype={"photo": str})
    votes[votes.photo.isin(scored.photo)].to_csv(folder / "votes.csv", index=False)
    (folder / "other").mkdir()
    for photo in rest.photo:
        (folder / "other" / photo).symlink_to((shared / "oasis" / "photos" / photo).resolve())
    return folder


def test_a_failing_cell_is_named_and_the_batch_goes_on(monkeypatch, tmp_path):
    import sys

    from rsrl_lib import cli

    words = ["rsrl", "notebooks", "01", "--out", str(tmp_path), "-p", "photos", "nowhere"]
    monkeypatch.setattr(sys, "argv", [*words, "-p", "scores", "nowhere.csv"])
    with pytest.raises(SystemExit, match=r"01_score_distribution, cell \d+: InputError.*nowhere"):
        cli.main()
    assert (tmp_path / "01_score_distribution.ipynb").exists()
