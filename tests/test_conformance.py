"""`docs/conformance.md`: what it names is there, and what chapters show of the documents is theirs.

The chapters' own code is asked for what stands in no module: figures that the documents publish,
and how tables and pictures are made of a run.
"""

import ast
import json
import re
import sys
from types import SimpleNamespace

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch

from rsrl_lib import measures
from rsrl_lib.papers import PAPERS, recipe_of
from rsrl_lib.recipe import recipe_from, settings_of
from tests.conftest import ROOT

matplotlib.use("Agg")
LIBRARY = ROOT / "rsrl_lib"
HEADER = ["the document says", "here", "verdict", "a test that fails else"]
FAITHFUL = re.compile(r"faithful( with `--paper ([\w-]+)`(( or|,) `[\w-]+`)*)?")
DIFFERS = re.compile(r"differs: .+; said in .+")
NOT_HERE = re.compile(r"not here: .+")


def rows_of_the_page():
    """Cells of every row of the tables; a line that is none of a table is passed over."""
    rows = []
    for line in (ROOT / "docs" / "conformance.md").read_text().splitlines():
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
    is_ruled = [set("".join(row)) == {"-"} for row in rows]
    headers = [rows[i - 1] for i, ruled in enumerate(is_ruled) if ruled]
    assert headers == [HEADER] * 4
    return [row for row, ruled in zip(rows, is_ruled, strict=True) if row != HEADER and not ruled]


ROWS = rows_of_the_page()
EVERY_ROW = pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])


def in_code(cell):
    return re.findall(r"`([^`]+)`", cell)


def functions_of(path):
    body = ast.parse(path.read_text()).body
    return {part.name for part in body if isinstance(part, ast.FunctionDef)}


@EVERY_ROW
def test_every_row_has_a_verdict_and_every_faithful_one_names_tests_that_are_there(row):
    assert len(row) == len(HEADER)
    _, _, verdict, tests = row
    kinds = [kind for kind in (FAITHFUL, DIFFERS, NOT_HERE) if kind.fullmatch(verdict)]
    assert len(kinds) == 1, verdict
    named = in_code(tests)
    assert named or kinds != [FAITHFUL]
    assert re.sub(r"`[^`]+`|[, ]", "", tests) == ""
    for name in named:
        module, _, function = name.partition("::")
        assert function.startswith("test_"), name
        assert function in functions_of(ROOT / "tests" / f"{module}.py"), name


@EVERY_ROW
def test_where_a_deviation_is_said_is_there(row):
    said = row[2].partition("; said in ")[2]
    papers = re.findall(r"`(?:--paper )?([a-z][\w-]+)`", row[2].partition(";")[0])
    assert set(papers) <= PAPERS.keys()
    if not said:
        return
    places = re.findall(r"\]\(([^)]+)\)", said)
    places += re.findall(r"`rsrl (?:papers|train --help)`|the first lines of a run", said)
    for number in re.findall(r"chapters? (\d+)", said):
        places += (ROOT / "notebooks").glob(f"{int(number):02d}_*.ipynb")
    assert places, said


def names_in(body):
    """Names that a module or a class defines."""
    names = {}
    for part in body:
        if isinstance(part, ast.FunctionDef | ast.ClassDef):
            names[part.name] = part
        elif isinstance(part, ast.AnnAssign):
            names[part.target.id] = part
        elif isinstance(part, ast.Assign):
            names |= {target.id: part for target in part.targets if isinstance(target, ast.Name)}
    return names


def is_in_the_library(dotted):
    """Whether there is a `module.name`, or `module.Class.name`."""
    module, *inside = dotted.split(".")
    paths = list(LIBRARY.rglob(f"{module}.py"))
    if module == "sources":
        paths = list((LIBRARY / "sources").glob("*.py"))
    for path in paths:
        body = ast.parse(path.read_text()).body
        for name in inside:
            part = names_in(body).get(name)
            body = getattr(part, "body", [])
            if part is None:
                break
        else:
            return True
    return False


