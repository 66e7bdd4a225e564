"""Scores that somebody gives to photos, a key at a time: the log, the queue, and the tables.

Every key is a line of the log, which is on the disk before it is answered. All else follows from
the log: which photo is next, which scores count, how often the rater repeats herself. So one can
stop at any moment, and go on. Traded away: logs larger than memory.
"""

import csv
import hashlib
import io
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rsrl_lib.files import InputError, locked, reading, replacing, to_disk, writing
from rsrl_lib.photos import round_half_up

COLUMNS = ("rater", "photo", "event", "score", "low", "high", "time")
HEADER = ",".join(COLUMNS)
RATED = "rated"
REPEATED = "rated again"
SKIPPED = "skipped"
BACK = "taken back"
EVENTS = (RATED, REPEATED, SKIPPED, BACK)

SCALE = (1, 9)
"""The scores that are given where nothing else is said."""
BLOCK = 10
"""Of so many photos that follow one another, one comes back."""
GAP = (12, 24)
"""After how many other answers it does, at the least and at the most."""
LEAST_GAP = 5
"""And where no other photo is left."""
BEHIND = 50
"""Most keys by which the table may lag behind the log, as after a kill or on a full disk."""
SOMEBODY = "me"
"""What a rater is called who gives no name."""


@dataclass(frozen=True)
class Key:
    """A line of the log: who did what with which photo, on which scale, and when."""

    rater: str
    photo: str
    event: str
    score: int | None
    scale: tuple[int, int]
    time: str

    def line(self) -> str:
        score = "" if self.score is None else self.score
        cells = [self.rater, self.photo, self.event, score, *self.scale, self.time]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(cells)
        return text.getvalue()


@dataclass(frozen=True)
class Shown:
    """A photo that is to be scored, and whether it was scored before."""

    photo: str
    is_repeat: bool


def log_of(scores: Path) -> Path:
    """The log of the ratings that a table of scores comes from."""
    return scores.with_name(f"{scores.stem}_ratings.csv")


def votes_of(scores: Path) -> Path:
    """The table of votes beside a table of scores, where several have rated."""
    return scores.with_name(f"{scores.stem}_votes.csv")


def keys_of_scale(scale: tuple[int, int]) -> dict[str, int]:
    """The key of each score; `InputError` where one has none.

    >>> keys_of_scale((8, 10))
    {'8': 8, '9': 9, '0': 10}
    """
    low, high = scale
    has_keys = 0 <= low < high <= 9 or 1 <= low < high <= 10
    if not has_keys:
        raise InputError(
            f"A score needs a key of its own, the scale {low} to {high} has none for each; give "
            "two whole numbers within 0 and 9, or within 1 and 10 (the key 0 is then ten)."
        )
    return {str(score % 10): score for score in range(low, high + 1)}


def is_log(path: Path) -> bool:
    """Whether a file is a log of ratings, or the beginning of one."""
    try:
        with path.open("rb") as file:
            head = file.readline(200)
    except OSError:
        return False
    return head.decode("utf-8-sig", "replace").strip() == HEADER


def read_log(path: Path) -> list[Key]:
    """The keys of a log, none where there is no file; a torn last line is left out.

    Raises `InputError` for a line that is none of a log.
    """
    keys, _ = _read(path)
    return keys


def _read(path: Path) -> tuple[list[Key], int]:
    """The keys of a log, and how many bytes of it are whole."""
    if not path.exists():
        return [], 0
    with reading(path, "log of ratings", "give the one that rsrl rate has written"):
        content = path.read_bytes()
    *lines, tail = content.split(b"\n")
    whole = len(content) - len(tail)
    if tail and _is_whole(tail):
        # Another program may save the last line without its end.
        lines.append(tail)
        whole = len(content)
    if not lines:
        _check_is_torn_header(path, tail)
        return [], 0
    texts = [line.decode("utf-8", "replace").strip("\r") for line in lines]
    if texts[0].removeprefix("\ufeff") != HEADER:
        raise _no_log(path)
    keys = []
    for number, text in enumerate(texts[1:], 2):
        if text:
            keys.append(_key(text, f"{path} line {number}"))
    return keys, whole


def _check_is_torn_header(path: Path, tail: bytes) -> None:
    if not HEADER.encode().startswith(tail):
        raise _no_log(path)


def _no_log(path: Path) -> InputError:
    return InputError(
        f"{path} is no log of ratings (line 1 is not {HEADER}); move it away, or name another "
        "table by --scores."
    )


def _is_whole(tail: bytes) -> bool:
    """Whether a last line without its end lacks nothing else: the time is there in full."""
    try:
        _key(tail.decode("utf-8"), "")
    except (InputError, UnicodeDecodeError):
        return False
    return True


