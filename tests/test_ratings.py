"""Scores given by keys: nothing is lost, one photo in ten comes back, the tables follow."""

import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score

from rsrl_lib import ratings, repeatability, rounds, summary
from rsrl_lib.files import InputError, Note
from rsrl_lib.ratings import Ratings, Shown, log_of, read_log, votes_of
from rsrl_lib.sources import read_folder
from tests.conftest import draw_coloured_photos
from tests.test_rounds import RECIPE

PHOTOS = [f"{number:03}.png" for number in range(60)]


@pytest.fixture
def scores(tmp_path):
    return tmp_path / "scores.csv"


def begin(scores, photos=PHOTOS, **how):
    return Ratings(photos, scores, **how)


def rate(session, count, opinion=lambda photo: 3 + int(photo[:3]) % 5):
    """Score the next photos; returns them as they were shown."""
    shown = []
    for _ in range(count):
        now = session.current
        if now is None:
            break
        shown.append(now)
        assert session.rate(now.photo, session.step, opinion(now.photo))
        session.write_tables()
    return shown


def test_every_photo_is_shown_and_one_in_ten_comes_back_some_photos_later(scores):
    shown = rate(begin(scores), 1000)
    assert Counter(now.photo for now in shown if not now.is_repeat) == Counter(PHOTOS)
    repeats = [(place, now.photo) for place, now in enumerate(shown) if now.is_repeat]
    assert len(repeats) == 6
    first = [now.photo for now in shown]
    assert all(place - first.index(photo) > ratings.LEAST_GAP for place, photo in repeats)
    # One of every ten that follow one another.
    order = [now.photo for now in shown if not now.is_repeat]
    assert sorted(order.index(photo) // 10 for _, photo in repeats) == list(range(6))
    assert begin(scores).current is None


def test_who_stops_after_any_key_goes_on_as_if_nothing_had_happened(scores, tmp_path):
    at_once = rate(begin(tmp_path / "other.csv"), 1000)
    stopped = []
    while some := rate(begin(scores), 1):
        stopped += some
    assert stopped == at_once
    assert scores.read_text() == (tmp_path / "other.csv").read_text()


def test_photos_that_are_added_later_change_nothing_of_the_order_of_the_rest():
    before = ratings.order(PHOTOS, "anna")
    after = ratings.order([*PHOTOS, "new.png", "newer.png"], "anna")
    assert [photo for photo in after if photo in PHOTOS] == before
    assert before != PHOTOS
    assert before != ratings.order(PHOTOS, "ben")
    assert before != ratings.order(PHOTOS, "anna", seed=1)


def test_the_photo_after_this_one_is_known_before_it_is_scored(scores):
    session = begin(scores)
    while session.current:
        following = session.following()
        rate(session, 1)
        assert session.current == following


def test_back_corrects_the_last_key_whichever_it_was(scores):
    session = begin(scores)
    first, second = rate(session, 2)
    assert session.back(session.current.photo, session.step)
    assert session.current == second
    assert session.back(second.photo, session.step)
    assert session.current == first
    assert not session.back(first.photo, session.step)
    rate(session, 1, lambda photo: 9)
    assert scores.read_text() == f"photo,score\n{first.photo},9\n"
    # What was taken back stays in the log.
    events = [key.event for key in read_log(log_of(scores))]
    assert events == ["rated", "rated", "taken back", "taken back", "rated"]


def test_a_repeat_can_be_taken_back_too(scores):
    session = begin(scores)
    while not session.current.is_repeat:
        rate(session, 1)
    repeat = session.current
    rate(session, 1)
    assert session.current != repeat
    assert session.back(session.current.photo, session.step)
    assert session.current == repeat


def test_a_skipped_photo_comes_at_the_end_and_is_left_out_the_second_time(scores):
    session = begin(scores, PHOTOS[:8])
    skipped = session.current.photo
    assert session.skip(skipped, session.step)
    shown = [now.photo for now in rate(session, 7)]
    assert skipped not in shown
    assert session.current == Shown(skipped, is_repeat=False)
    assert session.skip(skipped, session.step)
    assert skipped not in {now.photo for now in rate(session, 10)}
    assert skipped not in scores.read_text()


def test_a_repeat_that_is_skipped_does_not_come_back(scores):
    session = begin(scores)
    while not session.current.is_repeat:
        rate(session, 1)
    repeat = session.current
    assert session.skip(repeat.photo, session.step)
    assert repeat not in rate(session, 1000)
    assert repeat.photo in scores.read_text()


def test_a_key_that_is_late_changes_nothing(scores):
    session = begin(scores)
    photo, step = session.current.photo, session.step
    assert session.rate(photo, step, 4)
    before = log_of(scores).read_bytes()
    assert not session.rate(photo, step, 5)
    assert not session.rate(photo, session.step, 5)
    assert not session.rate(session.current.photo, step, 5)
    assert not session.skip(photo, step)
    assert not session.back(photo, step)
    assert log_of(scores).read_bytes() == before


def test_two_pages_of_one_rater_do_not_score_a_photo_twice(scores):
    one, other = begin(scores), begin(scores)
    photo = one.current.photo
    assert other.current.photo == photo
    assert one.rate(photo, one.step, 4)
    assert not other.rate(photo, other.step, 5)
    assert other.current == one.current
    assert [key.score for key in read_log(log_of(scores))] == [4]


@pytest.mark.parametrize("cut", [1, 2, 10, 40, 50])
def test_a_torn_last_line_costs_one_key_and_the_next_is_written_whole(cut, scores):
    rate(begin(scores), 4)
    table = scores.read_text()
    rate(begin(scores), 1)
    scores.write_text(table)  # which follows the log
    log = log_of(scores)
    whole = log.read_bytes()
    log.write_bytes(whole[:-cut])
    session = begin(scores)
    # Without its line's end alone nothing is lacking.
    assert len(session.done) == (5 if cut == 1 else 4)
    rate(session, 6 - len(session.done))
    keys = read_log(log)
    assert [(key.photo, key.score) for key in keys] == [
        (key.photo, key.score) for key in ratings.history(keys, "me")
    ]
    assert len(keys) == 6 and log.read_bytes().endswith(b"\n")


def test_a_header_that_is_torn_is_the_beginning_of_a_log(scores):
    log_of(scores).write_text("rater,pho")
    rate(begin(scores), 2)
    assert len(read_log(log_of(scores))) == 2
    assert log_of(scores).read_text().startswith(ratings.HEADER + "\n")


def test_a_kill_between_the_log_and_the_table_loses_nothing(scores):
    session = begin(scores)
    rate(session, 3)
    now = session.current
    session.rate(now.photo, session.step, 7)  # and killed before the table
    assert now.photo not in scores.read_text()
    again = begin(scores)
    assert len(again.done) == 4
    again.write_tables()
    assert f"{now.photo},7\n" in scores.read_text()


RATES = """
import sys
from pathlib import Path
from rsrl_lib.ratings import Ratings
session = Ratings([f"{number:04}.png" for number in range(5000)], Path(sys.argv[1]))
while shown := session.current:
    session.rate(shown.photo, session.step, 5)
    print(shown.photo, flush=True)
    session.write_tables()
"""


def test_a_rating_that_is_killed_keeps_every_key_that_was_answered(scores):
    answered = []
    for _ in range(3):
        words = [sys.executable, "-c", RATES, str(scores)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
            answered += [process.stdout.readline().strip() for _ in range(7)]
            process.kill()
            answered += process.stdout.read().split()
        in_log = [key.photo for key in read_log(log_of(scores))]
        # At most the one that was on its way to the reader came through besides.
        assert in_log[: len(answered)] == answered
        assert len(in_log) <= len(answered) + 1
        answered = in_log
    begin(scores, [f"{number:04}.png" for number in range(5000)])


def test_a_table_that_the_log_does_not_explain_is_not_written_over(scores, tmp_path):
    scores.write_text("photo,score\n000.png,4\n")
    with pytest.raises(InputError, match="has not written"):
        begin(scores)
    other = tmp_path / "other.csv"
    rate(begin(other), 3)
    other.write_text(other.read_text() + "by_hand.png,4\n")
    with pytest.raises(InputError, match="was changed since"):
        begin(other)
    assert "by_hand.png" in other.read_text()


def test_nothing_is_written_before_the_first_key(scores):
    begin(scores).following()
    assert list(scores.parent.iterdir()) == []


@pytest.mark.parametrize(
    "damage, told",
    [
        (lambda text: text.replace(",rated,", ",liked,", 1), "line 2 is no rating"),
        (lambda text: text.replace(ratings.HEADER, "photo,score"), "is no log of ratings"),
        (lambda text: text.replace(",1,9,", ",1,5,", 1), "cannot be told from scores from"),
    ],
)
def test_a_log_that_is_damaged_is_told_in_a_sentence(damage, told, scores):
    rate(begin(scores), 3, lambda photo: 5)
    log_of(scores).write_text(damage(log_of(scores).read_text()))
    with pytest.raises(InputError, match=told):
        begin(scores)


@pytest.mark.parametrize(
    "how, told",
    [
        ({"scale": (1, 5)}, "go on with --scale 1 9"),
        ({"photos": ["another.png"]}, "names no photo of this folder"),
        ({"rater": " "}, "is no name"),
    ],
)
def test_what_does_not_go_with_the_log_is_told_in_a_sentence(how, told, scores):
    rate(begin(scores), 3)
    with pytest.raises(InputError, match=told):
        begin(scores, **how)


@pytest.mark.parametrize("scale", [(1, 100), (0, 10), (5, 5), (9, 1), (-3, 3)])
def test_a_scale_without_a_key_for_each_score_is_refused(scale, scores):
    with pytest.raises(InputError, match="needs a key of its own"):
        begin(scores, scale=scale)


def test_the_scale_is_that_of_the_log_and_ten_has_the_key_0(scores):
    session = begin(scores, scale=(1, 10))
    assert ratings.keys_of_scale(session.scale)["0"] == 10
    rate(session, 2, lambda photo: 10)
    assert begin(scores).scale == (1, 10)
    with pytest.raises(InputError, match="is no score from 1 to 10"):
        session.rate(session.current.photo, session.step, 11)


def test_the_first_score_counts_and_the_repeat_measures(scores):
    session = begin(scores)
    seen = Counter()

    def changing(photo):
        seen[photo] += 1
        return 4 if seen[photo] == 1 else 5

    rate(session, 1000, changing)
    table = pd.read_csv(scores)
    assert table.photo.tolist() == PHOTOS
    assert set(table.score) == {4}
    assert ratings.first_and_repeat(session.keys) == [(4, 5)] * 6
    assert session.counts()[4] == 60 and session.counts()[5] == 6


def test_a_second_rater_makes_means_and_votes_that_are_read_as_such(tmp_path):
    table = draw_coloured_photos(tmp_path)
    names = pd.read_csv(table).photo.tolist()
    scores = tmp_path / "mine.csv"
    rate(begin(scores, names, rater="anna"), 1000, lambda photo: 4 + 2 * (int(photo[:2]) % 2))
    assert not votes_of(scores).exists()
    with pytest.raises(InputError, match="no name"):
        begin(scores, names, rater="")
    rate(begin(scores, names, rater="ben"), 70, lambda photo: 5 + int(photo[:2]) % 2)
    with pytest.raises(InputError, match="say by --rater who rates now"):
        begin(scores, names)
    read = read_folder(tmp_path, scores, votes=votes_of(scores))
    assert len(read) == 60
    assert read.votes.to_numpy().sum(1).tolist() == [2] * 60
    even = read.table[read.table.photo == "00.png"].iloc[0]
    assert (even.score, even.mean_score) == (5, 4.5)  # a half goes up
    by_column = read_folder(tmp_path, scores, mean_column="mean_score")
    assert by_column.table.mean_score.tolist() == read.table.mean_score.tolist()
    between = read.rater["between"]
    assert between["photos"] == 60 and between["exact"][0] == 0.5


def scored_twice(scores, names, agree=lambda number: True):
    """Rate photos with a log of its own repeats, and as many more as 40 need."""
    seen = {}

    def opinion(photo):
        if photo in seen:
            return seen[photo] + (0 if agree(len(seen)) else 1)
        seen[photo] = random.Random(photo).randint(3, 7)
        return seen[photo]

    session = begin(scores, names, rater="anna")
    rate(session, 1000, opinion)
    return session


def test_repeatability_is_told_beside_a_run_from_twenty_repeats_on(coloured, tmp_path, small_crops):
    table = coloured[0].table
    folder = Path(table.path[0]).parent
    scores = tmp_path / "scores.csv"
    many = [f"{number:03}.png" for number in range(240)]
    few = scored_twice(tmp_path / "few.csv", many[:100])
    told = repeatability.of_log(few.keys)
    assert told["repeats"] == 10 and told["exact"] is None
    assert "cannot be told yet: 10 photos" in repeatability.in_words(told)[0]

    table[["photo", "score"]].to_csv(scores, index=False)
    scored_twice(tmp_path / "other.csv", many)
    log_of(scores).write_text(log_of(tmp_path / "other.csv").read_text())
    read = read_folder(folder, scores)
    assert read.rater["repeats"] == 24 and read.rater["exact"][0] == 1
    run = rounds.repeat(read, coloured[1], tmp_path / "run", RECIPE)
    assert run.info["rater"] == read.rater
    said = " ".join(summary.of_rater(run))
    assert "24 photos came back" in said and "no ceiling" in said
    assert said in " ".join(summary.of_start(read, run, RECIPE))
    assert said in " ".join(summary.of_end(run))


def test_without_a_log_nothing_is_told(coloured):
    assert coloured[0].rater is None
    assert repeatability.in_words(None) == []


def test_another_table_of_that_name_is_no_log(tmp_path):
    scores = draw_coloured_photos(tmp_path)
    log_of(scores).write_text("photo,stars\n00.png,3\n")
    assert read_folder(tmp_path, scores).rater is None
    log_of(scores).write_text(f"{ratings.HEADER}\nanna,00.png,liked\n")
    with pytest.warns(Note, match="line 2 is no rating"):
        assert read_folder(tmp_path, scores).rater is None


def test_agreement_is_that_of_scikit_learn_and_its_interval_is_wilsons():
    rng = np.random.default_rng(3)
    first = rng.integers(2, 9, 60)
    second = np.clip(first + rng.integers(-2, 3, 60), 1, 9)
    pairs = np.stack([first, second], 1)
    told = repeatability.agreement(pairs)
    kappa = cohen_kappa_score(first, second, weights="quadratic", labels=range(1, 10))
    assert told["kappa"][0] == pytest.approx(kappa)
    assert told["exact"][0] == (first == second).mean()
    assert told["within_one"][0] == (abs(first - second) <= 1).mean()
    for low, value, high in ((m[1], m[0], m[2]) for m in told.values()):
        assert low < value < high
    # By hand: 10 of 20, z = 1.96.
    half = np.array([[4, 4]] * 10 + [[4, 5]] * 10)
    assert repeatability.agreement(half)["exact"] == pytest.approx([0.5, 0.299, 0.701], abs=1e-3)


def test_twenty_of_twenty_that_agree_are_no_certainty():
    pairs = np.array([[score, score] for score in (3, 4, 5, 6, 7)] * 4)
    told = repeatability.agreement(pairs)
    # Wilson's lower end of 20 of 20 is n / (n + z^2).
    assert told["exact"] == pytest.approx([1, 20 / (20 + 1.96**2), 1], abs=1e-3)
    # The others one score apart; by chance two scores of 3..7 lie 4 apart in the mean of squares.
    assert told["kappa"] == pytest.approx([1, 1 - (1 - told["exact"][1]) / 4, 1])
    assert repeatability.agreement(pairs[:19]) == dict.fromkeys(repeatability.MEASURES)
    alike = np.full((20, 2), 5)
    assert repeatability.agreement(alike)["kappa"] is None


def test_names_that_no_table_can_hold_are_not_asked_for():
    assert [
        name for name in ("a b.jpg", " a.jpg", "a\n.jpg", "x/ü,;.jpg") if ratings.is_nameable(name)
    ] == ["a b.jpg", "x/ü,;.jpg"]


def test_a_name_with_commas_and_quotes_comes_back_as_it_is(scores):
    names = ['a,"b";c.png', "x/ü.png", "y/ü.png"]
    rate(begin(scores, names), 3, lambda photo: 4)
    assert pd.read_csv(scores).photo.tolist() == sorted(names)
    assert begin(scores, names).current is None
