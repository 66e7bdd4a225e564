import codecs
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rsrl_lib.comparing import arms, sweeps
from rsrl_lib.comparing.comparisons import read_recipes
from rsrl_lib.drop_rules import DropRule
from rsrl_lib.files import InputError, locked
from rsrl_lib.interface import cli
from rsrl_lib.measures import measures
from rsrl_lib.photos import ScoredPhotos

GRID = """
[photos]
folder = "{folder}"
scores = "{folder}/scores.csv"
[grid]
folds = [0, 1]
seeds = [3]
[common]
backbone = "squeezenet1_1"
weights = "none"
rounds = 2
first_steps = 3
steps = 2
batch = 12
shrink_to = 64
learning_rate = 1e-3
[arms."keep training"]
k = [0.0]
[arms.dropping]
each_k = [0.3, 0.5]
min_per_class = 2
"""


@pytest.fixture(scope="module")
def finished(coloured, tmp_path_factory):
    """A grid and its results."""
    grid = written(tmp_path_factory.mktemp("sweep"), coloured)
    run(grid)
    return grid


@pytest.fixture
def grid(finished, tmp_path):
    """The same, to be changed."""
    return shutil.copytree(finished.parent, tmp_path / "sweep") / "grid.toml"


def written(folder, coloured, *changes):
    text = GRID.format(folder=Path(coloured[0].table.path[0]).parent)
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    (folder / "grid.toml").write_text(text)
    return folder / "grid.toml"


def run(grid, **options):
    options = {"jobs": 1, "cache": grid.parent / "cache"} | options
    return sweeps.sweep(grid, grid.parent / "all.csv", **options)


def same_but_for_the_grid(a, b):
    """Tables of results of grids that name different folders of photos."""
    pd.testing.assert_frame_equal(a.drop(columns="cell"), b.drop(columns="cell"))