def _key(text: str, where: str) -> Key:
    """A line of the log as a key; `InputError` where it is none."""
    try:
        (cells,) = csv.reader([text], strict=True)
        rater, photo, event, score, low, high, time = cells
        if datetime.fromisoformat(time).tzinfo is None:
            raise ValueError("no time zone")
        given = int(score) if score else None
        scale = (int(low), int(high))
        is_answer = event in (RATED, REPEATED)
        if event not in EVENTS or is_answer == (given is None):
            raise ValueError("no event")
        if is_answer and not scale[0] <= given <= scale[1]:
            raise ValueError("no score of the scale")
    except (ValueError, csv.Error) as error:
        raise InputError(
            f"{where} is no rating ({text[:80]!r}); correct the line, or remove it."
        ) from error
    return Key(rater, photo, event, given, scale, time)


def _append(path: Path, key: Key) -> None:
    """Add a key to the log, and wait until it is on the disk. What was torn before is cut off."""
    line = key.line().encode()
    if not path.exists():
        with replacing(path) as partial:
            partial.write_bytes(f"{HEADER}\n".encode() + line)
        return
    _, whole = _read(path)
    with writing(path), path.open("r+b") as file:
        file.truncate(whole)
        file.seek(max(whole - 1, 0))
        if whole == 0:
            line = f"{HEADER}\n".encode() + line
        elif file.read(1) != b"\n":
            line = b"\n" + line
        file.seek(whole)
        file.write(line)
        file.flush()
        to_disk(file.fileno())


def history(keys: Iterable[Key], rater: str) -> list[Key]:
    """What a rater has done and not taken back, in order."""
    done = []
    for key in keys:
        if key.rater != rater:
            continue
        if key.event != BACK:
            done.append(key)
        elif done:
            done.pop()
    return done


def raters_of(keys: Iterable[Key]) -> list[str]:
    """Who has rated, in order of the names."""
    return sorted({key.rater for key in keys})


def first_and_repeat(keys: Sequence[Key]) -> list[tuple[int, int]]:
    """First score and that of the hidden repeat, of every photo that a rater was shown twice."""
    pairs = []
    for rater in raters_of(keys):
        first = {}
        for key in history(keys, rater):
            if key.event == RATED:
                first.setdefault(key.photo, key.score)
            elif key.event == REPEATED and key.photo in first:
                pairs.append((first[key.photo], key.score))
    return pairs


def scores_by_photo(keys: Sequence[Key]) -> dict[str, dict[str, int]]:
    """The score that each rater gave to each photo, by photo and rater, both in order.

    It is the first one. The hidden repeat measures the rater: if it counted, too, one photo in ten
    would be scored in another way than the rest.
    """
    by_photo = {}
    for rater in raters_of(keys):
        for key in history(keys, rater):
            if key.event == RATED:
                by_photo.setdefault(key.photo, {}).setdefault(rater, key.score)
    return dict(sorted(by_photo.items()))


def _drawn(count: int, *words: object) -> int:
    """A number from 0 to `count` - 1 that is the same for the same words on every machine."""
    text = "\n".join(map(str, words)).encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.sha256(text).digest()[:8]) % count


def order(photos: Iterable[str], rater: str, seed: int = 0) -> list[str]:
    """The photos in the order in which a rater sees them.

    Each photo has its place by its name, so those that are added later change nothing of the rest.
    """
    return sorted(photos, key=lambda photo: (_drawn(2**62, seed, rater, photo), photo))