@pytest.fixture(scope="module")
def options():
    """Options of each command, from its help."""
    from rsrl_lib.interface import cli

    by_command = {}
    with pytest.MonkeyPatch.context() as patch:
        for command in ("train", "highlight", "crop"):
            said = []
            patch.setattr(sys, "argv", ["rsrl", command, "--help"])
            patch.setattr(sys.stdout, "write", said.append)
            with pytest.raises(SystemExit):
                cli.main()
            by_command[command] = set(
                re.findall(r"^\W{0,2}(--[a-z][\w-]*)", "".join(said), flags=re.M)
            )
    return by_command


def parameters_of(chapter):
    """Names in the first cell of code of a chapter."""
    for cell in notebook(chapter)["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            return set(names_in(ast.parse("".join(cell["source"])).body))
    raise AssertionError(chapter)


@EVERY_ROW
def test_modules_options_and_parameters_that_a_row_names_are_there(row, options):
    here = row[1]
    chapters = re.findall(r"chapters? (\d+)", here)
    parameters = set().union(*map(parameters_of, chapters))
    assert in_code(here) or chapters or row[2].startswith("not here"), here
    for name in in_code(here):
        words = name.split()
        if words[0] == "rsrl":
            assert words[2] in options[words[1]], name
        elif name.startswith("--"):
            assert words[0] in options["train"], name
        elif "." in name:
            assert is_in_the_library(name), name
        else:
            assert name in parameters, name


def test_the_page_is_linked_and_names_every_paper():
    for page in (ROOT / "README.md", ROOT / "docs" / "variants.md"):
        assert "conformance.md" in page.read_text()
    named = re.findall(r"`(?:--paper )?([\w-]+)`", " ".join(row[2] for row in ROWS))
    assert {"ssrl-2019", "rsrl-a", "rsrl-b", "awcu-2018"} <= set(named)


# What a document leaves to MATLAB's `trainNetwork`, and to nobody.


def test_what_the_documents_leave_open_is_matlabs_or_said_to_be_ours():
    matlabs = {"optimiser": "sgd", "learning_rate": 1e-4, "head_learning_rate": 2e-3, "batch": 10}
    matlabs |= {"decay": "constant", "weight_decay": 1e-4, "crops": "resized"}
    for name, epochs in (("ssrl-2019", 6), ("rsrl-a", 6), ("rsrl-b", 5)):
        settings = settings_of(recipe_of(name))
        assert settings | matlabs | {"epochs": epochs} == settings
        of_matlab = {each.setting for each in PAPERS[name].stated if each.source == "MATLAB"}
        assert of_matlab == set(matlabs) | ({"epochs"} if name != "rsrl-b" else set())
    of_awcu = {each.setting for each in PAPERS["awcu-2018"].stated if each.source == "ours"}
    assert of_awcu == {"choose", "train_share", "epochs", "batch"}


def test_every_round_begins_with_a_new_optimiser(coloured, tmp_path, monkeypatch):
    from rsrl_lib import training
    from rsrl_lib.rounds import repeat

    fresh = []
    usual = training._optimiser

    def seen(*given):
        optimiser, schedule = usual(*given)
        fresh.append(not optimiser.state)
        return optimiser, schedule

    monkeypatch.setattr(training, "_optimiser", seen)
    small = {"backbone": "squeezenet1_1", "weights": "none", "steps": 2, "shrink_to": 32}
    repeat(*coloured, tmp_path / "run", recipe_from({**small, "rounds": 3}))
    assert fresh == [True] * 3


def test_sgd_has_momentum_and_holds_back_weights_and_biases_alike():
    from rsrl_lib.network import aesthetic_net
    from rsrl_lib.training import _optimiser

    network = aesthetic_net("squeezenet1_1", [3, 4], weights="none")
    optimiser, _ = _optimiser(network, recipe_of("rsrl-b").training, 10)
    assert isinstance(optimiser, torch.optim.SGD)
    held = [values for group in optimiser.param_groups for values in group["params"]]
    assert {id(values) for values in held} == {id(values) for values in network.parameters()}
    assert {group["momentum"] for group in optimiser.param_groups} == {0.9}
    assert {group["weight_decay"] for group in optimiser.param_groups} == {1e-4}
    assert {group["nesterov"] for group in optimiser.param_groups} == {False}


def test_a_whole_photo_gives_conv1_of_alexnet_a_grid_of_56_where_it_is_resized_and_else_of_63():
    from rsrl_lib.network import AestheticNet
    from rsrl_lib.pixels import normalised

    conv1 = AestheticNet("alexnet", [3, 4]).conv1
    photo = torch.zeros(1, 3, 256, 256, dtype=torch.uint8)
    for crops, side in (("resized", 56), ("random", 63)):
        view = recipe_from({"crops": crops}).view
        maps = conv1(normalised(photo, shrink_to=view["shrink_to"]))
        assert maps.shape == (1, 64, side, side)


# The chapters


def notebook(chapter):
    (path,) = (ROOT / "notebooks").glob(f"{int(chapter):02d}_*.ipynb")
    return json.loads(path.read_text())


def cell_of(chapter, *words):
    """Code of the one cell of a chapter in which these words stand."""
    codes = ["".join(c["source"]) for c in notebook(chapter)["cells"] if c["cell_type"] == "code"]
    (code,) = [code for code in codes if all(word in code for word in words)]
    return code


def after(code, **known):
    """What is known after the code of a cell has run."""
    space = {"np": np, "pd": pd, "display": lambda *_: None, "Markdown": str} | known
    exec(code, space)
    return space


def test_chapter_1_cuts_levels_as_both_documents_do():
    scores = np.arange(2, 10)
    scored = SimpleNamespace(table=pd.DataFrame({"score": scores}))
    cell = cell_of(1, '"excellent"')
    cuts = after(cell, scored=scored)["cuts"]
    levels = ["poor", "fair", "good", "excellent"]
    of = {name: pd.cut(scores, bins, labels=levels).tolist() for name, bins in cuts.items()}
    assert of["SSRL-2019"] == ["poor"] + ["fair"] * 2 + ["good"] * 2 + ["excellent"] * 3
    assert of["RSRL"] == ["poor"] + ["fair"] * 3 + ["good"] * 2 + ["excellent"] * 2


def test_chapter_1_counts_avas_means_in_the_middle():
    votes = pd.DataFrame([[0, 2, 2], [1, 0, 3], [4, 0, 0], [0, 0, 5]], columns=[4, 5, 7])
    means = after(cell_of(1, "def vote_means"))["vote_means"](votes)
    assert means["mean"].tolist() == [6, 6.25, 4, 7]
    assert means.votes.tolist() == [4, 4, 4, 5]
    assert means.spread.tolist() == pytest.approx([np.sqrt(4 / 3), 1.5, 0, 0])
    drawn = {}
    space = {"ava": "AVA.txt", "ava_votes": lambda _: votes, "figures": ""}
    space |= {"vote_means": lambda _: means, "plots": SimpleNamespace(save=lambda *_: None)}
    space["draw_votes"] = lambda _, middle, title: drawn.update(middle=middle, title=title)
    after(cell_of(1, "if not ava:"), **space)
    assert drawn == {"middle": (4.5, 6.5), "title": "AVA: 50% of 4 mean scores lie in [4.5, 6.5]"}


SSRL_TABLE_1 = """
2 .58 .88 .96 1 1
3 .46 .54 .75 .90 .92
4 .94 .78 .82 .91 .91
5 .50 .73 .73 .84 .85
6 .73 .82 .87 .99 .99
7 .33 .59 .78 .86 .86
8 .21 .64 1 1 1
9 0 .5 1 1 1
"""
SSRL_TABLE_3 = """
2 0 0 0 0 0
3 .29 .16 .16 .17 .15
4 .46 .34 .38 .32 .28
5 .14 .30 .21 .22 .26
6 .046 .07 .10 .10 .11
7 .054 .12 .15 .19 .20
8 0 0 0 0 0
9 0 0 0 0 0
"""
NETS = [1, 2, 3, 9, 10]


def published(text):
    """A table of SSRL-2019: scores by networks."""
    rows = [line.split() for line in text.strip().splitlines()]
    scores = [int(row[0]) for row in rows]
    return pd.DataFrame([[float(value) for value in row[1:]] for row in rows], scores, NETS)


def a_run():
    """Tables of two rounds of a run with the scores 3 and 4, as chapters read them."""
    labels = np.array([3, 3, 4, 4])
    assigned = {1: np.array([4, 3, 4, 4]), 2: np.array([3, 3, 4, 3])}
    parts = {}
    for name in ("per_class", "rounds"):
        tables = []
        for number, answers in assigned.items():
            sample = pd.DataFrame({"part": "train", "label": labels, "assigned": answers})
            of_round = measures.of_parts(sample, [3, 4], ("train", "test"))[name]
            tables.append(of_round.assign(round=number))
        parts[name] = pd.concat(tables, ignore_index=True)
    return SimpleNamespace(**parts)


def shown_beside(cell, **known):
    """The tables that a cell puts beside each other, by their names or places."""
    tables = {}

    def concat(frames, **_):
        tables.update(frames if isinstance(frames, dict) else enumerate(frames))
        return pd.DataFrame([[0.0]])

    fake = SimpleNamespace(DataFrame=pd.DataFrame, MultiIndex=pd.MultiIndex, concat=concat)
    after(cell, **{"pd": fake} | known)
    return tables


def test_chapter_3_shows_table_1_beside_the_recall_of_training_photos():
    made = a_run()
    cell = cell_of(3, "published =", 'values="recall"')
    tables = shown_beside(cell, made=made, table=made.rounds, last=2)
    pd.testing.assert_frame_equal(tables["SSRL-2019"], published(SSRL_TABLE_1), check_dtype=False)
    assert tables["here"].loc[3].tolist() == [0.5, 1]
    assert tables["here"].loc[4].tolist() == [1, 0.5]


def test_chapter_3_shows_table_2_beside_the_quadratic_loss_of_training_photos():
    made = a_run()
    known = {"table": made.rounds, "nets": [1, 2], "published": published(SSRL_TABLE_1)}
    space = after(cell_of(3, "published_losses"), **known)
    assert space["losses"].loc["here, training photos"].tolist() == [0.25, 0.25]
    (of_document,) = space["published_losses"].to_dict("records")
    assert of_document == dict(zip(NETS, [2.27, 2.20, 2.15, 1.80, 1.77], strict=True))


def test_chapter_3_draws_precision_recall_and_f_of_every_score():
    import matplotlib.pyplot as plt
    import seaborn as sns
    from matplotlib.ticker import MaxNLocator

    from rsrl_lib import plots

    made = a_run()
    known = {"plt": plt, "sns": sns, "plots": plots, "MaxNLocator": MaxNLocator}
    draw = after(cell_of(3, "def per_class_over_rounds"), **known)["per_class_over_rounds"]
    figure = draw(made.per_class, "train", "")
    expected = {
        "precision": [[1, 2 / 3], [2 / 3, 1]],
        "recall": [[0.5, 1], [1, 0.5]],
        "F": [[2 / 3, 0.8], [0.8, 2 / 3]],
    }
    drawn = {ax.get_title(): [line.get_ydata().tolist() for line in ax.lines] for ax in figure.axes}
    assert drawn.keys() == expected.keys()
    for name, lines in expected.items():
        assert np.allclose(drawn[name], lines), name


def test_chapter_3_shows_the_means_of_majorities_and_minorities_that_rsrl_publishes():
    made = a_run()
    known = {"made": made, "majorities": [4], "shown_part": "train", "best": 2}
    tables = shown_beside(
        cell_of(3, "published_kinds"), **known, of_majorities=measures.of_majorities
    )
    here, of_documents = tables[0], tables[1]
    assert here.loc["here, round 2", ("majority", "recall")] == 0.5
    assert here.loc["here, round 2", ("minority", "recall")] == 1
    rows = {name: row.tolist() for name, row in of_documents.iterrows()}
    assert rows["RSRL-b, net 1"] == [0.38, 0.40, 0.34, 0, 0, 0]
    assert rows["RSRL-b, net 24"] == [0.52, 0.39, 0.36, 0.30, 0.20, 0.24]
    nothing = np.nan
    of_a = [0.92, 0.88, nothing, 0.78, 1, nothing]
    assert np.array_equal(rows["RSRL-a, net 10"], of_a, equal_nan=True)


def test_chapter_4_shows_table_3_beside_the_share_of_photos_that_get_each_score():
    samples = pd.DataFrame({"label": pd.array([3, 4, 5], dtype="Int64")})
    away = pd.DataFrame({"round": [1] * 4 + [2] * 4, "assigned": [3, 4, 4, 4, 4, 5, 5, 5]})
    space = after(cell_of(4, "rates ="), samples=samples, away=away)
    assert space["rates"].loc[1].to_dict() == {3: 0.25, 4: 0.75, 5: 0}
    assert space["rates"].loc[2].to_dict() == {3: 0, 4: 0.25, 5: 0.75}
    known = {"rates": space["rates"], "nets": space["nets"]}
    tables = shown_beside(cell_of(4, "published =", "SSRL-2019"), **known)
    pd.testing.assert_frame_equal(tables["SSRL-2019"], published(SSRL_TABLE_3), check_dtype=False)


def test_chapter_4_shows_the_share_that_gets_more_than_the_commonest_score():
    from rsrl_lib.drop_rules import largest_classes

    samples = pd.DataFrame({"part": "train", "round": 1, "label": [3, 4, 4, 5]})
    away = pd.DataFrame({"round": [1] * 4 + [2] * 4, "assigned": [3, 4, 4, 4, 4, 5, 5, 6]})
    known = {"samples": samples, "away": away, "largest_classes": largest_classes}
    known["published"] = published(SSRL_TABLE_3)
    above = after(cell_of(4, "SSRL-2019, above 4"), **known)["above"]
    assert above["here, above 4"].to_dict() == {1: 0, 2: 0.75}
    of_document = above["SSRL-2019, above 4"]
    assert of_document[1] == pytest.approx(0.24) and of_document[10] == pytest.approx(0.57)


def test_photos_that_test_are_shown_and_where_there_are_none_those_that_train(tmp_path):
    from rsrl_lib.runs import Run

    for parts, shown in (("train test", "test"), ("train train", "train")):
        split = pd.DataFrame({"photo": ["a", "b"], "part": parts.split()})
        split.assign(score=4, label=4, digest="").to_csv(tmp_path / "split.csv", index=False)
        assert Run(tmp_path).shown_part == shown


def test_chapter_4_shows_the_photos_with_the_lowest_and_the_highest_assigned_score():
    away = pd.DataFrame({"round": 2, "photo": list("abcd"), "assigned": [5, 3, 4, 5]})
    away["assigned_likelihood"] = away["assigned_logit"] = [0.7, 0.6, 0.9, 0.8]
    strangers = pd.DataFrame({"photo": list("abcd"), "path": list("ABCD")})
    known = {"away": away, "made": SimpleNamespace(chosen=2), "strangers": strangers}
    space = after(cell_of(4, "chosen.assigned.min()"), **known)
    sheets = []
    space |= {"figures": "", "plots": SimpleNamespace(contact_sheet=lambda rows, _: rows)}
    space["plots"].save = lambda rows, *_: sheets.append(rows)
    exec(cell_of(4, '"04_low_and_high"'), space)
    ((low, lowest), (high, highest)) = sheets[0]
    assert (low, high) == ("assigned 3", "assigned 5")
    assert (lowest.path.tolist(), highest.path.tolist()) == (["B"], ["D", "A"])


def test_chapter_7_shows_what_pooling_saves():
    from rsrl_lib.network import aesthetic_net

    cell = cell_of(7, "def parameters").partition("counts.style")[0]
    counts = after(cell, torch=torch, aesthetic_net=aesthetic_net)["counts"]
    # Two nodes in place of ImageNet's thousand; maps of 256 and 512 channels.
    alexnet, vgg16 = 61_100_840 - 998 * 4097, 138_357_544 - 998 * 4097
    assert counts["fully connected layers"].tolist() == [alexnet / 1e6, vgg16 / 1e6]
    pooled = [2_469_696 + 2 * 257, 14_714_688 + 2 * 513]
    assert counts["global average pooling"].tolist() == [count / 1e6 for count in pooled]


def test_chapter_7_shows_the_tables_of_awcu():
    space = after(cell_of(7, "published =", '"VGG-16"'))
    assert space["published"].T.to_dict("list") == {
        "AesCNN": [76.82, 78.60],
        "AesCNN-W": [77.39, 78.87],
        "AesAttCNN": [76.77, 76.89],
        "AesAttCNN-W": [77.18, 78.62],
    }
    code = cell_of(7, "RATIOS =").partition("sweep =")[0]
    paper = after(code)["paper"]
    assert paper.index.tolist() == ["1", "2", "3", "4", "5", "6", "7", "10", "dropping"]
    alexnet = "76.82 77.00 77.16 77.24 77.26 77.39 77.39 77.28 76.07"
    vgg16 = "78.60 78.70 78.84 78.84 78.81 78.87 78.84 78.80 77.33"
    assert paper["AlexNet"].tolist() == list(map(float, alexnet.split()))
    assert paper["VGG-16"].tolist() == list(map(float, vgg16.split()))
    rivals = after(cell_of(7, "RIVALS ="))["RIVALS"]
    others = "68.00 74.46 75.41 75.48 77.33 77.40 75.83 76.15 77.73 77.35 78.46"
    assert list(rivals.values()) == list(map(float, others.split()))


def test_chapter_8_shows_both_levels_of_a_photo_on_one_scale():
    low, high = np.array([[1.0, -4.0]]), np.array([[2.0, 3.0]])
    known = {"open_rgb": lambda path: path, "table": SimpleNamespace(path=["photo"])}
    known["found"] = [SimpleNamespace(levels={"low": low, "high": high})]
    known["plots"] = SimpleNamespace(activation_picture=lambda *given: given)
    pictures, says = after(cell_of(8, "def level_pictures"), **known)["level_pictures"](0)
    names = [name for name, _ in pictures]
    assert names == ["photo", "AesAM low", "AesAM high", "high minus low"]
    (_, of_low, low_reach), (_, of_high, high_reach) = pictures[1][1], pictures[2][1]
    assert of_low is low and of_high is high
    assert low_reach == high_reach == 4
    assert says == "high"


def test_chapter_9_shows_three_boxes_of_a_photo():
    from rsrl_lib import cropping

    aes, att = np.zeros((2, 256, 256), np.float32)
    aes[:100, :100] = 1
    att[:100, 50:150] = 1
    maps = SimpleNamespace(high=aes, attributes={"sky": att})
    photo = SimpleNamespace(size=(256, 256), crop=lambda box: box)
    framed = []

    def keep(_photo, box, part):
        framed.append((box, part))

    fake = SimpleNamespace(framed=keep, activation_picture=lambda *_: None)
    known = {"open_rgb": lambda _: photo, "table": SimpleNamespace(path=[""]), "found": [maps]}
    known |= {"plots": fake, "shape": {}, "iou": 0.3, "ious": [1 / 3]}
    known |= {"crop_box": cropping.crop_box, "largest_region": cropping.largest_region}
    known["threshold"] = 0.3
    pictures = after(cell_of(9, "def three_boxes"), **known)["three_boxes"](0)
    assert [box for box, _ in framed] == [(0, 0, 100, 100), (50, 0, 150, 100)]
    assert "mean box" in pictures[-1][0] and pictures[-1][1] == (25, 0, 125, 100)
    known["ious"] = [0.2]
    pictures = after(cell_of(9, "def three_boxes"), **known)["three_boxes"](0)
    assert "AesAM's box" in pictures[-1][0]


def test_chapter_10_shows_the_two_accuracies():
    papers = after(cell_of(10, "test accuracy, net 1"))["papers"]
    assert papers.loc["RSRL-a"].tolist() == [12, ".99", 0.32, 0.90, 0.99]
    of_b = papers.loc["RSRL-b"]
    assert of_b[["rounds", "K", "test accuracy, best net"]].tolist() == [30, ".90, then .95", 0.45]
    assert of_b["training accuracy"] == 0.99