def test_a_grid_is_every_arm_with_every_fold_and_k_seed_by_seed(grid):
    cells = sweeps.read_grid(grid)
    assert [(c.arm, c.fold, c.seed) for c in cells] == [
        (arm, fold, 3)
        for fold in (0, 1)
        for arm in ("keep training", "dropping K=0.3", "dropping K=0.5")
    ]
    assert cells[1].recipe.drop.k == (0.3,)
    assert cells[1].recipe.drop.min_per_class == 2
    assert cells[1].recipe.training.steps == 2
    assert {c.recipe.fold for c in cells} == {0, 1}


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ("first_steps = 3", "first_step = 3", "no 'first_step'; did you mean 'first_steps'"),
        ("[grid]", "[gird]", "no 'gird'; did you mean 'grid'"),
        ("rounds = 2", "rounds = ", "is no readable grid of a sweep .TOMLDecodeError"),
        ("rounds = 2", "rounds = 0", "rounds must be 1 or more"),
        ("seeds = [3]", 'labels = "votes"', "'mean' or 'single_vote', not 'votes'"),
        ("scores = ", "score = ", "no 'score'; did you mean 'scores'"),
        ("folds = [0, 1]", "folds = 5", "folds are a list such as"),
        ("folds = [0, 1]", "dataset = 2020", "dataset is a name in quotes, not 2020"),
        ("folds = [0, 1]", 'dataset = ""', "dataset is a name in quotes, not ''"),
        ("each_k = [0.3, 0.5]", "each_k = []", "arm 'dropping': each_k needs a K or more"),
        ("each_k = [0.3, 0.5]", "each_k = [0.3, 0.3]", "names of arms must differ"),
        ("each_k = [0.3, 0.5]", "each_k = [0.9999999, 1.0]", "names of arms must differ"),
        (
            "rounds = 2",
            "rounds = 2\nseed = 5",
            "'seed' is the grid's; give a list of them in .grid.",
        ),
        ("k = [0.0]", 'control = "random_drop"', "control must be one of .*random-drop"),
        (
            "seeds = [3]\n[common]",
            'labels = "single_vote"\n[common]\nlevels = "low-high"',
            "single votes go with levels = 'scores' alone",
        ),
        (
            "[arms.dropping]",
            '[arms."a:b"]\n[arms."a/b"]\n[arms.dropping]',
            "names of arms must differ",
        ),
    ],
)
def test_what_a_grid_cannot_mean_is_said(coloured, tmp_path, before, after, sentence):
    path = written(tmp_path, coloured, (before, after))
    with pytest.raises(InputError, match=sentence):
        sweeps.read_grid(path)


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ("rounds = 2", 'rounds = "3"', "[common]: rounds must be a whole number, not the text '3'"),
        ("rounds = 2", "rounds = true", "[common]: rounds must be a whole number, not true"),
        ("rounds = 2", "rounds = 2.0", "[common]: rounds must be a whole number, not 2.0"),
        ("rounds = 2", "rounds = {a = 1}", "rounds must be a whole number, not the table {'a': 1}"),
        ("rounds = 2", "rounds = 2020-01-01", "rounds must be a whole number, not 2020-01-01"),
        ("rounds = 2", "rounds = -1", "[common]: rounds must be 1 or more, not -1"),
        ("steps = 2", 'steps = "x"', "[common]: steps must be a whole number, not the text 'x'"),
        ("steps = 2", "cut = nan", "[common]: cut must be a finite number, not nan"),
        ("steps = 2", 'attributes = "sharp"', "must be a list of texts in quotes, not the text"),
        ("steps = 2", 'attributes = ["a", 1]', "of texts in quotes, not the list ['a', 1]"),
        ("steps = 2", "literal_weights = 1", "literal_weights must be true or false, not 1"),
        ("steps = 2", "weights_ab = [1]", "weights_ab must be a list of 2 finite numbers, not"),
        ("steps = 2", "optimiser = 3", "optimiser must be one of adamw, sgd, not 3"),
        ("k = [0.0]", "k = 0.9", "arm 'keep training': k must be a list of finite numbers, not"),
        ("k = [0.0]", 'k = ["a"]', "arm 'keep training': k must be a list of finite numbers, not"),
        ("k = [0.0]", "k = [1.5]", "arm 'keep training': k must lie in 0..1"),
        ("k = [0.0]", "k = [0.1, 0.2]", "arm 'keep training': own-class needs 1 or 3 values of k"),
        ("k = [0.0]", 'keep_share = "a"', "arm 'keep training': keep_share must be a finite"),
        ("min_per_class = 2", "min_per_class = true", "arm 'dropping': min_per_class must be a"),
        ("[0.3, 0.5]", "0.5", "arm 'dropping': each_k must be a list of finite numbers, not 0.5"),
        ("[0.3, 0.5]", "[true]", "arm 'dropping': each_k must be a list of finite numbers, not"),
        ("[arms.dropping]", "[arms.dropping.more]", "arm 'dropping': there is no 'more'"),
        ("folds = [0, 1]", "folds = []", "folds are a list such as [0, 1], not the list []"),
        ("folds = [0, 1]", 'folds = ["0"]', "folds are a list such as [0, 1], not the list ['0']"),
        ("folds = [0, 1]", "folds = [true]", "folds are a list such as [0, 1], not the list"),
        ("folds = [0, 1]", "folds = [5]", "folds must lie in 0..4, not 5"),
        ("folds = [0, 1]", "folds = [1, 1]", "folds are each given once, not the list [1, 1]"),
        ("seeds = [3]", "seeds = [-1]", "seeds must lie in 0..4294967295, not -1"),
        ("seeds = [3]", "labels = 3", "labels are 'mean' or 'single_vote', not 3"),
        ("[common]", "[[common]]", "common must be a table [common], not the list"),
        ("scores = ", "glassbox = 3\nscores = ", "glassbox must be a table, not 3"),
        ("scores = ", "source = 3\nscores = ", "[photos]: source must be one of folder, ava"),
        ("scores = ", "options = 3\nscores = ", "[photos]: options must be a table, not 3"),
        ("[grid]", "options = {mean = 'x'}\n[grid]", "no 'mean'; did you mean 'mean_column'?"),
        ("[grid]", "options = {votes = 3}\n[grid]", "votes must be a text in quotes, not 3"),
        ("[grid]", "options = {strict = 1}\n[grid]", "strict must be true or false, not 1"),
        ("scores = ", "options = {}\nsource = 'ava'\nscores = ", "leave scores out"),
    ],
)
def test_what_is_of_another_type_is_named_with_its_place(
    coloured, tmp_path, before, after, sentence
):
    path = written(tmp_path, coloured, (before, after))
    with pytest.raises(InputError) as caught:
        sweeps.read_grid(path)
    said = str(caught.value)
    assert said.startswith(str(path)) and sentence in said and said.endswith((".", "?"))