class Queue:
    """What a rater is shown next, by what she has done before (`done`) and nothing else."""

    def __init__(
        self, photos: Sequence[str], done: Sequence[Key], rater: str, seed: int
    ):
        self.photos = photos
        self.drawn_by = (seed, rater)
        self.first = {}
        """Position among the answers, by photo, of its first score."""
        self.repeated = set()
        self.skipped = {}
        """How often a photo was skipped before it had a score."""
        self.answers = 0
        for key in done:
            self._add(key)

    def _add(self, key: Key) -> None:
        if key.event == SKIPPED and key.photo in self.first:
            self.repeated.add(key.photo)  # it does not come back
        elif key.event == SKIPPED:
            self.skipped[key.photo] = self.skipped.get(key.photo, 0) + 1
        else:
            if key.event == RATED:
                self.first.setdefault(key.photo, self.answers)
            else:
                self.repeated.add(key.photo)
            self.answers += 1

    def next(self) -> Shown | None:
        """The photo to show: a repeat that is due, or a new one, or one that was skipped once."""
        waiting = self._waiting_repeats()
        due = [photo for photo, gap in waiting if self._since(photo) >= gap]
        if due:
            return Shown(due[0], is_repeat=True)
        for times in (0, 1):
            for photo in self.photos:
                is_new = photo not in self.first
                if is_new and self.skipped.get(photo, 0) == times:
                    return Shown(photo, is_repeat=False)
        last = [photo for photo, _ in waiting if self._since(photo) >= LEAST_GAP]
        return Shown(last[0], is_repeat=True) if last else None

    def _waiting_repeats(self) -> list[tuple[str, int]]:
        """Photos that are to come back and have not, and after how many answers they may."""
        there = set(self.photos)
        scored = list(self.first)
        waiting = []
        for begin in range(0, len(scored), BLOCK):
            position = begin + _drawn(BLOCK, *self.drawn_by, "repeat", begin)
            if position >= len(scored):
                continue
            photo = scored[position]
            if photo in there and photo not in self.repeated:
                least, most = GAP
                wide = _drawn(most - least + 1, *self.drawn_by, "gap", begin)
                waiting.append((photo, least + wide))
        return waiting

    def _since(self, photo: str) -> int:
        """How many answers were given since a photo's first score."""
        return self.answers - 1 - self.first[photo]

    def expected(self) -> int:
        """About how many answers there will be in all, repeats among them."""
        left_out = sum(times > 1 for times in self.skipped.values())
        photos = len({*self.photos, *self.first}) - left_out
        return max(self.answers, photos + photos // BLOCK)


class Ratings:
    """What one rater does with a folder's photos, and what is on the disk of it.

    `photos` are their names within the folder. Nothing is written before the first key. Raises
    `InputError` where the log is damaged, or is of another scale or of other photos, and where the
    table of scores is not what the log says: it would be lost.
    """

    def __init__(
        self,
        photos: Sequence[str],
        scores: Path,
        *,
        rater: str | None = None,
        scale: tuple[int, int] | None = None,
        seed: int = 0,
    ):
        self.scores = Path(scores)
        self.log = log_of(self.scores)
        self.seed = seed
        _check_name(self.scores)
        self.keys = read_log(self.log)
        self.scale = _scale_of(self.keys, scale, self.log)
        keys_of_scale(self.scale)
        self.rater = _rater_of(self.keys, rater, self.log)
        self.photos = order(photos, self.rater, seed)
        self._check_photos()
        self._check_table()
        self._size = self._log_size()

    @property
    def step(self) -> int:
        """How often this rater has pressed a key: it tells one moment from every other."""
        return sum(key.rater == self.rater for key in self.keys)

    @property
    def done(self) -> list[Key]:
        """What this rater has done and not taken back."""
        return history(self.keys, self.rater)

    @property
    def queue(self) -> Queue:
        return Queue(self.photos, self.done, self.rater, self.seed)

    @property
    def current(self) -> Shown | None:
        """The photo that is to be scored now; None where all are."""
        return self.queue.next()

    def following(self) -> Shown | None:
        """The photo after the current one, if that gets a score."""
        shown = self.current
        if shown is None:
            return None
        answered = self._key(shown.photo, self._answer(shown), self.scale[0])
        done = [*self.done, answered]
        return Queue(self.photos, done, self.rater, self.seed).next()

    def counts(self) -> dict[int, int]:
        """How often this rater has given each score, repeats among them: a count that did not move
        would tell her that the photo was one."""
        low, high = self.scale
        given = [key.score for key in self.done if key.score is not None]
        return {score: given.count(score) for score in range(low, high + 1)}

    def rate(self, photo: str, step: int, score: int) -> bool:
        """Give the current photo a score; False where the photo or the step is no more current."""
        low, high = self.scale
        if not low <= score <= high:
            raise InputError(f"{score} is no score from {low} to {high}; give one.")
        return self._act(photo, step, RATED, score)

    def skip(self, photo: str, step: int) -> bool:
        """Put the current photo to the end, and out of the queue the second time; False as above.

        A repeat that is skipped does not come back.
        """
        return self._act(photo, step, SKIPPED)

    def back(self, photo: str, step: int) -> bool:
        """Take the last key back; False as above, and where there is none.

        `photo` is the current one, empty where all are scored.
        """
        return self._act(photo, step, BACK)

    def leave_out(self, photo: str) -> None:
        """Show a photo no more, such as one that cannot be read."""
        self.photos = [name for name in self.photos if name != photo]

    def _act(self, photo: str, step: int, event: str, score: int | None = None) -> bool:
        with self._alone():
            self._read_again()
            shown = self.current
            is_current = photo == (shown.photo if shown else "")
            if not is_current or step != self.step:
                return False
            if event == BACK:
                if not self.done:
                    return False
                photo = self.done[-1].photo
            elif shown is None:
                return False
            elif event == RATED:
                event = self._answer(shown)
            key = self._key(photo, event, score)
            _append(self.log, key)
            self.keys.append(key)
            self._size = self._log_size()
        return True

    def write_tables(self) -> None:
        """Bring the tables that follow from the log to the disk, each whole."""
        with self._alone():
            self._read_again()
            for path, text in tables_of(self.keys, self.scores).items():
                with replacing(path) as partial:
                    partial.write_text(text, encoding="utf-8", newline="")

    def _alone(self) -> AbstractContextManager[None]:
        """Other pages and raters wait meanwhile."""
        return locked(self.log.with_name(f".{self.log.name}.lock"), wait=True)

    def _read_again(self) -> None:
        """Where another page or another rater has written meanwhile."""
        if self._log_size() != self._size:
            self.keys = read_log(self.log)
            self._size = self._log_size()

    def _log_size(self) -> int:
        return self.log.stat().st_size if self.log.exists() else -1

    def _answer(self, shown: Shown) -> str:
        return REPEATED if shown.is_repeat else RATED

    def _key(self, photo: str, event: str, score: int | None) -> Key:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        return Key(self.rater, photo, event, score, self.scale, now)

    def _check_photos(self) -> None:
        """`InputError` where the log is of other photos."""
        rated = {key.photo for key in self.keys}
        if rated and not rated & set(self.photos):
            raise InputError(
                f"{self.log} names no photo of this folder (its first is {min(rated)}); name "
                "another table by --scores, or the folder that was rated."
            )

    def _check_table(self) -> None:
        """`InputError` where the table of scores says more than the log."""
        if not self.scores.exists():
            return
        if not self.keys:
            raise InputError(
                f"{self.scores} is a table that rsrl rate has not written (there is no "
                f"{self.log.name} beside it); name a new one by --scores, such as "
                f"{self.scores.with_name('my_scores.csv')}."
            )
        with reading(self.scores, "table of scores", "move it away"):
            found = self.scores.read_text(encoding="utf-8-sig")
        for behind in range(min(BEHIND, len(self.keys)) + 1):
            keys = self.keys[: len(self.keys) - behind]
            if found == tables_of(keys, self.scores)[self.scores]:
                return
        raise InputError(
            f"{self.scores} was changed since rsrl rate wrote it, and would be written anew "
            f"from {self.log.name}; move it away, or name another table by --scores."
        )


def tables_of(keys: Sequence[Key], scores: Path) -> dict[Path, str]:
    """Text of the tables that follow from a log, by path.

    The scores: `photo` and `score`; where several have rated also `mean_score`, of which `score` is
    the nearest whole number, a half going up, and the votes, with a row for each rater's score.
    """
    by_photo = scores_by_photo(keys)
    several = len({rater for of_raters in by_photo.values() for rater in of_raters}) > 1
    rows = []
    votes = []
    for photo, of_raters in by_photo.items():
        given = list(of_raters.values())
        mean = sum(given) / len(given)
        row = [photo, int(round_half_up(mean))]
        if several:
            row.append(f"{mean:.6g}")
        rows.append(row)
        votes += [[photo, score] for score in given]
    headers = ["photo", "score", "mean_score"] if several else ["photo", "score"]
    tables = {scores: _as_csv([headers, *rows])}
    if several:
        tables[votes_of(scores)] = _as_csv([["photo", "score"], *votes])
    return tables


def _as_csv(rows: list[list]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _check_name(scores: Path) -> None:
    if scores.suffix.lower() != ".csv":
        raise InputError(
            f"--scores {scores} is no name of a CSV; give one, such as "
            f"{scores.with_name('scores.csv')}."
        )
    if scores.is_dir():
        raise InputError(
            f"--scores {scores} is a folder; give a file in it, such as "
            f"{scores / 'scores.csv'}."
        )


def _scale_of(
    keys: Sequence[Key], given: tuple[int, int] | None, log: Path
) -> tuple[int, int]:
    """The scale of a log, or else the one that is given; `InputError` where they differ."""
    used = keys[0].scale if keys else given or SCALE
    different = [key.scale for key in keys if key.scale != used]
    if given is not None and given != used:
        different.append(given)
    if different:
        (low, high), (other_low, other_high) = used, different[0]
        raise InputError(
            f"{log} has scores from {low} to {high}, which cannot be told from scores from "
            f"{other_low} to {other_high} in one table; go on with --scale {low} {high}, or name "
            "another table by --scores."
        )
    return used


def _rater_of(keys: Sequence[Key], given: str | None, log: Path) -> str:
    """Who rates: who is named, or the only one before; `InputError` where there were several."""
    if given is not None:
        name = given.strip()
        if not name or any(ord(letter) < 32 for letter in name):
            raise InputError(f"--rater {given!r} is no name; give one, such as anna.")
        return name
    before = raters_of(keys)
    if len(before) > 1:
        raise InputError(
            f"{log} has the ratings of {', '.join(before)}; say by --rater who rates now."
        )
    return before[0] if before else SOMEBODY


def is_nameable(photo: str) -> bool:
    """Whether a photo's name can stand in a table: in one line, without blanks around it."""
    return photo == photo.strip() and not any(end in photo for end in "\r\n")
