import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import ExifTags, Image
from safetensors.torch import load_file, save_file
from scipy.special import logit

from rsrl_lib import activation, cropping, pixels, rounds, runs
from rsrl_lib.interface import batch, cli, photo_commands
from rsrl_lib.network import aesthetic_net, save_network
from rsrl_lib.runs import open_run
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
    info = runs.open_run(tmp_path / "run").info
    assert info["recipe"]["drop"]["k"] == [0.5, 0.4, 0.3]
    assert info["recipe"]["training"]["epochs"] == 1

    rsrl(monkeypatch, *train, "--k", "0.5", "0.4", "0.3", "--other", folder)
    assert "The run was finished already; round" in capsys.readouterr().out

    table = tmp_path / "assessed.csv"
    rsrl(
        monkeypatch, "assess", "--run", tmp_path / "run", folder / "00.png", folder, "--csv", table
    )
    assessed = pd.read_csv(table)
    likelihood_columns = [f"likelihood_{s}" for s in (2, 3, 4, 5)]
    first = ["photo", "score", "expected", "spread", "rank", "percentile"]
    share_columns = [f"share_{s}" for s in (2, 3, 4, 5)]
    assert list(assessed) == [*first, *share_columns, *likelihood_columns]
    assert len(assessed) == 61
    best = assessed.filter(like="likelihood").idxmax(axis=1).str[-1].astype(int)
    assert (assessed.score == best).all()
    assert assessed.filter(like="likelihood").stack().between(0, 1).all()

    words = ["assess", "--run", tmp_path / "run", folder, "--csv", table, "--cache"]
    rsrl(monkeypatch, *words, tmp_path / "kept")
    assert len(list((tmp_path / "kept").glob("*.npy"))) == 2  # the photos, and which are broken
    again = pd.read_csv(table)
    assert (again["rank"].to_numpy() <= assessed["rank"][1:].to_numpy()).all()
    others = assessed[1:].reset_index(drop=True).drop(columns="rank")
    pd.testing.assert_frame_equal(again.drop(columns="rank"), others, check_exact=True)


def test_several_runs_judge_by_the_mean_of_their_posteriors(
    monkeypatch, train, gap_run, folder, tmp_path
):
    runs = [tmp_path / "one", tmp_path / "two"]
    tables = []
    for seed, (run, decide) in enumerate(zip(runs, ("largest", "ordinal"), strict=True)):
        how = ["--seed", seed, "--rounds", 1, "--decide", decide]
        rsrl(monkeypatch, *train, "--run", run, *how)
        tables.append(tmp_path / f"{seed}.csv")
        rsrl(monkeypatch, "assess", "--run", run, folder, "--csv", tables[-1])
    both = tmp_path / "both.csv"
    given = [word for run in runs for word in ("--run", run)]
    rsrl(monkeypatch, "assess", *given, folder, "--csv", both)
    one, two, mean = (pd.read_csv(path) for path in (*tables, both))
    likelihoods = list(mean.filter(like="likelihood"))
    np.testing.assert_allclose(mean[likelihoods], (one + two)[likelihoods] / 2, rtol=1e-5)
    posteriors = []
    for run, table in zip(runs, (one, two), strict=True):
        rule = open_run(run).decision
        posteriors.append(np.exp(rule.log_posterior(logit(table[likelihoods].to_numpy()))))
    posterior = np.mean(posteriors, 0)
    assert (mean.score == np.array(rule.scores)[posterior.argmax(1)]).all()
    np.testing.assert_allclose(mean.expected, posterior @ rule.scores, rtol=1e-4)
    assert rule.ordinal is not None and not one.equals(two)
    said = refused(monkeypatch, "assess", "--run", runs[0], "--run", gap_run, folder)
    assert "Runs that judge together need the same scores" in said and str(gap_run) in said
    assert "--run is needed" in refused(monkeypatch, "assess", folder)


def test_runs_of_two_levels_that_are_cut_elsewhere_do_not_judge_together(
    monkeypatch, gap_run, folder, tmp_path
):
    other = shutil.copytree(gap_run, tmp_path / "other")
    info = json.loads((other / "run.json").read_text())
    info["recipe"]["cut"] += 1
    (other / "run.json").write_text(json.dumps(info))
    said = refused(monkeypatch, "assess", "--run", gap_run, "--run", other, folder)
    assert f"with the cut {info['recipe']['cut']:g}; leave one out" in said