def test_photos_of_a_grid_are_drawn_ones_or_of_a_folder(coloured, tmp_path):
    for table, says in (
        ("glassbox = {count = 9}", "glassbox of [photos] needs seed"),
        ('glassbox = {count = "9", seed = 0}', "count must be a whole number, not the text '9'"),
        ("glassbox = {count = 9, seed = 0, size = 1}", "there is no 'size'"),
        ("glassbox = {count = 9, seed = 0}\nfolder = 'p'", "either drawn photos or a folder"),
        ("folder = 'p'", "[photos] needs scores"),
        ("scores = 's.csv'", "[photos] needs folder"),
    ):
        (tmp_path / "grid.toml").write_text(f"[photos]\n{table}\n[arms.one]\n")
        with pytest.raises(InputError, match=re.escape(says)):
            sweeps.read_grid(tmp_path / "grid.toml")
    text = "[photos]\nglassbox = {count = 9, seed = 0}\n[arms.one]\n"
    (tmp_path / "grid.toml").write_text(text)
    assert len(sweeps.read_grid(tmp_path / "grid.toml")) == 1


def test_a_grid_with_a_mark_is_read_and_one_in_utf_16_is_told(coloured, tmp_path):
    path = written(tmp_path, coloured)
    text = path.read_text()
    plain = sweeps.read_grid(path)
    path.write_bytes(codecs.BOM_UTF8 + text.encode())
    assert sweeps.read_grid(path) == plain
    path.write_bytes(text.encode("utf-16"))
    with pytest.raises(InputError, match=r"grid\.toml cannot be read \(it is text in UTF-16\)"):
        sweeps.read_grid(path)
    with pytest.raises(InputError, match=r"\(No such file\); .* such as \S+grid\.toml"):
        sweeps.read_grid(path.with_name("gird.toml"))


def test_the_hash_of_a_cell_is_what_its_grid_says_so_that_kept_tables_stay_valid(tmp_path):
    """Ids in tables of earlier versions; paths count as they are written."""
    text = GRID.format(folder="photos")
    (tmp_path / "grid.toml").write_text(text)
    ids = [cell.id for cell in sweeps.read_grid(tmp_path / "grid.toml")]
    assert ids[:3] == ["1a3a3a55ec77", "f46c7460fd1a", "0d0cbde25496"]


def test_a_sweep_says_what_it_trains_on_what(grid):
    said = []
    run(grid, say=said.append)
    assert said == ["All 6 cells are finished already; nothing is trained."]
    grid.write_text(grid.read_text() + '[arms.focal]\ncontrol = "focal"\n')
    said.clear()
    run(grid, say=said.append)
    assert said[0] == "60 photos. Photos with score 2: 6, 3: 14, 4: 20, 5: 20."
    assert "8 cells: arms 4 x folds 2 x seeds 1; 6 are finished already, 2 are trained" in said[1]
    assert "They are trained on the processor in " in said[2] or "cuda" in str(said)


def test_cells_that_a_k_left_with_few_photos_are_counted(grid):
    run(grid)
    drops = pd.read_parquet(grid.parent / "all_drops.parquet")
    rounds = pd.read_parquet(grid.parent / "all_rounds.parquet")
    photos = drops.groupby("cell").size()
    low = rounds[(rounds["round"] == 2) & (rounds.kept < rounds.cell.map(photos) / 3)]
    assert set(low.arm) <= {"dropping K=0.3", "dropping K=0.5"}
    said = sweeps.few_kept(grid, grid.parent / "all.csv")
    if low.empty:
        assert said == []
    else:
        assert f"in {low.cell.nunique()} of 6 cells" in said[0]
    rounds.loc[(rounds["round"] == 2) & (rounds.arm != "keep training"), "kept"] = 3
    rounds.to_parquet(grid.parent / "all_rounds.parquet", index=False)
    said = sweeps.few_kept(grid, grid.parent / "all.csv")
    assert len(said) == 1
    assert said[0].startswith("Warning: in 4 of 6 cells that drop by a K")
    assert said[0].endswith("(arms dropping K=0.3 and dropping K=0.5).")


def test_a_sweep_in_which_no_arm_drops_by_a_k_is_not_warned_of(coloured, tmp_path):
    whole, each = ("k = [0.0]", "keep_share = 0.9"), ("each_k = [0.3, 0.5]", "keep_share = 0.667")
    grid = written(tmp_path, coloured, whole, each)
    run(grid)
    assert sweeps.few_kept(grid, tmp_path / "all.csv") == []


