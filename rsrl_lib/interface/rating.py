"""Score a folder of photos by keys: one photo large, its score a key, the next one at once.

The page sends with every key which photo it was pressed at, and in which step; a key that is late
changes nothing. The next photo is sent before it is asked for. PyTorch is not loaded here: the
learning curve is computed by another process.
"""

import io
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import anywidget
import traitlets

from rsrl_lib.files import File, InputError, Note, reading
from rsrl_lib.ratings import (
    SKIPPED,
    Ratings,
    Shown,
    is_log,
    is_nameable,
    keys_of_scale,
    log_of,
    raters_of,
    votes_of,
)
from rsrl_lib.reading.pictures import open_rgb, read_unscored

SIDE = 1600
"""Most pixels of a photo on the page, the longer side."""
QUALITY = 85
MINE = "my_scores.csv"
HERE = Path(__file__).parent


class RatingView(anywidget.AnyWidget):
    """The page of one rater. `page`: it fills a browser's window, in the system's colours."""

    _esm = HERE / "rating.js"
    _css = HERE / "rating.css"
    state = traitlets.Dict().tag(sync=True)
    picture = traitlets.Bytes().tag(sync=True)
    next = traitlets.Dict().tag(sync=True)
    """Step and name of the photo that comes after this one if that gets a score."""
    following = traitlets.Bytes().tag(sync=True)
    """Its picture."""
    asked = traitlets.Dict().tag(sync=True)
    """What was found when the rater asked whether the photos are enough."""
    curve = traitlets.Bytes().tag(sync=True)
    page = traitlets.Bool().tag(sync=True)

    def __init__(
        self,
        ratings: Ratings,
        folder: Path,
        *,
        notes: Sequence[str] = (),
        page: bool = False,
    ):
        super().__init__(page=page)
        self.ratings = ratings
        self.folder = folder
        self.notes = list(notes)
        self.unreadable = []
        self.forced = 0
        self.jpeg = lru_cache(8)(self._jpeg)
        self._show("")
        self._look_ahead()
        self.on_msg(self._take)

    def told(self) -> list[str]:
        """What there is to do, in sentences for a terminal."""
        ratings = self.ratings
        answers = ratings.queue.answers
        so_far = f", {answers} answers were given before" if answers else ""
        low, high = ratings.scale
        return [
            f"{len(ratings.photos)} photos to score from {low} to {high}{so_far}.",
            f"The scores go to {ratings.scores}, every key to {ratings.log}.",
            *[note["said"] for note in self.state["notes"]],
        ]

    def _take(self, _view, asked: dict, _buffers) -> None:
        """Do what a key or a button says, if it is meant for the photo that is shown."""
        kind = asked.get("kind")
        if kind == "enough":
            self._ask_whether_enough()
            return
        try:
            is_done, said = self._act(kind, asked)
        except InputError as error:
            self.forced += 1
            self._show("", error=str(error))
            return
        self.forced += not is_done
        self._show(said)
        if is_done:
            try:
                self.ratings.write_tables()
            except InputError as error:
                self._show(said, error=str(error))
        self._look_ahead()

    def _act(self, kind: str, asked: dict) -> tuple[bool, str]:
        """Whether it could be done, and what to say of it."""
        ratings = self.ratings
        photo = str(asked["photo"])
        step = int(asked["step"])
        if kind == "rate":
            score = int(asked["score"])
            return ratings.rate(photo, step, score), f"You gave {score}."
        if kind == "skip":
            return ratings.skip(photo, step), "Skipped."
        before = ratings.done
        if not ratings.back(photo, step):
            return False, "There is nothing to take back." if not before else ""
        last = before[-1]
        if last.event == SKIPPED:
            return True, "Back at the photo that you skipped."
        return True, f"Taken back: you had given {last.score}."

    def _show(self, said: str, *, error: str = "") -> None:
        """Send the photo that is to be scored now, and what is known so far."""
        shown, picture = self._readable(lambda: self.ratings.current)
        ratings = self.ratings
        queue = ratings.queue
        state = {
            "step": ratings.step,
            "photo": shown.photo if shown else "",
            "keys": keys_of_scale(ratings.scale),
            "answers": queue.answers,
            "expected": queue.expected(),
            "counts": list(ratings.counts().values()),
            "canGoBack": bool(ratings.done),
            "said": said,
            "error": error,
            "notes": self._all_notes(),
            "finished": [] if shown else self._in_the_end(),
            "forced": self.forced,
        }
        with self.hold_sync():
            self.picture = picture
            self.state = state

    def _in_the_end(self) -> list[str]:
        """What is told once all photos are scored; the last line is a command."""
        from rsrl_lib.repeatability import in_words, of_log  # loads SciPy

        ratings = self.ratings
        scores = ratings.scores
        command = f'rsrl train --photos "{self.folder}" --scores "{scores}"'
        if len(raters_of(ratings.keys)) > 1:
            command += f' --votes "{votes_of(scores)}"'
        return [
            f"The scores are in {scores}. Every key is saved.",
            *in_words(of_log(ratings.keys)),
            "To train a network on them:",
            f"{command} --run runs/mine",
        ]

    def _look_ahead(self) -> None:
        """Send the photo after that one, so that the next key is answered at once."""
        shown, picture = self._readable(self.ratings.following)
        step = self.ratings.step + 1
        with self.hold_sync():
            self.following = picture
            self.next = {"step": step, "photo": shown.photo if shown else ""}

    def _readable(self, ask) -> tuple[Shown | None, bytes]:
        """The photo that the queue answers with; those that cannot be read are left out."""
        while (shown := ask()) is not None:
            try:
                return shown, self.jpeg(shown.photo)
            except InputError as error:
                self.unreadable.append(str(error))
                self.ratings.leave_out(shown.photo)
        return None, b""

    def _jpeg(self, name: str) -> bytes:
        path = self.folder / name
        with reading(path, "picture", "it is left out"):
            photo = open_rgb(path, at_least=SIDE)
        photo.thumbnail((SIDE, SIDE))
        stream = io.BytesIO()
        photo.save(stream, "JPEG", quality=QUALITY)
        return stream.getvalue()

    def _all_notes(self) -> list[dict]:
        """What the rater should know, in a sentence each, and the reasons of it."""
        count = len(self.unreadable)
        notes = [{"said": said, "reasons": []} for said in self.notes]
        if count:
            photos = "A photo" if count == 1 else f"{count} photos"
            said = f"{photos} cannot be read and will not be shown."
            notes.append({"said": said, "reasons": self.unreadable})
        return notes

    def _ask_whether_enough(self) -> None:
        """Compute a learning curve in another process: keys are answered meanwhile."""
        if self.asked.get("busy"):
            return
        if not self.ratings.scores.exists():
            self.asked = {"busy": False, "told": ["Score some photos first."]}
            return
        self.asked = {"busy": True, "told": []}
        threading.Thread(target=self._find_whether_enough, daemon=True).start()

    def _find_whether_enough(self) -> None:
        from rsrl_lib.repeatability import in_words, of_log

        told = in_words(of_log(list(self.ratings.keys)))
        picture = b""
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "curve.png"
            words = [sys.executable, "-m", "rsrl_lib", "curve", "--out", str(out)]
            words += ["--photos", str(self.folder)]
            words += ["--scores", str(self.ratings.scores)]
            ended = subprocess.run(
                words, capture_output=True, text=True, encoding="utf-8", check=False
            )
            if ended.returncode == 0:
                lines = ended.stdout.splitlines()
                told = [line for line in lines if str(out) not in line]
                picture = out.read_bytes()
            else:
                last = ended.stderr.strip().splitlines()[-1:] or ["no reason was given"]
                told.append(last[0].removeprefix("rsrl: "))
        with self.hold_sync():
            self.curve = picture
            self.asked = {"busy": False, "told": told}