def test_assess_assigns_the_largest_logit_where_likelihoods_round_to_1(
    monkeypatch, train, folder, tmp_path
):
    rsrl(monkeypatch, *train, "--rounds", "1")
    network = runs.open_run(tmp_path / "run").network()
    network.head.weight.data.zero_()
    network.head.bias.data[:] = torch.tensor([18.0, 20.0, 30.0, 24.0])
    save_network(network, tmp_path / "run" / "network_best.safetensors")
    words = ["assess", "--run", tmp_path / "run", folder / "00.png", "--csv", tmp_path / "a.csv"]
    rsrl(monkeypatch, *words)
    assert pd.read_csv(tmp_path / "a.csv").score.tolist() == [4]


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
    assert len(runs.open_run(tmp_path / "run").rounds) == 1
    assert "k_rounds None there and [0.9, 0.95] now" in refused(
        monkeypatch, *train, "--k-rounds", "0.9", "0.95"
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
    assert len(runs.open_run(tmp_path / "run").rounds) == 2


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
    network = runs.open_run(gap_run).network()
    assert network.attributes == ["sharp", "colour=blue", "colour=green", "colour=red"]
    rsrl(monkeypatch, "assess", "--run", gap_run, folder, "--csv", tmp_path / "a.csv")
    table = pd.read_csv(tmp_path / "a.csv")
    levels = ["share_low", "share_high", "likelihood_low", "likelihood_high"]
    attributes = [f"attribute_{name}" for name in network.attributes]
    assert list(table) == ["photo", "level", "rank", "percentile", *levels, *attributes]
    assert ((table.level == "high") == (table.likelihood_high > table.likelihood_low)).all()
    samples = runs.open_run(gap_run).samples
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
    rsrl(monkeypatch, *words, "--map", "both")
    assert "3 photos are cropped in" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "crops" / "crops.csv", keep_default_na=False)
    assert list(table) == photo_commands.CROP_COLUMNS
    assert list(table)[5:] == ["reason", "attribute", "iou"]
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
    rsrl(monkeypatch, *words, "--skip-broken", "--cache", tmp_path / "kept")
    assert "left out: " in capsys.readouterr().err
    assert len(list((tmp_path / "kept").glob("*.npy"))) == 2  # the photos, and which are broken
    twice = ["crop", "--run", gap_run, given / "dot.png", given / "dot.png"]
    rsrl(monkeypatch, *twice, "--out", tmp_path / "twice")
    assert len(list((tmp_path / "twice").glob("*_dot.png"))) == 2


def boxes(table):
    return table[["left", "top", "width", "height"]].to_numpy().tolist()