def test_every_cell_has_its_row_its_predictions_its_rounds_and_what_it_dropped(grid):
    table = run(grid)
    assert len(table) == 6
    assert (table.steps == 3 + 2).all()
    assert set(table.dataset) == {"grid"}
    assert set(sweeps.REPORTED) <= set(table)
    keys = ["arm", "fold", "seed"]
    parts = {n: pd.read_parquet(grid.parent / f"all_{n}.parquet") for n in sweeps.TABLES}
    assert all({*part.cell} == {*table.cell} for part in parts.values())
    rounds = parts["rounds"].query("chosen").set_index(keys)
    for (arm, fold, seed), own in parts["predictions"].groupby(keys):
        row = table[(table.arm == arm) & (table.fold == fold) & (table.seed == seed)].iloc[0]
        found = measures(own.label.to_numpy(), own.assigned.to_numpy(), [2, 3, 4, 5])
        assert row.kappa == pytest.approx(found["kappa"], nan_ok=True, abs=1e-5)
        assert row.photos == len(own)
        assert row.accuracy == pytest.approx(rounds.test_accuracy[arm, fold, seed], abs=1e-5)
    assert len(parts["rounds"]) == 6 * 2
    drops = parts["drops"]
    assert (drops[drops.arm == "keep training"].rounds_out == 0).all()
    assert drops[drops.arm == "dropping K=0.5"].rounds_out.max() == 1
    assert not list(grid.parent.rglob("*.safetensors"))
    facts = json.loads((grid.parent / "all.json").read_text())["grids"]["grid.toml"]
    assert facts["grid"] == grid.read_text()
    assert [machine["threads"] for machine in facts["machines"]] == [1]


@pytest.mark.parametrize("is_moved", [False, True])
def test_finished_cells_are_not_trained_again_and_new_arms_are(grid, monkeypatch, is_moved):
    first = run(grid)
    if is_moved:  # the tables are enough, the runs need not be there
        shutil.rmtree(grid.parent / "all_cells")
    trained, real = [], sweeps.repeat
    monkeypatch.setattr(sweeps, "repeat", lambda *a: trained.append(a[3]) or real(*a))
    pd.testing.assert_frame_equal(run(grid), first)
    assert trained == []
    grid.write_text(grid.read_text() + '[arms.focal]\ncontrol = "focal"\n')
    elsewhere = {"precision": "of another processor", "threads": 1}
    monkeypatch.setattr(sweeps, "machine", lambda precision: elsewhere)
    again = run(grid)
    machines = json.loads((grid.parent / "all.json").read_text())["grids"]["grid.toml"]["machines"]
    assert len(machines) == 2 and machines[1] == elsewhere  # what trained the earlier cells stays
    assert [recipe.control for recipe in trained] == ["focal", "focal"]
    pd.testing.assert_frame_equal(again[again.arm != "focal"].reset_index(drop=True), first)
    assert len(again) == 8


def test_a_second_grid_grows_the_same_table(grid):
    first = run(grid)
    other = grid.with_name("other.toml")
    text = grid.read_text().split("[arms")[0].replace("seeds = [3]", "seeds = [4]")
    other.write_text(text + "[arms.alone]\nk = [0.5]\n")
    both = sweeps.sweep(other, grid.parent / "all.csv", cache=grid.parent / "cache")
    assert len(both) == len(first) + 2
    pd.testing.assert_frame_equal(both[both.seed == 3].reset_index(drop=True), first)
    assert len(json.loads((grid.parent / "all.json").read_text())["grids"]) == 2


def test_a_sweep_killed_between_its_tables_loses_and_doubles_nothing(grid, monkeypatch):
    whole = run(grid)
    (grid.parent / "all.csv").unlink()  # written last, after predictions, drops and rounds
    monkeypatch.setattr(sweeps, "repeat", None)
    pd.testing.assert_frame_equal(run(grid), whole)
    rounds = pd.read_parquet(grid.parent / "all_rounds.parquet")
    assert not rounds.duplicated(["cell", "round"]).any()
    assert len(rounds) == 6 * 2


def test_rows_of_a_cell_that_is_trained_anew_otherwise_do_not_stay(grid):
    run(grid)
    (grid.parent / "all.csv").unlink()
    shutil.rmtree(grid.parent / "all_cells")
    grid.write_text(grid.read_text().replace("steps = 2", "steps = 1"))
    table = run(grid)
    for name in sweeps.TABLES:
        assert set(pd.read_parquet(grid.parent / f"all_{name}.parquet").cell) == set(table.cell)


