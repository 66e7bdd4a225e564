"""Every notebook runs without a browser, at smoke size, in reading order."""

from pathlib import Path

import pytest

pytest.importorskip("papermill")

from rsrl_lib import batch
from tests.conftest import ROOT

SMOKE = {
    "count": 60,
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


def execute(path, places, tmp_path, **given):
    declared = batch.declared_parameters(path)
    wanted = {k: v for k, v in (SMOKE | places | given).items() if k in declared}
    for needed, maker in (("run", "03_repetitive_retraining"), ("gap_run", "07_sample_weighting")):
        if needed in declared and path.stem != maker and not Path(wanted[needed]).exists():
            execute(ROOT / "notebooks" / f"{maker}.ipynb", places, tmp_path, **given)
    return batch.execute(path, tmp_path / path.name, wanted, timeout=300)


@pytest.mark.parametrize("path", CHAPTERS + SOLUTIONS, ids=lambda path: path.stem)
def test_a_notebook_runs_at_smoke_size(path, places, tmp_path):
    notebook = execute(path, places, tmp_path)
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")


@pytest.mark.parametrize(
    ("chapter", "said"),
    [
        ("10_does_dropping_help", ["dropping, chosen", "Believably worse:", "p 0.", "undecided"]),
        ("11_two_accuracies", ["ways report .90 or more", "RSRL-b's schedule"]),
    ],
)
def test_a_chapter_draws_from_its_kept_tables(chapter, said, places, tmp_path):
    path = ROOT / "notebooks" / f"{chapter}.ipynb"
    cells = execute(path, places, tmp_path, recompute=False).cells
    # Alone the kept tables have intervals, verdicts and arms chosen inside.
    told = str([cell.outputs for cell in cells if cell.cell_type == "code"])
    assert [words for words in said if words not in told] == []


def test_a_failing_cell_is_named_and_the_batch_goes_on(monkeypatch, tmp_path):
    import sys

    from rsrl_lib import cli

    words = ["rsrl", "notebooks", "01", "--out", str(tmp_path), "-p", "photos", "nowhere"]
    monkeypatch.setattr(sys, "argv", [*words, "-p", "scores", "nowhere.csv"])
    with pytest.raises(SystemExit, match=r"01_score_distribution, cell \d+: InputError.*nowhere"):
        cli.main()
    # The name of an execution that has not ended is another one, and gone.
    assert [path.name for path in tmp_path.iterdir()] == ["01_score_distribution.ipynb"]