def test_crop_goes_by_the_level_by_an_attribute_or_by_both(monkeypatch, gap_run, folder, tmp_path):
    """Each line of crops.csv is what the library makes of the maps of that photo."""
    names = [f"{number:02d}.png" for number in (0, 8, 25, 50)]
    photos = [folder / name for name in names]
    made = runs.open_run(gap_run)
    network = made.network()
    decoded, _ = pixels.decode(pd.DataFrame({"photo": names, "path": photos}), cache=tmp_path / "d")
    view = {"shrink_to": made.view["shrink_to"], "top": 4}
    maps = activation.activation_maps(network, decoded.crops(range(4), view="whole"), **view)
    how = {"threshold": 0.6, "iou": 0.1}

    def cropped(*words):
        out = tmp_path / "-".join(["crops", *words]).replace("=", "")
        asked = ["crop", "--run", gap_run, *photos, "--out", out, "--threshold", "0.6", *words]
        rsrl(monkeypatch, *asked)
        return pd.read_csv(out / "crops.csv", keep_default_na=False, dtype={"iou": str})

    table = cropped()
    assert set(table.attribute) == set(table.iou) == {""}
    by_high = [cropping.crop_box(m.high, (64, 48), threshold=0.6)[0] for m in maps]
    assert boxes(table) == [[a, b, c - a, d - b] for a, b, c, d in by_high]

    table = cropped("--map", "att")
    likeliest = [next(iter(m.attributes)) for m in maps]
    assert list(table.attribute) == likeliest
    chosen = [m.attributes[name] for m, name in zip(maps, likeliest, strict=True)]
    by_att = [cropping.crop_box(values, (64, 48), threshold=0.6)[0] for values in chosen]
    assert boxes(table) == [[a, b, c - a, d - b] for a, b, c, d in by_att]

    table = cropped("--map", "both", "--iou", "0.1", "--attribute", "colour=red")
    assert set(table.attribute) == {"colour=red"}
    pairs = [(m.high, m.attributes["colour=red"]) for m in maps]
    expected = [cropping.crop_box(aes, (64, 48), att=att, **how)[0] for aes, att in pairs]
    assert boxes(table) == [[a, b, c - a, d - b] for a, b, c, d in expected]
    ious = [cropping.agreement(*pair, threshold=0.6) for pair in pairs]
    assert list(table.iou) == ["" if np.isnan(iou) else f"{iou:.4f}" for iou in ious]


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
    for chosen in (["--map", "att"], ["--map", "both"], ["--map", "att", "--attribute", "sky"]):
        said = refused(monkeypatch, *plain, *chosen)
        assert f"--map {chosen[1]} needs a network with attributes" in said
        assert "has none; take --map aes" in said
    network = aesthetic_net("alexnet", [3, 4], weights="none")
    save_network(network, tmp_path / "run" / "network_best.safetensors", round=1)
    assert "train with head 'gap'" in refused(monkeypatch, *plain)


def in_a_shell(line, **environment):
    """A command line with `rsrl` in it, as a user types it; its exit status is rsrl's."""
    rsrl = Path(sys.executable).with_name("rsrl")
    line = f"set -o pipefail; {line.replace('rsrl', str(rsrl), 1)}"
    environment = {**os.environ, **environment}
    how = {"text": True, "errors": "backslashreplace", "timeout": 300}
    return subprocess.run(["bash", "-c", line], capture_output=True, env=environment, **how)


@pytest.mark.parametrize(
    "line",
    ["rsrl --help | true", "rsrl train --help 2>&1 | true", "rsrl trian 2>&1 >/dev/null | true"],
)
def test_a_reader_that_leaves_ends_a_command_quietly_with_the_status_of_a_pipe(line):
    done = in_a_shell(line)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_table_is_cut_off_by_its_reader_without_a_word(gap_run, folder):
    done = in_a_shell(f"rsrl assess --run {gap_run} {folder} 2>/dev/null | head -1")
    assert done.stdout.split()[:4] == ["photo", "level", "rank", "percentile"]
    words = "Traceback", "Broken pipe"
    done = in_a_shell(f"rsrl assess --run {gap_run} {folder} | true")
    assert done.returncode == 141
    assert not any(word in done.stderr for word in words)


def test_output_that_has_no_room_is_a_sentence(monkeypatch):
    done = in_a_shell("rsrl --help >/dev/full")
    assert done.returncode == 1
    assert done.stderr.startswith("rsrl: [Errno 28] No space left on device")