def test_an_arm_may_be_named_like_a_number_or_nothing(grid):
    text = grid.read_text().split("[arms")[0].replace("folds = [0, 1]", "folds = [0]")
    grid.write_text(text + '[arms."0.90"]\nk = [0.9]\n[arms."None"]\n')
    first = run(grid)
    named = set(first.arm)
    assert {"0.90", "None"} <= named
    grid.write_text(grid.read_text() + "[arms.another]\nk = [0.1]\n")
    again = run(grid)
    assert len(again) == len(first) + 1
    assert set(again.arm) == named | {"another"}


@pytest.mark.parametrize("is_moved", [False, True])
def test_a_cell_of_another_grid_is_refused(grid, is_moved):
    run(grid)
    (grid.parent / "all.csv").unlink() if is_moved else shutil.rmtree(grid.parent / "all_cells")
    grid.write_text(grid.read_text().replace("steps = 2", "steps = 4"))
    with pytest.raises(InputError, match="of another grid"):
        run(grid)


def test_scores_that_changed_under_a_table_are_refused_and_lose_nothing(coloured, tmp_path):
    folder = shutil.copytree(Path(coloured[0].table.path[0]).parent, tmp_path / "photos")
    path = tmp_path / "grid.toml"
    text = GRID.format(folder=folder).replace("folds = [0, 1]", "folds = [0]")
    path.write_text(text)
    before = run(path)
    scores = pd.read_csv(folder / "scores.csv", dtype={"photo": str})
    lowest, highest = scores.score.min(), scores.score.max()
    one, other = scores.index[scores.score == lowest][0], scores.index[scores.score == highest][0]
    scores.loc[[one, other], "score"] = highest, lowest
    scores.to_csv(folder / "scores.csv", index=False)
    pd.testing.assert_frame_equal(run(path), before)  # nothing is left to train
    facts = (tmp_path / "all.json").read_bytes()
    path.write_text(text + "[arms.another]\nk = [0.1]\n")
    with pytest.raises(InputError, match="holds 'grid' with other photos or scores"):
        run(path)
    pd.testing.assert_frame_equal(sweeps.read_results(tmp_path / "all.csv"), before)
    assert (tmp_path / "all.json").read_bytes() == facts


def test_a_table_of_results_ends_in_csv(grid):
    with pytest.raises(InputError, match=r"ends in \.csv"):
        sweeps.sweep(grid, grid.parent / "out")


def test_a_failing_cell_is_named_and_the_others_go_on(grid):
    text = grid.read_text() + '[arms.broken]\nweights = "nowhere.safetensors"\n'
    grid.write_text(text)
    with pytest.raises(InputError, match=r"2 of 8 cells failed \(first: \S+-broken: InputError"):
        run(grid)
    assert len(pd.read_csv(grid.parent / "all.csv")) == 6
    named = pd.read_csv(grid.parent / "all_failures.csv").cell
    assert named.tolist() == ["grid-mean-3-0-broken", "grid-mean-3-1-broken"]
    grid.write_text(text.split("[arms.broken]")[0])
    run(grid)
    assert not (grid.parent / "all_failures.csv").exists()


def test_two_processes_give_the_table_of_one(finished, coloured, tmp_path):
    other = written(tmp_path, coloured)
    same_but_for_the_grid(run(other, jobs=2), run(finished))


def test_a_single_vote_is_one_of_the_photo_and_the_truth_is_the_mean_of_the_others():
    votes = pd.DataFrame({1: [2, 0], 4: [0, 1], 5: [1, 3]})
    photos = ScoredPhotos(pd.DataFrame({"photo": ["a", "b"], "score": [2, 5]}), votes=votes)
    for seed in range(20):
        single, others = sweeps.single_votes(photos, seed)
        expected = {1: (1 + 5) / 2, 5: 1.0}, {4: 5.0, 5: (4 + 5 + 5) / 3}
        for vote, other, known in zip(single.table.score, others, expected, strict=True):
            assert other == pytest.approx(known[vote])
    assert len({sweeps.single_votes(photos, s)[0].table.score[0] for s in range(20)}) == 2


def test_single_votes_need_votes():
    photos = ScoredPhotos(pd.DataFrame({"photo": ["a"], "score": [2]}))
    with pytest.raises(InputError, match="none are known"):
        sweeps.single_votes(photos, 0)


