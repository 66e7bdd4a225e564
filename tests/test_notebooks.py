"""Every notebook runs without a browser, at smoke size, in reading order."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

pytest.importorskip("papermill")

from papermill.exceptions import PapermillExecutionError

from rsrl_lib.drawing import glassbox
from rsrl_lib.interface import batch
from rsrl_lib.papers import recipe_of
from rsrl_lib.pixels import decode
from rsrl_lib.rounds import repeat
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
    notebook = batch.execute(path, tmp_path / path.name, wanted, timeout=300)
    assert tables_without_rows(notebook) == []
    return notebook


class Tables(HTMLParser):
    """How many rows the body of each table of a page has."""

    def __init__(self, page):
        super().__init__()
        self.rows, self.is_body = [], False
        self.feed(page)

    def handle_starttag(self, tag, _attributes):
        if tag == "table":
            self.rows.append(0)
        if tag in ("thead", "tbody"):
            self.is_body = tag == "tbody"
        if tag == "tr" and self.is_body:
            self.rows[-1] += 1


def tables_without_rows(notebook):
    """Code of the cells that show a table, or print one, in which nothing stands."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            shown = output.get("data", {})
            told = output.get("text", "") + shown.get("text/plain", "")
            is_empty = 0 in Tables(shown.get("text/html", "")).rows
            if is_empty or "Empty DataFrame" in told or "Series([], " in told:
                found.append(cell.source)
    return found


def test_a_table_without_rows_is_found_however_it_is_shown():
    import nbformat
    import pandas as pd

    table = pd.DataFrame({"score": [3, 4], "kept": [1, 2]})

    def notebook(shown, **text):
        data = {"text/html": shown} | {f"text/{kind}": value for kind, value in text.items()}
        output = nbformat.v4.new_output("display_data", data)
        return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", outputs=[output])])

    for rows, expected in ((table, []), (table[:0], ["x"])):
        for page in (rows.to_html(), rows.style.to_html(), rows.style.hide().to_html()):
            assert tables_without_rows(notebook(page)) == expected
            assert tables_without_rows(notebook(table.to_html() + page)) == expected
        assert tables_without_rows(notebook("", plain=repr(rows))) == expected
        assert tables_without_rows(notebook("", plain=repr(rows.score))) == expected


@pytest.mark.parametrize("path", CHAPTERS + SOLUTIONS, ids=lambda path: path.stem)
def test_a_notebook_runs_at_smoke_size(path, places, tmp_path):
    notebook = execute(path, places, tmp_path)
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")


@pytest.fixture(scope="module")
def run_of_paper(tmp_path_factory):
    """A small run by SSRL-2019, which holds out no photos."""
    scored = glassbox.open_set(SMOKE["count"], 0)
    strangers = glassbox.open_set(SMOKE["other_count"], 0, glassbox.OTHER_SCENES).table
    small = {"backbone": "squeezenet1_1", "weights": "starter", "rounds": 3, "steps": 2}
    small |= {"shrink_to": 67, "min_per_class": 2, "optimiser": "adamw", "learning_rate": 1e-3}
    recipe = recipe_of("ssrl-2019", **small)
    folder = tmp_path_factory.mktemp("paper") / "run"
    elsewhere = (strangers, decode(strangers)[0])
    return repeat(scored, decode(scored.table)[0], folder, recipe, other=elsewhere)


def told_by(notebook):
    """All that the code of an executed notebook shows in words."""
    told = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            shown = output.get("data", {})
            told += [output.get("text", ""), shown.get("text/markdown", "")]
            told.append(shown.get("text/html", ""))
    return "\n".join(told)


@pytest.mark.parametrize("path", CHAPTERS[3:6] + SOLUTIONS[3:6], ids=lambda path: path.stem)
def test_a_run_of_a_document_is_opened_and_shows_its_training_photos(
    path, run_of_paper, places, tmp_path
):
    given = {"run": str(run_of_paper.folder), "later": 3, "step": 2, "after_relu": True}
    given |= {"absolute": True, "flip": True, "channel": 3}
    told = told_by(execute(path, places, tmp_path, **given))
    if path in CHAPTERS:
        assert "This run is of ssrl-2019: " in told
        assert "backbone is squeezenet1_1, not alexnet" in told
    if path == CHAPTERS[3]:
        assert "goes from 0.24 to 0.57 in round 10" in told and "kappa, training photos" in told
    if path in CHAPTERS[4:6]:
        assert "60 training photos: this run holds out no test photos" in told
        assert "(3, 1)" in told
    if path == CHAPTERS[5]:
        assert "absolute difference after ReLU; the highlight is the cluster nearer to" in told
        words = "--rounds 3 1 --channel 3 --after-relu --absolute --flip PHOTO"
        assert words in told


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"later": 9}, "later is 9 and .* has 3 rounds; give a whole number from 2 to 3"),
        ({"show_scores": [2, 99]}, "No photo that is shown has the score 99"),
        ({"run": "", "paper": "rsrl-c"}, "rsrl-c is not there; give the folder of a run"),
    ],
)
def test_what_is_asked_for_and_not_there_is_said_in_a_sentence(
    given, said, run_of_paper, places, tmp_path
):
    given = {"run": str(run_of_paper.folder)} | given
    path = ROOT / "notebooks" / "05_highlight_maps.ipynb"
    with pytest.raises(PapermillExecutionError, match=f"InputError: .*{said}"):
        execute(path, places, tmp_path, **given)