@pytest.mark.parametrize("closed", ["<&- >&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_do_not_take_the_place_of_a_file(closed, tmp_path):
    code = f"import sys, os; sys.argv = ['rsrl', 'glassbox', '--out', {str(tmp_path / 'g')!r}, "
    code += "'--count', '2']; from rsrl_lib.interface import cli; cli.main(); os.write(1, b'x')"
    line = f'exec {sys.executable} -c "{code}" {closed}'
    done = subprocess.run(["bash", "-c", line], capture_output=True)
    assert done.returncode == 0, done.stderr
    drawn = tmp_path / "g"
    assert len(list((drawn / "photos").iterdir())) == 2
    assert (drawn / "photos.csv").read_text().startswith("photo,score")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_the_letters_of_a_name_gets_them_spelled(gap_run, tmp_path, encoding):
    name = tmp_path / "Ä 照片 \N{CAMERA}.png"
    Image.new("RGB", (40, 30), (200, 40, 40)).save(name)
    (tmp_path / "照.jpg").write_bytes(b"no picture")
    line = f"rsrl assess --run {gap_run} {tmp_path} --skip-broken"
    done = in_a_shell(line, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert "\\u7167\\u7247 \\U0001f4f7.png" in done.stdout
    assert "left out: " in done.stderr and "\\u7167.jpg" in done.stderr


OUTPUTS = {
    "train": ["--photos", "p", "--scores", "s.csv", "--run", "OUT"],
    "assess": ["--run", "r", "p.jpg", "--csv", "OUT"],
    "highlight": ["--run", "r", "p.jpg", "--rounds", "2", "1", "--out", "OUT"],
    "crop": ["--run", "r", "p.jpg", "--out", "OUT"],
    "maps": ["--run", "r", "p.jpg", "--out", "OUT"],
    "glassbox": ["--out", "OUT"],
    "fetch": ["oasis", "--out", "OUT"],
    "sweep": ["g.toml", "--out", "OUT"],
}


@pytest.mark.parametrize("command", OUTPUTS)
def test_where_nothing_can_be_written_is_told_before_anything_is_read(
    monkeypatch, tmp_path, command
):
    """No photo, run or grid of these commands is there, and that is not what is told."""
    file = tmp_path / "file.csv"
    file.write_text("kept")
    (tmp_path / "folder.csv").mkdir()
    wrong = [file / "x.csv", tmp_path / f"{'x' * 300}.csv", Path("/proc/x.csv")]
    wrong += [tmp_path / "folder.csv" if command in ("assess", "sweep") else file]
    for out in wrong:
        words = [str(out) if word == "OUT" else word for word in OUTPUTS[command]]
        said = refused(monkeypatch, command, *words)
        assert str(out) in said
        assert "a folder is needed" in said or "a file is needed" in said or "cannot be" in said
    assert file.read_text() == "kept"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file.csv", "folder.csv"]


def test_a_table_is_never_written_over_a_photo(monkeypatch, tmp_path):
    photo = tmp_path / "a.JPG"
    photo.write_bytes(b"x")
    said = refused(monkeypatch, "assess", "--run", "r", "--csv", photo, tmp_path / "b.jpg")
    assert "is the name of a picture; give one for the table" in said
    assert photo.read_bytes() == b"x"


def test_a_folder_for_the_table_is_made(monkeypatch, gap_run, folder, tmp_path):
    table = tmp_path / "new" / "one" / "a.csv"
    rsrl(monkeypatch, "assess", "--run", gap_run, folder / "00.png", "--csv", table)
    assert len(pd.read_csv(table)) == 1


@pytest.mark.parametrize("command", ["assess", "highlight", "crop", "maps"])
def test_with_nothing_left_there_is_a_sentence_and_no_empty_table(
    monkeypatch, gap_run, tmp_path, capsys, command
):
    two_rounds = tmp_path / "run"
    shutil.copytree(gap_run, two_rounds)
    conv1 = load_file(two_rounds / "conv1.safetensors")
    conv1 |= {k.replace("01", "02"): v + v.std() for k, v in conv1.items()}
    save_file(conv1, two_rounds / "conv1.safetensors")
    photos = tmp_path / "broken"
    photos.mkdir()
    for n in range(2):
        (photos / f"{n}.jpg").write_bytes(b"no picture")
    words = [word.replace("OUT", str(tmp_path / "out")) for word in OUTPUTS[command][2:]]
    words = [photos if word == "p.jpg" else word for word in words]
    said = refused(monkeypatch, command, "--run", two_rounds, *words, "--skip-broken")
    work = "map" if command == "maps" else command
    assert said == f"rsrl: There is nothing to {work}: all 2 photos had to be left out, for " + (
        "the reasons above."
    )
    told = capsys.readouterr()
    assert "Empty" not in told.out
    assert told.err.count("left out: ") == 2


@pytest.mark.parametrize(
    ("command", "words", "says"),
    [
        ("highlight", ["--rounds", "10", "9"], "rounds 1 to 1, not of round 10; give two of these"),
        ("highlight", ["--rounds", "1", "1"], "--rounds takes the later round, then the earlier"),
        ("highlight", ["--rounds", "1", "2"], "--rounds takes the later round, then the earlier"),
        ("highlight", ["--rounds", "1", "0"], "not of round 0"),
        ("crop", ["--aspect", "0:0"], "The aspect ratio is '0:0'; give width:height"),
        ("crop", ["--least", "0"], "--least is a side in pixels, 1 or more, not 0"),
        ("crop", ["--threshold", "1.2"], "threshold must lie in 0..1, not 1.2"),
        ("crop", ["--threshold", "nan"], "threshold must lie in 0..1, not nan"),
        ("crop", ["--map", "both", "--iou", "-1"], "iou must lie in 0..1, not -1"),
        ("crop", ["--attribute", "sharp"], "--attribute goes with --map att or both"),
        (
            "crop",
            ["--map", "att", "--attribute", "red"],
            "attribute 'red'; it knows sharp, colour=blue, colour=green, colour=red",
        ),
    ],
)
def test_what_a_run_or_photo_cannot_give_is_said(
    monkeypatch, gap_run, tmp_path, command, words, says
):
    places = ["--run", gap_run, tmp_path / "never_read.png", "--out", tmp_path / "out"]
    assert says in refused(monkeypatch, command, *places, *words)


def test_a_channel_is_compared_with_the_network_and_no_photo_is_blamed(
    monkeypatch, gap_run, folder, tmp_path
):
    two_rounds = tmp_path / "run"
    shutil.copytree(gap_run, two_rounds)
    conv1 = load_file(two_rounds / "conv1.safetensors")
    conv1 |= {k.replace("01", "02"): v + v.std() for k, v in conv1.items()}
    save_file(conv1, two_rounds / "conv1.safetensors")
    words = ["--run", two_rounds, "--rounds", "2", "1", "--out", tmp_path / "out"]
    for channel in ("64", "-1"):
        said = refused(monkeypatch, "highlight", *words, folder / "00.png", "--channel", channel)
        assert said == f"rsrl: --channel is {channel}, conv1 of this network has 64 channels; " + (
            "give one of 0..63."
        )
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("command", ["assess", "highlight", "crop", "maps"])
def test_a_run_that_is_no_folder_is_told(monkeypatch, tmp_path, command):
    file = tmp_path / "network_best.safetensors"
    file.write_bytes(b"x")
    for run, says in ((file, "is a file; give the folder"), (tmp_path / "no", "is not there")):
        words = [word.replace("OUT", str(tmp_path / "out.csv")) for word in OUTPUTS[command]]
        words[1] = run
        assert f"{run} {says}" in refused(monkeypatch, command, *words)


def test_a_file_of_weights_that_is_none_is_told_before_the_photos_are_read(
    monkeypatch, train, tmp_path
):
    words = [word if word != "none" else tmp_path / "w.pth" for word in train]
    words[words.index("--scores") + 1] = "nowhere.csv"
    assert "There are no weights at" in refused(monkeypatch, *words)
    torch.save({"a": torch.zeros(2)}, tmp_path / "w.pth")
    said = refused(monkeypatch, *words)
    assert "w.pth is no readable safetensors file" in said
    assert "safetensors.torch.save_file(torch.load('in.pth', weights_only=True)" in said


def test_help_of_train_begins_with_a_dozen_options_and_leaves_comparisons_to_grids():
    said = in_a_shell("rsrl train --help", PYTHONIOENCODING="ascii:replace").stdout
    options = [line[2:] for line in said.splitlines() if line[2:3] == "-"]
    names = [line.split()[0] for line in options if line.startswith("--")]
    groups = ["options", "recipe options", "recipe.drop options", "recipe.training options"]
    titles = [
        line.strip(" ?") for line in said.splitlines() if line.strip(" ?").endswith("options")
    ]
    assert titles == [*groups, "columns options"]
    assert names.index("--backbone") <= 12 and names.index("--votes") > names.index("--batch")
    assert not {"--control", "--resplit", "--first-steps", "--literal-weights"} & set(names)


@pytest.mark.parametrize("command", ["train", "assess", "crop", "maps", "glassbox", "notebooks"])
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
from rsrl_lib.interface import cli
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