def test_single_votes_are_tested_against_the_vote_and_the_crowd(coloured, tmp_path):
    scored = coloured[0].table
    votes = pd.DataFrame({"photo": np.repeat(scored.photo, 5), "score": np.repeat(scored.score, 5)})
    votes.to_csv(tmp_path / "votes.csv", index=False)
    path = written(
        tmp_path,
        coloured,
        ("[grid]", 'options = {votes = "votes.csv"}\n[grid]'),
        ("folds = [0, 1]", 'folds = [0]\nlabels = "single_vote"'),
    )
    table = run(path)
    assert table.target.tolist() == ["label", "crowd"] * 3
    both = table.pivot(index="arm", columns="target", values="accuracy")
    assert (both.label == both.crowd).all()  # here all votes of a photo are the same
    predictions = pd.read_parquet(tmp_path / "all_predictions.parquet")
    assert {"assigned", "crowd"} <= set(predictions)
    assert "label" not in predictions  # a rater's vote stays with its source


def test_the_command_prints_the_means(grid, monkeypatch, capsys):
    words = ["rsrl", "sweep", str(grid), "--out", str(grid.parent / "all.csv")]
    monkeypatch.setattr(sys, "argv", [*words, "--cache", str(grid.parent / "cache")])
    cli.main()
    assert "6 cells are in" in capsys.readouterr().out


def address():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{found.getsockname()[1]}"


@pytest.fixture
def cluster(tmp_path):
    """A Dask scheduler and two workers, each a process of its own."""
    pytest.importorskip("distributed", reason="distributed (extra 'cluster') is not installed")
    where = address()
    host, port = where.split(":")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path}
    dask = [sys.executable, "-m", "distributed.cli"]
    words = ["dask_scheduler", "--host", host, "--port", port, "--no-dashboard"]
    started = [subprocess.Popen([*dask[:2], f"distributed.cli.{words[0]}", *words[1:]], **quiet)]
    worker = [*dask[:2], "distributed.cli.dask_worker", f"tcp://{where}", "--nthreads", "1"]
    worker += ["--no-dashboard", "--no-nanny", "--death-timeout", "30"]
    started += [subprocess.Popen(worker, **quiet) for _ in range(2)]
    try:
        yield f"tcp://{where}", started[1:]
    finally:
        for process in started:
            process.kill()
            process.wait()