@pytest.mark.parametrize(
    ("chapter", "said"),
    [
        ("10_two_accuracies", ["What doubles it: ", "K = 0.9 then 0.95", "**Bold**"]),
        ("11_does_dropping_help", ["Dropping does not help", "**believable**", "stray vote"]),
    ],
)
def test_a_chapter_draws_from_its_kept_tables(chapter, said, places, tmp_path):
    path = ROOT / "notebooks" / f"{chapter}.ipynb"
    cells = execute(path, places, tmp_path, recompute=False).cells
    # Alone the kept tables have intervals, verdicts and arms chosen inside.
    told = str([cell.outputs for cell in cells if cell.cell_type == "code"])
    assert [words for words in said if words not in told] == []


def test_the_lesson_on_dropping_reads_any_sweep_and_says_which_arms_are_missing(places, tmp_path):
    from rsrl_lib.comparing.sweeps import read_results

    results = ROOT / "data" / "results"
    kept = read_results(results / "glassbox_arms.csv")
    kept = kept[kept.arm.isin(("keep training", "own-class K=0.9", "focal"))]
    kept.to_csv(tmp_path / "mine.csv", index=False)
    for ending in (".json", "_predictions.parquet", "_rounds.parquet"):
        (tmp_path / f"mine{ending}").write_bytes((results / f"glassbox_arms{ending}").read_bytes())
    path = ROOT / "notebooks" / "11_does_dropping_help.ipynb"
    given = {"recompute": False, "table": str(tmp_path / "mine.csv")}
    cells = execute(path, places, tmp_path, **given).cells
    told = str([cell.outputs for cell in cells if cell.cell_type == "code"])
    assert told.count("missing: cannot be tested") > 0
    assert "own-class K=0.9" in told and "RSRL's rule: accuracy -" in told
    assert "SSRL-2019's rule: accuracy" not in told
    assert "no pair of such arms" in told


@pytest.fixture(scope="module")
def bare_run(tmp_path_factory):
    """A run with attributes on glass-box photos, whose head has no bias (AWCU-2018)."""
    from rsrl_lib.drawing import glassbox
    from rsrl_lib.pixels import decode
    from rsrl_lib.recipe import Recipe, Training
    from rsrl_lib.rounds import repeat

    scored = glassbox.open_set(SMOKE["count"], 0)
    kind = {"head": "gap", "levels": "low-high", "cut": 4.0, "rounds": 1, "head_bias": False}
    kind |= {"attributes": ("bokeh", "flower", "water"), "untagged": "none"}
    training = Training(steps=2, batch=8, learning_rate=1e-3, head_learning_rate=1e-2)
    recipe = Recipe("squeezenet1_1", "starter", training=training, **kind)
    folder = tmp_path_factory.mktemp("bare") / "run"
    return repeat(scored, decode(scored.table)[0], folder, recipe).folder


def test_the_chapter_on_maps_takes_a_list_of_attributes_and_a_head_without_bias(
    bare_run, places, tmp_path
):
    path = ROOT / "notebooks" / "08_activation_maps.ipynb"
    given = {"gap_run": str(bare_run), "attributes": ["flower", "water"]}
    told = told_by(execute(path, places | given, tmp_path))
    assert "As many of 2 drawn by chance" in told
    assert "A true attribute is among the top 2" in told


@pytest.mark.parametrize("which", ["att", "both"])
def test_the_chapter_on_crops_goes_by_the_map_that_is_asked_for(bare_run, places, tmp_path, which):
    path = ROOT / "notebooks" / "09_cropping.ipynb"
    given = {"gap_run": str(bare_run), "which_map": which, "attribute": "flower"}
    given |= {"threshold": 0.55, "iou": 0.0, "aspect": "1:1"}
    told = told_by(execute(path, places | given, tmp_path))
    assert "photos, crops 1:1" in told


def typed_figures(path):
    """Decimals and percentages that stand in the prose of a notebook."""
    prose = []
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] == "markdown":
            prose += cell["source"]
    return set(re.findall(r"(?<![\w.])[+-]?\d*\.\d+|\d+ %", "".join(prose)))


@pytest.mark.parametrize("chapter", ["05", "06", "07", "08", "09", "10", "11"])
def test_no_figure_in_the_prose_of_a_chapter_is_typed_by_hand(chapter):
    for path in (ROOT / "notebooks").rglob(f"{chapter}_*.ipynb"):
        assert typed_figures(path) <= {".05"}, path.name


PUBLISHED = {  # by the documents; beside them the shares of a split and values of parameters
    "01_score_distribution": {"87 %", "83 %", "4.5", "6.5", "1909.08213", "2003.03081"},
    "02_transfer_learning": {"64 %", "16 %", "20 %"},
    "03_repetitive_retraining": {".94", ".91", "0.99", "0.90", "0.45", "0.50", "1.77"}
    | {"0.85", "0.95", "95 %", "0.9", "0.5"},
    "04_assigned_rates": {".046", ".054", ".11", ".20"},
}


@pytest.mark.parametrize("chapter", PUBLISHED)
def test_a_chapter_types_no_figure_but_those_that_documents_publish(chapter):
    assert typed_figures(ROOT / "notebooks" / f"{chapter}.ipynb") == PUBLISHED[chapter]


def test_a_failing_cell_is_named_and_the_batch_goes_on(monkeypatch, tmp_path):
    import sys

    from rsrl_lib.interface import cli

    words = ["rsrl", "notebooks", "01", "--out", str(tmp_path), "-p", "photos", "nowhere"]
    monkeypatch.setattr(sys, "argv", [*words, "-p", "scores", "nowhere.csv"])
    with pytest.raises(SystemExit, match=r"01_score_distribution, cell \d+: InputError.*nowhere"):
        cli.main()
    # The name of an execution that has not ended is another one, and gone.
    assert [path.name for path in tmp_path.iterdir()] == ["01_score_distribution.ipynb"]
