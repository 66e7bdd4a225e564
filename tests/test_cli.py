import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import ExifTags, Image

from rsrl_lib import batch, cli, rounds
from rsrl_lib.network import aesthetic_net, save_network
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
    assert "The run was finished already; round" in capsys.readouterr().out

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

    words = ["assess", "--run", tmp_path / "run", folder, "--csv", table, "--cache"]
    rsrl(monkeypatch, *words, tmp_path / "kept")
    assert len(list((tmp_path / "kept").glob("*.npy"))) == 2  # the photos, and which are broken
    assert pd.read_csv(table).equals(assessed[1:].reset_index(drop=True))


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
        (["--attributes", "sharp"], "needs one column 'sharp'"),
        (
            ["--levels", "low-high", "--cut", "9"],
            "Two levels are needed, found are all mean scores",
        ),
        (["--strict"], "--strict, which is for public sets"),
        (
            ["--source", "ava", "--skip-broken"],
            "found is --scores, --skip-broken with --source ava",
        ),
        (
            ["--source", "ava", "--photo-column", "name", "--score-column", "rating"],
            "found is --photo-column, --score-column, --scores with --source ava",
        ),
    ],
)
def test_bad_input_is_one_sentence_and_a_failure(monkeypatch, train, words, says):
    said = refused(monkeypatch, *train, *words)
    assert said.startswith("rsrl: ")
    assert says in said
    assert "\n" not in said


def test_a_run_goes_on_after_its_finished_rounds_and_refuses_another_recipe(
    monkeypatch, train, tmp_path, capsys
):
    real, calls = rounds.fine_tune, []

    def breaks_off(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(rounds, "fine_tune", breaks_off)
    assert "keeps its finished rounds: the same command goes on" in refused(monkeypatch, *train)
    assert len(rounds.open_run(tmp_path / "run").rounds) == 1
    assert "k_schedule None there and rsrl-b now" in refused(
        monkeypatch, *train, "--k-schedule", "rsrl-b"
    )
    rsrl(monkeypatch, *train)
    assert "The run is finished" in capsys.readouterr().out
    assert len(calls) == 3


def test_scores_too_rare_to_split_are_announced(monkeypatch, train, folder, tmp_path, capsys):
    table = pd.read_csv(folder / "scores.csv")
    table.loc[table.index[-2:], "score"] = 9
    table.to_csv(tmp_path / "rare.csv", index=False)
    train[train.index(folder / "scores.csv")] = tmp_path / "rare.csv"
    rsrl(monkeypatch, *train)
    assert "Score 9 has too few photos to split and counts as 5." in capsys.readouterr().out


def test_glassbox_writes_photos_that_train_reads(monkeypatch, tmp_path, capsys):
    rsrl(monkeypatch, "glassbox", "--out", tmp_path / "drawn", "--count", "60", "--seed", "2")
    assert "60 photos are listed in" in capsys.readouterr().out
    words = ["--photos", tmp_path / "drawn", "--scores", tmp_path / "drawn" / "photos.csv"]
    words += ["--votes", tmp_path / "drawn" / "votes.csv", "--mean-column", "crowd_mean"]
    words += ["--run", tmp_path / "run", "--cache", tmp_path / "cache"]
    rsrl(monkeypatch, "train", *words, *QUICK, "--rule", "top-class", "--k", "0.3", "0.2")
    assert len(rounds.open_run(tmp_path / "run").rounds) == 2


def test_a_run_without_a_finished_round_cannot_assess(monkeypatch, tmp_path):
    said = refused(monkeypatch, "assess", "--run", tmp_path, tmp_path / "a.jpg")
    assert "holds no run with a finished round" in said


def test_a_misspelt_notebook_parameter_names_the_nearest(monkeypatch, tmp_path):
    said = refused(monkeypatch, "notebooks", "01", "--out", tmp_path, "-p", "phtos", "x")
    assert "There is no parameter 'phtos'; did you mean 'photos'?" in said
    said = refused(monkeypatch, "notebooks", "01", "--out", tmp_path, "-p", "count", "many")
    assert "The parameter count is 'many'; give a value such as 700." in said
    assert batch._value("keep_share", "None", 0.667) is None
    assert batch._value("k", "0.99", []) == [0.99]
    assert batch._value("k", "0.9,0.95", []) == [0.9, 0.95]
    assert batch._value("photos", "2024", "") == "2024"
    said = refused(monkeypatch, "notebooks", "distribution", "--out", tmp_path)
    assert "did you mean '01_score_distribution'?" in said
    # A number is a chapter's, not the beginning of another's.
    said = refused(monkeypatch, "notebooks", "1", "--out", tmp_path, "-p", "resamples", "9")
    assert "There is no parameter 'resamples'" in said


@pytest.fixture(scope="module")
def gap_run(folder, tmp_path_factory, small_crops):
    """A GAP network of two levels and two attributes, trained by the command itself."""
    place = tmp_path_factory.mktemp("gap")
    table = pd.read_csv(folder / "scores.csv").assign(sharp=0.5)
    table["colour"] = table.score.map({2: "red", 3: "green", 4: "blue", 5: ""})
    table.to_csv(place / "scores.csv", index=False)
    words = ["train", "--photos", folder, "--scores", place / "scores.csv", *QUICK[2:]]
    words += ["--run", place / "run", "--cache", place / "cache", "--rounds", "1"]
    words += ["--backbone", "alexnet", "--head", "gap", "--attributes", "sharp", "colour"]
    words += ["--levels", "low-high", "--cut", "3", "--ambiguous", "3.5", "4.5"]
    words += ["--weights-ab", "1", "7", "--crops", "five", "--learning-rate", "0.001"]
    with pytest.MonkeyPatch.context() as patch:
        rsrl(patch, *words)
    return place / "run"


def test_train_makes_gap_networks_and_assess_reads_their_levels(
    monkeypatch, gap_run, folder, tmp_path
):
    network = rounds.open_run(gap_run).network()
    assert network.attributes == ["sharp", "colour=blue", "colour=green", "colour=red"]
    rsrl(monkeypatch, "assess", "--run", gap_run, folder, "--csv", tmp_path / "a.csv")
    table = pd.read_csv(tmp_path / "a.csv")
    assert list(table) == ["photo", "level", "likelihood_low", "likelihood_high"]
    assert ((table.level == "high") == (table.likelihood_high > table.likelihood_low)).all()
    samples = rounds.open_run(gap_run).samples
    judged = samples.set_index("photo").assigned[table.photo.map(lambda p: Path(p).name)]
    assert (judged.to_numpy() == (table.level == "high")).all()


def test_crop_writes_upright_crops_and_their_boxes(monkeypatch, gap_run, tmp_path, capsys):
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    given = tmp_path / "given"
    given.mkdir()
    sizes = {"turned.jpg": (80, 120), "panorama.png": (300, 30), "dot.png": (1, 1)}
    for name, (width, height) in sizes.items():
        noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        picture = Image.fromarray(noise)
        if name == "turned.jpg":
            picture.transpose(Image.Transpose.ROTATE_90).save(given / name, exif=exif)
        else:
            picture.save(given / name)
    words = ["crop", "--run", gap_run, given, "--out", tmp_path / "crops", "--aspect", "3:2"]
    rsrl(monkeypatch, *words, "--agree")
    assert "3 photos are cropped in" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "crops" / "crops.csv", keep_default_na=False)
    assert list(table) == ["photo", "left", "top", "width", "height", "reason"]
    for row in table.itertuples():
        name = Path(row.photo).name
        whole = sizes[name]
        assert 0 <= row.left <= row.left + row.width <= whole[0]
        assert 0 <= row.top <= row.top + row.height <= whole[1]
        with Image.open(tmp_path / "crops" / name) as made:
            assert made.size == (row.width, row.height)
            assert ExifTags.Base.Orientation not in made.getexif()
        assert abs(row.width - 1.5 * row.height) <= 1.25 or row.reason
    (given / "broken.jpg").write_bytes(b"no picture")
    assert "broken.jpg is no whole picture" in refused(monkeypatch, *words)
    rsrl(monkeypatch, *words, "--skip-broken")
    assert "left out: " in capsys.readouterr().err