def with_a_finished_cell(grid, *words):
    """The command of a sweep, in a process of its own, once a cell is finished."""
    rsrl, out = Path(sys.executable).parent / "rsrl", grid.parent / "all.csv"
    words = [rsrl, "sweep", grid, "--out", out, "--cache", grid.parent / "cache", *words]
    how = {"stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    swept = subprocess.Popen(list(map(str, words)), **how)
    end = time.monotonic() + 120
    while not list((grid.parent / "all_cells").glob("*/cell.json")):
        assert time.monotonic() < end and swept.poll() is None, swept.communicate()[1][-2000:]
        time.sleep(0.05)
    return swept


def written_at(grid):
    """When each finished cell was written."""
    cells = (grid.parent / "all_cells").glob("*/cell.json")
    return {path: path.stat().st_mtime_ns for path in cells}


def test_ctrl_c_ends_a_sweep_and_its_workers_and_the_same_command_goes_on(
    finished, coloured, tmp_path
):
    other = written(tmp_path, coloured)
    swept = with_a_finished_cell(other, "--jobs", "2")
    os.killpg(swept.pid, signal.SIGINT)
    said = swept.communicate(timeout=60)[1]
    assert swept.returncode == 1, said[-2000:]
    assert "Traceback" not in said
    assert "rsrl: stopped; a training keeps" in said  # joblib may have a last word
    end = time.monotonic() + 30
    while subprocess.run(["pgrep", "-s", str(swept.pid)], capture_output=True).stdout:
        assert time.monotonic() < end, "a worker goes on"
        time.sleep(0.2)
    kept = written_at(other)
    same_but_for_the_grid(run(other), run(finished))
    assert all(path.stat().st_mtime_ns == before for path, before in kept.items())


def test_a_killed_worker_is_said_and_the_same_command_goes_on(finished, coloured, tmp_path):
    other = written(tmp_path, coloured)
    swept = with_a_finished_cell(other, "--jobs", "2")
    found = subprocess.run(["pgrep", "-s", str(swept.pid), "-f", "popen_loky"], capture_output=True)
    workers = [int(pid) for pid in found.stdout.split()]
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    said = swept.communicate(timeout=120)[1]
    assert workers
    assert swept.returncode == 1, said[-2000:]
    assert "Traceback" not in said
    assert "1 of 6 cells failed (first: one in work: its process was killed" in said
    assert pd.read_csv(tmp_path / "all_failures.csv").cell.tolist() == ["one in work"]
    same_but_for_the_grid(run(other), run(finished))
    assert not (tmp_path / "all_failures.csv").exists()


def test_a_dask_cluster_gives_the_table_of_one_process_even_if_a_worker_is_killed(
    finished, coloured, cluster, tmp_path
):
    other = written(tmp_path, coloured)
    where, workers = cluster
    swept = with_a_finished_cell(other, "--cluster", where)
    # Of six cells one is finished: each of two workers, of one thread, has another in work.
    os.kill(workers[0].pid, signal.SIGKILL)
    kept = written_at(other)
    _, said = swept.communicate(timeout=240)
    assert swept.returncode == 0, said[-2000:]
    same_but_for_the_grid(*(pd.read_csv(p.parent / "all.csv") for p in (other, finished)))
    assert all(path.stat().st_mtime_ns == before for path, before in kept.items())
    grids = json.loads((other.parent / "all.json").read_text())["grids"]
    assert grids["grid.toml"]["machines"] == [{"cluster": where}]


def test_a_scheduler_that_does_not_answer_is_named(grid):
    pytest.importorskip("distributed", reason="distributed (extra 'cluster') is not installed")
    with pytest.raises(InputError, match=r"No Dask scheduler answers at tcp://127\.0\.0\.1:1"):
        run(grid, cluster="tcp://127.0.0.1:1")


def test_an_arms_own_threshold_takes_the_place_of_the_common_one(coloured, tmp_path):
    path = written(tmp_path, coloured, ("rounds = 2", "rounds = 2\nkeep_share = 0.7"))
    shared, own = {}, {}
    for cell in sweeps.read_grid(path):
        (own if cell.recipe.drop.k else shared)[cell.arm] = cell.recipe.drop.keep_share
    assert shared == {}
    assert set(own.values()) == {None}
    path.write_text(path.read_text() + '[arms.common]\ncontrol = "random-drop"\n')
    assert sweeps.read_grid(path)[3].recipe.drop.keep_share == 0.7


def test_what_could_be_reported_of_a_sweep_is_a_row_per_cell_and_round(grid):
    grid.write_text(grid.read_text() + '[arms.leaking]\nresplit = "fresh"\n')
    table = run(grid)
    rule = DropRule(k=(0.5,))
    told = sweeps.reported_accuracies(grid, grid.parent / "all.csv", rule)
    assert len(told) == table.cell.nunique() * 2
    assert set(told.resplit) == {"never", "fresh"}
    rounds = pd.read_parquet(grid.parent / "all_rounds.parquet")
    keys = ["arm", "seed", "fold", "round"]
    both = told.merge(rounds, on=keys)
    assert both.untouched.tolist() == pytest.approx(both.test_accuracy.tolist())
    assert both.held_out.tolist() == pytest.approx(both.validation_accuracy.tolist())
    shutil.rmtree(grid.parent / "all_cells")
    with pytest.raises(InputError, match="is needed and gone"):
        sweeps.reported_accuracies(grid, grid.parent / "all.csv", rule)


def test_a_second_sweep_on_the_same_table_is_refused(grid):
    with (
        locked(grid.parent / "all_cells" / "sweep.lock"),
        pytest.raises(InputError, match="is being written by another process"),
    ):
        run(grid)
    assert len(run(grid)) == 6


def tables_of(grid):
    out = grid.with_name("all.csv")
    others = [pd.read_parquet(out.with_name(f"all_{name}.parquet")) for name in sweeps.TABLES]
    return sweeps.read_results(out), others


def test_an_arm_is_taken_out_of_all_tables_and_can_be_trained_again(grid):
    out = grid.with_name("all.csv")
    before, _ = tables_of(grid)
    assert arms.arms_of(out).cells.tolist() == [2, 2, 2]
    assert arms.remove_arm(out, "dropping K=0.5") == 2
    results, others = tables_of(grid)
    assert set(results.arm) == {"keep training", "dropping K=0.3"}
    for table in others:
        assert set(table.cell) == set(results.cell)
    assert not list(grid.parent.glob("all_cells/*0.5*"))
    again = run(grid)
    assert again.drop(columns="device").equals(before.drop(columns="device"))


def test_an_arm_with_another_name_is_the_arm_of_a_grid_that_has_that_name(grid):
    out = grid.with_name("all.csv")
    before, others_before = tables_of(grid)
    assert arms.rename_arm(out, "keep training", "all stay") == 2
    assert arms.rename_arm(out, "all stay", "train on") == 2
    results, others = tables_of(grid)
    assert set(results.arm) == {"train on", "dropping K=0.3", "dropping K=0.5"}
    for table, former in zip(others, others_before, strict=True):
        assert set(table.cell) == set(results.cell)
        assert len(table) == len(former)
    assert {arm for _, _, arm in read_recipes(out.with_suffix(".json"))} == set(results.arm)
    # A grid with the new name has nothing to train, and finds its runs.
    text = grid.read_text()
    grid.write_text(text.replace('"keep training"', '"train on"'))
    said = []
    again = sweeps.sweep(grid, out, jobs=1, say=said.append)
    assert said == ["All 6 cells are finished already; nothing is trained."]
    assert again.equals(results)
    assert len(sweeps.reported_accuracies(grid, out, DropRule())) > 0
    assert before.accuracy.sum() == pytest.approx(results.accuracy.sum())


def test_a_sweep_that_was_killed_while_an_arm_got_another_name_keeps_every_cell(grid, monkeypatch):
    out = grid.with_name("all.csv")
    before, _ = tables_of(grid)

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(arms, "write_results", stop)
    with pytest.raises(KeyboardInterrupt):
        arms.rename_arm(out, "keep training", "all stay")
    monkeypatch.undo()
    results, others = tables_of(grid)
    assert results.equals(before)
    for table in others:
        assert set(results.cell) <= set(table.cell)
    assert arms.rename_arm(out, "keep training", "all stay") == 2
    results, others = tables_of(grid)
    for table in others:
        assert set(results.cell) == set(table.cell)
        assert not table.duplicated().any()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda out: arms.remove_arm(out, "keep"), "has no arm 'keep'; there are .*keep training"),
        (lambda out: arms.rename_arm(out, "keep", "x"), "has no arm 'keep'"),
        (
            lambda out: arms.rename_arm(out, "keep training", "dropping K=0.5"),
            "has an arm 'dropping K=0.5' already",
        ),
        (lambda out: arms.arms_of(out.with_name("no.csv")), "is no table of a sweep"),
        (lambda out: arms.arms_of(out.parent), "is no table of a sweep"),
        (lambda out: arms.rename_arm(out, "keep training", ""), "'' is no name of an arm"),
        (lambda out: arms.rename_arm(out, "keep training", " x"), "is no name of an arm"),
        (lambda out: arms.rename_arm(out, "keep training", "a\nb"), "is no name of an arm"),
        (lambda out: arms.rename_arm(out, "keep training", "?!"), "is no name of an arm"),
        (lambda out: arms.rename_arm(out, "keep training", 300 * "x"), "of at most 100"),
    ],
)
def test_an_arm_that_is_not_there_or_a_name_that_is_taken_is_refused(finished, change, reason):
    with pytest.raises(InputError, match=reason):
        change(finished.with_name("all.csv"))