def own_scores(photos: File, scores: File = "") -> Path:
    """Where scores go that are given beside a table of scores: to it where it was made so, or else
    to `my_scores.csv` beside it, or in the folder of the photos."""
    if not scores:
        return Path(photos) / MINE
    table = Path(scores)
    return table if is_log(log_of(table)) else table.with_name(MINE)


def rating_view(
    photos: File,
    scores: File,
    *,
    scale: tuple[int, int] | None = None,
    rater: str | None = None,
    page: bool = False,
) -> RatingView:
    """A widget that scores the photos anywhere below a folder, and writes the CSV `scores`.

    It goes on where the log beside `scores` ends. `scale` is 1 to 9, or that of the log; `rater` is
    needed where several have rated. Raises `InputError` as `Ratings` and `read_unscored` do.
    """
    folder = Path(photos)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", Note)
        names = list(read_unscored(folder)["photo"])
    notes = [str(each.message) for each in heard]
    nameable = [name for name in names if is_nameable(name)]
    others = [repr(name) for name in names if not is_nameable(name)]
    if others:
        notes.append(
            f"Left out for their names: {', '.join(others)}. A table cannot hold a name that "
            "begins or ends with a blank or has two lines; rename them."
        )
    ratings = Ratings(nameable, Path(scores), scale=scale, rater=rater)
    return RatingView(ratings, folder, notes=notes, page=page)