def test_crop_refuses_to_overwrite_photos_and_networks_without_maps_or_attributes(
    monkeypatch, train, gap_run, folder, tmp_path
):
    said = refused(monkeypatch, "crop", "--run", gap_run, folder, "--out", folder)
    assert "holds photos that crops would overwrite" in said
    said = refused(
        monkeypatch, "crop", "--run", gap_run, folder, "--out", tmp_path, "--aspect", "wide"
    )
    assert "The aspect ratio is 'wide'; give width:height" in said
    rsrl(monkeypatch, *train, "--rounds", "1")
    plain = ["crop", "--run", tmp_path / "run", folder / "00.png", "--out", tmp_path / "crops"]
    assert "needs a network with attributes" in refused(monkeypatch, *plain, "--agree")
    network = aesthetic_net("alexnet", [3, 4], weights="none")
    save_network(network, tmp_path / "run" / "network_best.safetensors", round=1)
    assert "train with head 'gap'" in refused(monkeypatch, *plain)


@pytest.mark.parametrize("command", ["train", "assess", "crop", "glassbox", "notebooks"])
def test_help_of_every_command_has_an_example(monkeypatch, capsys, command):
    with pytest.raises(SystemExit) as stopped:
        rsrl(monkeypatch, command, "--help")
    assert stopped.value.code == 0
    assert f"Example: rsrl {command}" in " ".join(capsys.readouterr().out.replace("│", "").split())


HEAVY = {"torch", "torchvision", "pandas", "scipy", "sklearn", "matplotlib", "pyarrow", "PIL"}


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        *([command, "--help"] for command in cli.COMMANDS),
        ["trian"],
        ["train", "--photo"],
        ["train", "--photos", "p", "--run", "r", "--rounds", "many"],
        ["train", "--photos", "p", "--run", "r", "--rounds", "0"],
        ["crop"],
    ],
    ids=" ".join,
)
def test_help_and_misspelt_options_answer_without_heavy_libraries(words):
    code = f"""
import sys
from rsrl_lib import cli
sys.argv = {["rsrl", *words]}
try:
    cli.main()
finally:
    print("loaded:", *sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    loaded = done.stdout.split("loaded: ")[1].split()
    assert "tyro" in loaded
    assert not HEAVY & set(loaded)
