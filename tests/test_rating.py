"""The widget that scores photos, without a browser: what it sends, and what it makes of a key."""

import subprocess
import sys
import time

import pytest
from PIL import Image

from rsrl_lib import ratings
from rsrl_lib.files import InputError
from rsrl_lib.ratings import log_of, read_log

rating = pytest.importorskip("rsrl_lib.interface.rating")


@pytest.fixture
def folder(tmp_path):
    """Five photos, one that is none, one of another kind, and one that no table can name."""
    for number in range(5):
        colour = (40 * number, 90, 160)
        Image.new("RGB", (60, 40), colour).save(tmp_path / f"{number}.png")
    Image.new("RGB", (60, 40)).save(tmp_path / " 9.png")
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    (tmp_path / "scan.psd").write_bytes(b"8BPS")
    return tmp_path


def opened(folder, **how):
    return rating.rating_view(folder, folder / "scores.csv", **how)


def press(view, kind, **more):
    """As the page sends it: with the photo and the step that it shows."""
    key = {"kind": kind, "photo": view.state["photo"], "step": view.state["step"]}
    view._take(view, key | more, [])


def test_what_comes_next_was_sent_before(folder):
    view = opened(folder)
    while view.state["photo"]:
        ahead, picture = view.next, view.following
        press(view, "rate", score=4)
        assert ahead == {"step": view.state["step"], "photo": view.state["photo"]}
        assert picture == view.picture
    assert view.picture == b""
    assert len(read_log(log_of(folder / "scores.csv"))) == 5


def test_what_is_left_out_is_told_with_its_reason(folder):
    view = opened(folder)
    while view.state["photo"]:
        press(view, "rate", score=4)
    others, names, broken = view.state["notes"]
    assert "other picture" in others["said"]
    assert names["said"].startswith("Left out for their names: ' 9.png'")
    assert broken["said"] == "A photo cannot be read and will not be shown."
    assert "broken.jpg is no whole picture" in broken["reasons"][0]


def test_a_key_that_cannot_be_written_is_told_and_the_photo_stays(folder, monkeypatch):
    view = opened(folder)
    press(view, "rate", score=4)
    before = view.state

    def is_full(path, key):
        raise InputError(f"{path} could not be written (no space left).")

    with monkeypatch.context() as patch:
        patch.setattr(ratings, "_append", is_full)
        press(view, "rate", score=5)
    assert "no space left" in view.state["error"]
    assert view.state["forced"] == before["forced"] + 1
    assert view.state["photo"] == before["photo"]
    press(view, "rate", score=5)
    assert view.state["error"] == ""
    assert [key.score for key in read_log(view.ratings.log)] == [4, 5]


def test_a_late_key_is_answered_by_what_is_true(folder):
    view = opened(folder)
    late = {"kind": "rate", "photo": view.state["photo"], "step": view.state["step"]}
    view._take(view, late | {"score": 4}, [])
    shown = view.state
    view._take(view, late | {"score": 9}, [])
    assert view.state["forced"] == shown["forced"] + 1
    assert {**view.state, "forced": 0, "said": ""} == {**shown, "forced": 0, "said": ""}


def test_in_the_end_stands_the_command_that_trains_with_votes_where_two_have_rated(folder):
    for rater in ("anna", "ben"):
        view = opened(folder, rater=rater)
        while view.state["photo"]:
            press(view, "rate", score=4)
        command = view.state["finished"][-1]
        assert command.startswith(f'rsrl train --photos "{folder}" --scores "{folder}/scores.csv"')
        assert ("--votes" in command) == (rater == "ben")


def test_whether_they_are_enough_is_asked_without_waiting(folder):
    view = opened(folder)
    press(view, "enough")
    assert view.asked == {"busy": False, "told": ["Score some photos first."]}
    press(view, "rate", score=4)
    press(view, "rate", score=5)
    press(view, "enough")
    assert view.asked["busy"]
    press(view, "rate", score=5)
    assert view.state["said"] == "You gave 5."
    end = time.monotonic() + 180
    while view.asked["busy"] and time.monotonic() < end:
        time.sleep(0.1)
    assert "needs 25 scored photos" in view.asked["told"][-1]
    assert "Traceback" not in " ".join(view.asked["told"])


def test_scores_beside_a_table_that_was_given_go_to_a_table_of_their_own(folder):
    given = folder / "given.csv"
    given.write_text("photo,score\n0.png,3\n")
    assert rating.own_scores(folder, given) == folder / "my_scores.csv"
    assert rating.own_scores(folder) == folder / "my_scores.csv"
    press(opened(folder), "rate", score=4)
    assert rating.own_scores(folder, folder / "scores.csv") == folder / "scores.csv"


def test_a_large_photo_is_sent_small_and_upright(folder):
    turned = Image.Exif()
    turned[274] = 6
    Image.new("RGB", (4000, 3000)).save(folder / "large.jpg", exif=turned)
    view = opened(folder)
    (folder / "sent.jpg").write_bytes(view.jpeg("large.jpg"))
    with Image.open(folder / "sent.jpg") as sent:
        assert sent.size == (1200, 1600)
        assert not sent.getexif()


def test_the_page_starts_without_pytorch_and_without_scipy():
    code = "import sys, rsrl_lib.interface.rating; print({'torch', 'scipy'} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "set()"
