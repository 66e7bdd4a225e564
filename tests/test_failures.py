"""Failures of craft in good photos: graded, repeatable, scored as drawn photos are."""

import json
import shlex

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rsrl_lib.drawing import glassbox
from rsrl_lib.drawing.failures import centre_of_detail, spoiled
from rsrl_lib.files import InputError
from rsrl_lib.interface import cli
from rsrl_lib.sources import read_photos

FAULTLESS = dict.fromkeys(glassbox.ATTRIBUTES, 1.0) | {"clutter": 0.0}


def draw_good_photos(folder, count):
    """Smooth pictures with one detailed place each."""
    folder.mkdir()
    for number in range(count):
        rng = np.random.default_rng(number)
        pixels = np.full((90, 120, 3), 90 + 20 * (number % 5), np.uint8)
        left, top = 20 + 12 * (number % 5), 20 + 8 * (number % 4)
        pixels[top : top + 20, left : left + 20] = rng.integers(0, 255, (20, 20, 3))
        Image.fromarray(pixels).save(folder / f"good {number}.png")
    return folder


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return draw_good_photos(tmp_path_factory.mktemp("good") / "photos", 6)


def opened(good, number):
    return Image.open(good / f"good {number}.png").convert("RGB")


def changed_by(good, **attributes):
    """Mean difference that some attributes make to a faultless picture, in grey values."""
    noise = np.random.default_rng(1).integers(0, 255, (90, 120, 3), np.uint8)
    pictures = []
    for wanted in (FAULTLESS, FAULTLESS | attributes):
        rng = np.random.default_rng(7)
        picture = spoiled(opened(good, 1), Image.fromarray(noise), wanted, rng)
        pictures.append(np.asarray(picture, float))
    assert pictures[0].shape == pictures[1].shape
    return abs(pictures[0] - pictures[1]).mean()


@pytest.mark.parametrize("name", glassbox.ATTRIBUTES)
def test_a_failure_changes_the_picture_the_more_the_worse_it_is(good, name):
    worse = (0.7, 0.4, 0.1)
    if name == "clutter":
        worse = (0.3, 0.6, 1.0)
    changes = [changed_by(good, **{name: value}) for value in worse]
    assert 0 < changes[0] < changes[1] < changes[2]


def test_a_faultless_picture_is_the_photo_within_its_frame(good):
    rng = np.random.default_rng(0)
    picture = spoiled(opened(good, 0), opened(good, 1), FAULTLESS, rng)
    assert min(picture.size) == 384
    colours = np.unique(np.asarray(picture).reshape(-1, 3), axis=0)
    assert [90, 90, 90] in colours.tolist()  # neither light nor colour has changed


def test_the_subject_is_where_the_detail_is(good):
    x, y = centre_of_detail(opened(good, 0))  # 20..40 of 120 across, 20..40 of 90 down
    assert (x, y) == pytest.approx((30 / 120, 30 / 90), abs=0.08)


def test_spoiled_photos_have_the_truth_table_of_drawn_ones(good, tmp_path):
    table = glassbox.write_from(tmp_path / "set", good, 15, seed=2)
    drawn = pd.read_csv(glassbox.write(tmp_path / "drawn", 3))
    made = pd.read_csv(table)
    assert set(drawn.columns) - set(made.columns) == {"scene", "mask", *glassbox.TAGS}
    assert set(made.columns) - set(drawn.columns) == {"source"}
    assert len(made) == 15 and made.source.nunique() == 6
    assert (made.source.value_counts() <= 3).all()
    assert np.allclose(made.quality, glassbox.quality(made))
    assert (glassbox.score_of(made.quality.to_numpy()) == made.noise_free_score).all()
    options = {"votes": tmp_path / "set" / "votes.csv", "group_column": "source"}
    scored = read_photos("folder", tmp_path / "set", table, **options)
    truth = glassbox.truth_of(scored)
    assert (truth.mislabelled == (scored.table.score.to_numpy() != truth.noise_free_score)).all()


def test_the_same_seed_makes_the_same_photos_and_a_finished_set_stays(good, tmp_path):
    tables = [glassbox.write_from(tmp_path / name, good, 4, seed=5) for name in "ab"]
    for name in ("photos.csv", "votes.csv", "photos/00001.jpg", "photos/00004.jpg"):
        first, second = (table.parent / name for table in tables)
        assert first.read_bytes() == second.read_bytes()
    before = tables[0].stat().st_mtime_ns
    assert glassbox.write_from(tmp_path / "a", good, 4, seed=5) == tables[0]
    assert tables[0].stat().st_mtime_ns == before
    with pytest.raises(InputError, match="Needed is an empty folder"):
        glassbox.write_from(tmp_path / "a", good, 4, seed=6)


def test_what_no_set_can_be_made_of_is_refused(good, tmp_path):
    alone = draw_good_photos(tmp_path / "alone", 1)
    with pytest.raises(InputError, match=r"two good photos or more, .* holds 1"):
        glassbox.write_from(tmp_path / "set", alone)
    with pytest.raises(InputError, match="count of at least 1, found is 0"):
        glassbox.write_from(tmp_path / "set", good, 0)
    (alone / "broken.png").write_bytes((alone / "good 0.png").read_bytes()[:400])
    with pytest.raises(InputError, match=r"broken\.png"):
        glassbox.write_from(tmp_path / "set", alone)


@pytest.mark.parametrize("size", [(3000, 1), (1, 3000), (1, 1)])
def test_a_line_of_pixels_does_not_fill_the_memory(good, size):
    line = Image.new("RGB", size, (90, 90, 90))
    for photo, clutter in ((line, opened(good, 0)), (opened(good, 0), line)):
        picture = spoiled(photo, clutter, {**FAULTLESS, "clutter": 0.0}, np.random.default_rng(0))
        assert max(picture.size) <= 8 * min(picture.size)


def test_no_photos_are_made_among_the_good_ones(good):
    before = sorted(good.iterdir())
    with pytest.raises(InputError, match="name a folder beside it"):
        glassbox.write_from(good / "set", good, 3)
    assert sorted(good.iterdir()) == before


def test_the_command_tells_how_to_run_all_chapters_on_them(good, tmp_path, monkeypatch, capsys):
    words = ["rsrl", "glassbox", "--from", str(good), "--out", str(tmp_path / "my set")]
    monkeypatch.setattr("sys.argv", words)
    cli.main()
    told = capsys.readouterr().out
    assert "6 photos are listed" in told
    assert "rsrl notebooks --out" in told and "group_column" not in told
    assert f"-p other {good}" in told
    monkeypatch.setattr("sys.argv", [*words[:-1], str(tmp_path / "more"), "--count", "8"])
    cli.main()
    command = capsys.readouterr().out.partition("All chapters on them: ")[2]
    words = shlex.split(command)
    options = json.loads(words[words.index("options") + 1])
    assert options["group_column"] == "source"
    assert '"\'"' not in command  # quotes within quotes cannot be read


def test_a_set_that_broke_off_at_an_original_is_made_once_that_is_gone(good, tmp_path):
    folder = draw_good_photos(tmp_path / "photos", 3)
    (folder / "broken.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"broken\.png"):
        glassbox.write_from(tmp_path / "set", folder)
    (folder / "broken.png").unlink()
    made = pd.read_csv(glassbox.write_from(tmp_path / "set", folder))
    assert sorted(made.source) == ["good 0.png", "good 1.png", "good 2.png"]
