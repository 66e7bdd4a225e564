"""The four documents by name: what they set, what deviates, and that they run."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from rsrl_lib import papers
from rsrl_lib.files import InputError
from rsrl_lib.network import aesthetic_net
from rsrl_lib.papers import deviations, recipe_of, told
from rsrl_lib.pixels import Pixels
from rsrl_lib.recipe import Recipe, Training, settings_of
from rsrl_lib.rounds import repeat
from rsrl_lib.training import fine_tune, logits

SMALL = {"backbone": "squeezenet1_1", "weights": "none", "steps": 1, "shrink_to": 32}
DAI = {
    "backbone": "alexnet",
    "optimiser": "sgd",
    "decay": "constant",
    "crops": "resized",
    "min_per_class": 0,
    "judges": "own",
    "decide": "largest",
    "head": "fc",
    "weights": "imagenet",
    "tune": "all",
    "levels": "scores",
    "new_head": False,
}


@pytest.mark.parametrize(
    ("name", "stated"),
    [
        (
            "ssrl-2019",
            DAI
            | {"train_share": 1.0, "rule": "top-class", "keep_share": 0.667}
            | {"k_within": (0.85, 0.95), "rounds": 10, "stop": "loss", "choose": "last"},
        ),
        (
            "rsrl-a",
            DAI
            | {"train_share": 0.8, "rule": "own-class", "k": (0.99,), "rounds": 12}
            | {"choose": "test", "stop": "rounds", "rare": "train"},
        ),
        (
            "rsrl-b",
            DAI
            | {"train_share": 0.8, "rule": "own-class", "k_rounds": (0.9, 0.9, 0.95)}
            | {"rounds": 30, "epochs": 5, "choose": "test", "rare": "train"},
        ),
        (
            "aesattcnn-w",
            {"head": "gap", "levels": "low-high", "cut": 5.0, "ambiguous": (4.0, 6.0)}
            | {"weights_ab": (1.0, 6.0), "literal_weights": True, "attributes": ("tag",)}
            | {"learning_rate": 1e-3, "weight_decay": 5e-4, "decay": "tenths", "crops": "five"}
            | {"head_bias": False, "untagged": "none", "rounds": 1, "optimiser": "sgd"}
            | {"backbone": "alexnet", "weights": "imagenet", "tune": "all"},
        ),
    ],
)
def test_a_document_sets_what_it_states(name, stated):
    recipe = recipe_of(name)
    assert recipe.paper == name
    assert settings_of(recipe) | stated == settings_of(recipe)
    assert deviations(recipe) == []


def test_awcu_names_four_networks():
    of = {name: recipe_of(name) for name in ("aescnn", "aescnn-w", "aesattcnn", "aesattcnn-w")}
    assert [recipe.weights_ab for recipe in of.values()] == [(1, 1), (1, 6), (1, 1), (1, 6)]
    assert [bool(recipe.attributes) for recipe in of.values()] == [False, False, True, True]
    of_document = settings_of(recipe_of("awcu-2018")) | {"paper": "aescnn-w"}
    assert of_document == settings_of(of["aescnn-w"])


def test_awcu_has_a_learning_rate_for_each_backbone():
    assert recipe_of("aescnn").training.learning_rate == 1e-3
    of_vgg16 = recipe_of("aescnn", backbone="vgg16")
    assert of_vgg16.training.learning_rate == 5e-4
    assert [each["setting"] for each in deviations(of_vgg16)] == ["backbone"]


def test_what_is_given_beside_a_document_wins_and_is_told():
    recipe = recipe_of("rsrl-b", rounds=3, keep_share=0.5, patience=7)
    assert recipe.rounds == 3
    assert (recipe.drop.keep_share, recipe.drop.k_rounds) == (0.5, None)
    different = {each["setting"]: each for each in deviations(recipe)}
    assert different["rounds"] == {"setting": "rounds", "document": 30, "here": 3}
    assert different.keys() == {"rounds", "keep_share", "k_rounds", "patience"}
    lines = {line.split()[0]: line for line in told(recipe)}
    assert "DEVIATES from 30, said by the document" in lines["rounds"]
    assert "DEVIATES from 3" in lines["patience"]
    assert "DEVIATES" not in lines["rule"]
    assert "MATLAB's" in lines["batch"]


def test_bounds_of_k_stay_with_another_share_and_go_with_another_kind_of_k():
    assert recipe_of("ssrl-2019", keep_share=0.5).drop.k_within == (0.85, 0.95)
    assert recipe_of("ssrl-2019", k=(0.9,)).drop.k_within is None


def test_unknown_papers_and_settings_are_refused():
    with pytest.raises(InputError, match="There is no paper 'rsrl-c'; choose one of ssrl-2019"):
        papers.paper_of("rsrl-c")
    with pytest.raises(InputError, match="no setting 'epoch'; did you mean 'epochs'"):
        recipe_of("rsrl-b", epoch=3)


def test_every_setting_stands_once_and_says_who_sets_it():
    for name, paper in papers.PAPERS.items():
        names = [each.setting for each in paper.stated]
        assert len(names) == len(set(names)), name
        assert {each.source for each in paper.stated} <= papers.SOURCES.keys()
        assert set(names) <= settings_of(Recipe()).keys()
    header, *rows = papers.side_by_side()
    assert header == ("setting", "ssrl-2019", "rsrl-a", "rsrl-b", "awcu-2018")
    by_setting = {name: row for name, *row in rows}
    assert by_setting["rounds"] == ["10", "12", "30", "1"]
    assert by_setting["epochs"] == ["6 *", "6 *", "5", "6 **"]


@pytest.mark.parametrize("name", ["ssrl-2019", "rsrl-a", "rsrl-b", "aescnn-w"])
def test_each_document_runs_by_its_name(name, coloured, tmp_path):
    scored, pixels = coloured
    scored = replace(scored, table=scored.table.assign(mean_score=scored.table.score + 0.1))
    middle = float(scored.table.mean_score.median())
    of_awcu = {"cut": middle, "ambiguous": (middle - 1, middle + 1)}
    more = of_awcu if name == "aescnn-w" else {"rounds": 2}
    recipe = recipe_of(name, **SMALL, **more)
    run = repeat(scored, pixels, tmp_path / "run", recipe)
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert info["recipe"]["paper"] == name
    told_of = {each["setting"] for each in info["deviations"]}
    assert told_of == set(SMALL) | set(more)
    parts = run.split.part.value_counts()
    assert "validation" not in parts
    assert parts["train"] == (len(pixels) if name == "ssrl-2019" else round(0.8 * len(pixels)))
    assert run.judges().logits(pixels)[0].shape[0] == len(pixels)


def test_a_run_without_test_photos_has_no_measure_of_them(coloured, tmp_path):
    run = repeat(*coloured, tmp_path / "run", recipe_of("ssrl-2019", **SMALL, rounds=2))
    assert run.rounds.filter(like="test_").isna().all(axis=None)
    assert run.rounds.filter(like="train_accuracy").notna().all(axis=None)
    assert set(run.per_class.part) == {"train"}
    assert set(run.confusion.part) == {"train"}
    assert run.chosen == 2


@pytest.mark.parametrize(
    ("choose", "expected"), [("loss", 3), ("last", 4), ("test", 2), ("validation", 1)]
)
def test_the_round_is_chosen_as_asked(choose, expected):
    from rsrl_lib.record import chosen_of

    rounds = pd.DataFrame(
        {
            "validation_total_f": [3.0, 2.0, 1.0, 3.0],
            "test_total_f": [1.0, 3.0, 3.0, 2.0],
            "train_quadratic_loss": [3.0, 2.0, 1.0, 1.0],
        }
    )
    assert chosen_of(rounds, choose) == expected


def test_a_round_that_photos_of_no_part_should_choose_is_refused(coloured, tmp_path):
    recipe = recipe_of("ssrl-2019", **SMALL, choose="validation")
    with pytest.raises(InputError, match="choose 'validation' needs validation photos"):
        repeat(*coloured, tmp_path / "run", recipe)


class Recorder(torch.nn.Module):
    """A network that keeps the photos it is shown."""

    backbone, side = "recorder", 256

    def __init__(self):
        super().__init__()
        self.body = torch.nn.Linear(1, 1)
        self.head = torch.nn.Linear(3, 2)
        self.scores = [1, 2]
        self.attributes = []
        self.seen = []

    def forward(self, photos):
        self.seen.append(photos.detach().clone())
        return self.head(photos.mean((2, 3)))


def some_pixels():
    return Pixels(np.random.default_rng(0).integers(0, 256, (4, 256, 256, 3), np.uint8))


def test_resized_photos_are_whole_never_mirrored_and_the_same_when_judged():
    pixels = some_pixels()
    network = Recorder()
    training = Training(crops="resized", epochs=1, batch=4, precision="float32")
    fine_tune(network, pixels, np.arange(4), torch.tensor([0, 1, 0, 1]), training, seed=0)
    logits(network, pixels, **training.view)
    learned, judged = network.seen
    assert learned.shape == judged.shape == (4, 3, 227, 227)
    brightness = judged.mean((1, 2, 3))
    order = [int((brightness - one.mean()).abs().argmin()) for one in learned]
    assert sorted(order) == [0, 1, 2, 3]
    assert torch.equal(learned, judged[order])
    # The whole photo: its left and right edges, which a crop has not both.
    halves = torch.from_numpy(pixels.array.astype(np.float32)).permute(0, 3, 1, 2)
    columns = torch.nn.functional.interpolate(halves, (227, 227), mode="bilinear", antialias=True)
    for edge in (0, -1):
        of_seen = judged[..., edge].flatten()
        of_photo = columns[..., edge].flatten()
        assert np.corrcoef(of_seen, of_photo)[0, 1] > 0.95


def test_a_constant_learning_rate_stays(monkeypatch):
    from rsrl_lib import training as of_training

    rates = []

    class Kept(of_training.SGD):
        def step(self, *given, **named):
            rates.append([group["lr"] for group in self.param_groups])
            return super().step(*given, **named)

    monkeypatch.setattr(of_training, "SGD", Kept)
    how = {"optimiser": "sgd", "learning_rate": 1e-3, "head_learning_rate": 2e-2}
    for decay in ("constant", "cosine"):
        rates.clear()
        training = Training(**how, decay=decay, steps=4, batch=4)
        rows, nodes = np.arange(4), torch.tensor([0, 1, 0, 1])
        fine_tune(Recorder(), some_pixels(), rows, nodes, training, seed=0)
        is_constant = rates == [[1e-3, 2e-2]] * 4
        assert is_constant == (decay == "constant")


def test_a_new_head_begins_every_round(coloured, tmp_path, monkeypatch):
    from rsrl_lib import rounds

    begins = []
    usual = rounds.train

    def seen(network, *given):
        begins.append(network.head.weight.detach().clone())
        return usual(network, *given)

    monkeypatch.setattr(rounds, "train", seen)
    common = {**SMALL, "rounds": 3, "optimiser": "sgd", "learning_rate": 1e-9}
    for new_head in (False, True):
        begins.clear()
        recipe = recipe_of("rsrl-b", **common, head_learning_rate=50.0, new_head=new_head)
        repeat(*coloured, tmp_path / str(new_head), recipe)
        spread = [float(weight.std()) for weight in begins]
        assert (max(spread) < 0.02) == new_head
        assert not torch.equal(begins[1], begins[2])


def test_a_new_head_has_small_weights_and_no_opinion():
    network = aesthetic_net("squeezenet1_1", [1, 2], weights="none", attributes=["a"])
    body = network.body[0].weight.detach().clone() if hasattr(network.body, "0") else None
    with torch.no_grad():
        network.head.weight.fill_(5.0)
        network.head.bias.fill_(5.0)
    from rsrl_lib.network import renew_head

    renew_head(network, 3)
    assert 0 < network.head.weight.std() < 0.02
    assert (network.head.bias == 0).all()
    if body is not None:
        assert torch.equal(body, network.body[0].weight)


def test_all_folds_test_every_photo_once(coloured, tmp_path):
    from rsrl_lib.comparing.folds import TABLES, check_folds_folder, repeat_folds, write_folds
    from rsrl_lib.measures import measures

    scored, pixels = coloured
    head = {"backbone": "squeezenet1_1", "weights": "none", "shrink_to": 32, "tune": "head"}
    recipe = recipe_of("rsrl-a", **head, rounds=2)
    runs = repeat_folds(scored, pixels, tmp_path, recipe)
    tables = write_folds(runs, tmp_path)
    check_folds_folder(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        *TABLES,
        *(f"fold_{fold}" for fold in range(5)),
    }

    judged = []
    for run in runs:
        samples = run.samples
        is_chosen = samples["round"] == run.chosen
        judged.append(samples[is_chosen & (samples.part == "test")])
    judged = pd.concat(judged)
    assert sorted(judged.photo) == sorted(scored.table.photo)
    labels, assigned = judged.label.to_numpy(int), judged.assigned.to_numpy(int)
    expected = measures(labels, assigned, sorted(set(labels)))
    folds, over_folds, confusion = tables.values()
    over_folds = over_folds.set_index("measure")
    for name, row in over_folds.iterrows():
        assert row.all_photos == pytest.approx(expected[name], nan_ok=True), name
        assert row["mean"] == pytest.approx(folds[name].mean(), nan_ok=True)
        assert row.sd == pytest.approx(folds[name].std(), nan_ok=True)
    assert confusion.photos.sum() == len(scored)
    accuracy = over_folds.loc["accuracy"]
    error = np.sqrt(accuracy.all_photos * (1 - accuracy.all_photos) / len(scored))
    assert accuracy.high - accuracy.low == pytest.approx(3.92 * error, rel=0.15)

    with pytest.raises(InputError, match="no photo tests; leave --folds out"):
        repeat_folds(scored, pixels, tmp_path / "other", recipe_of("ssrl-2019", **head))
    (tmp_path / "letter.txt").touch()
    with pytest.raises(InputError, match=r"letter\.txt"):
        check_folds_folder(tmp_path)


def test_majority_and_minority_classes_have_means_of_their_own():
    from rsrl_lib.measures import of_majorities

    per_class = pd.DataFrame(
        {
            "round": [1] * 5,
            "part": ["test"] * 5,
            "score": [3, 4, 5, 6, 9],
            "photos": [5, 9, 4, 2, 0],
            "precision": [0.2, 0.4, 0.6, 0.5, 0.0],
            "recall": [0.1, 0.5, 0.6, 1.0, 0.0],
            "f": [0.3, 0.3, 0.6, 0.7, 0.0],
        }
    )
    (row,) = of_majorities(per_class, [4, 3, 5]).to_dict("records")
    expected = {"majority_precision": 0.4, "majority_recall": 0.4, "majority_f": 0.4}
    expected |= {"minority_precision": 0.5, "minority_recall": 1.0, "minority_f": 0.7}
    assert row == pytest.approx({"round": 1, **expected} | {"part": "test"})


def test_the_command_line_takes_a_document_and_what_deviates(tmp_path, monkeypatch, capsys):
    from rsrl_lib.interface import cli, training_commands

    taken = []
    words = ["--photos", "p", "--scores", "s.csv", "--run", str(tmp_path / "run")]

    def asked(*more):
        monkeypatch.setattr("sys.argv", ["rsrl", "train", *words, *more])
        monkeypatch.setattr(training_commands, "check_writable", stop)
        with pytest.raises(SystemExit):
            cli.main()
        return taken.pop()

    def stop(*given, **named):
        import inspect

        taken.append(inspect.currentframe().f_back.f_locals["recipe"])
        raise SystemExit

    assert settings_of(asked("--paper", "rsrl-b")) == settings_of(recipe_of("rsrl-b"))
    assert settings_of(asked("--paper=aesattcnn-w")) == settings_of(recipe_of("aesattcnn-w"))
    with_share = asked("--keep-share", "0.5", "--paper", "rsrl-a", "--rounds", "3")
    assert settings_of(with_share) == settings_of(recipe_of("rsrl-a", keep_share=0.5, rounds=3))
    of_vgg16 = asked("--paper", "aescnn", "--backbone", "vgg16")
    assert of_vgg16.training.learning_rate == 5e-4
    assert settings_of(asked()) == settings_of(Recipe())
    monkeypatch.setattr("sys.argv", ["rsrl", "papers"])
    cli.main()
    printed = capsys.readouterr().out
    assert "k_rounds" in printed and "0.9 0.9 0.95" in printed and "arXiv 1909.08213" in printed


def test_one_of_all_folds_is_asked_for(tmp_path):
    from rsrl_lib.runs import open_run

    (tmp_path / "fold_0").mkdir()
    with pytest.raises(InputError, match=r"a run for each fold; give one of them, .*fold_0"):
        open_run(tmp_path)


def test_a_sweep_refuses_a_document_that_tests_on_nothing(tmp_path):
    from rsrl_lib.comparing.grids import read_grid

    grid = tmp_path / "grid.toml"
    grid.write_text(
        "[photos]\nglassbox = {count = 60, seed = 0}\n[arms.published]\npaper = 'ssrl-2019'\n"
    )
    with pytest.raises(InputError, match="'published': a sweep is measured on test photos"):
        read_grid(grid)


def test_an_arm_of_a_grid_takes_a_document(tmp_path):
    from rsrl_lib.comparing.grids import read_grid

    grid = tmp_path / "grid.toml"
    grid.write_text(
        "[photos]\nglassbox = {count = 60, seed = 0}\n"
        '[common]\nbackbone = "squeezenet1_1"\nweights = "starter"\n'
        '[arms.published]\npaper = "rsrl-b"\n'
        '[arms.kept]\npaper = "rsrl-b"\nk = [0.0]\n'
    )
    published, kept = (cell.recipe for cell in read_grid(grid))
    common = {"backbone": "squeezenet1_1", "weights": "starter"}
    assert settings_of(published) == settings_of(recipe_of("rsrl-b", **common))
    assert settings_of(kept) == settings_of(recipe_of("rsrl-b", **common, k=(0.0,)))