@pytest.mark.parametrize(
    "change",
    [
        arms.arms_of,
        lambda table: arms.remove_arm(table, "a"),
        lambda table: arms.rename_arm(table, "a", "b"),
    ],
)
def test_nothing_is_made_beside_a_table_that_is_none_of_a_sweep(tmp_path, change):
    table = tmp_path / "photos.csv"
    for text in ("photo,score\na.jpg,3\n", "", "a\n1,2\n"):
        table.write_text(text)
        with pytest.raises(InputError, match="make it with rsrl sweep"):
            change(table)
    assert list(tmp_path.iterdir()) == [table]


def test_an_arm_that_lost_its_name_gets_one_again(grid):
    out = grid.with_name("all.csv")
    results, _ = tables_of(grid)
    arm = results.arm.where(results.arm != "keep training", "")
    results.assign(arm=arm).to_csv(out, index=False)
    assert set(arms.arms_of(out).arm) == {"", "dropping K=0.3", "dropping K=0.5"}
    with pytest.raises(InputError, match="has no arm 'keep'"):
        arms.remove_arm(out, "keep")


def test_a_sweep_says_how_long_it_will_take(grid):
    said = []
    sweeps.sweep(grid, grid.with_name("other.csv"), jobs=1, say=said.append)
    assert any(re.match(r"That will take about \d+ s here, or less", words) for words in said)
    assert re.match(r"The first cell took \d+ s; the other 5 take about \d+ s\.", said[-1])
