"""Scored photos: one validated table for every source.

Traded away: tables larger than memory.
"""

import io
import os
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy.io import loadmat
from tqdm.auto import tqdm

from rsrl_lib.files import ROOT, File, InputError, needing, reading, replacing, size_of
from rsrl_lib.pictures import files_below, open_rgb, read_unscored
from rsrl_lib.texts import read_text

# OASIS themes of nudity, injury, death, violence or excrement; the single photos show the same.
DISTURBING = (
    r"(Animal carcass|BDSM|Bloody|Dead|Dummy|Feces|Injury|KKK|Neonazi|Nude|Severed|Shot|"
    r"Surgery|Torture|Tumor|War|Dog (24|26|31|attack 3)|Lion 5|Miserable pose 3|Scary face 1)\b"
)
GITHUB = "https://raw.githubusercontent.com"
COLUMN_OPTIONS = {
    "photo": "--photo-column",
    "score": "--score-column",
    "mean_score": "--mean-column",
}
NOTHING = pd.DataFrame(columns=["photo", "reason"], dtype="str")
NAMES = ("photo", "path", "reason", "digest", "cell", "dataset", "labels", "arm")
NAMES += ("fingerprint", "scores_fingerprint")


@dataclass(frozen=True, eq=False)
class ScoredPhotos:
    """Photos with their scores, one row each of `table`: `photo` (unique name), `path`, `score`
    (integer class), `mean_score` (real) and, where known, `mask` (path of the subject mask).
    `votes` (counts; vote values across) and `attributes` (real; names across) go with its rows.
    `strict`: a photo that turns out broken at decoding is an error, otherwise it is left out.
    `rounding` says in a sentence how many scores were rounded, where any was.
    """

    table: pd.DataFrame
    strict: bool = True
    votes: pd.DataFrame | None = None
    attributes: pd.DataFrame | None = None
    left_out: pd.DataFrame = field(default_factory=NOTHING.copy)
    rounding: str = ""

    def __len__(self) -> int:
        return len(self.table)

    def select(self, rows: Sequence[int] | np.ndarray | pd.Series) -> "ScoredPhotos":
        """Some photos, by boolean mask or integer positions; votes and attributes follow."""
        rows = np.asarray(rows) if len(rows) else np.array([], int)
        parts = {name: getattr(self, name) for name in ("votes", "attributes")}
        parts = {
            name: part.iloc[rows] for name, part in parts.items() if part is not None
        }
        return replace(
            self, table=self.table.iloc[rows].reset_index(drop=True), **parts
        )

    def without(self, left_out: pd.DataFrame) -> "ScoredPhotos":
        """All but the photos of `left_out` (photo, reason); `InputError` below two scores."""
        kept = self.select(~self.table["photo"].isin(left_out["photo"]).to_numpy())
        if (scores := kept.table["score"].unique()).size < 2:
            such = f" such as {list(kept.table['path'][:1])}" if len(kept) else ""
            found = f"{scores if len(kept) else 'none'} in {len(kept)} photos{such}"
            raise InputError(
                f"Two scores or more are needed, found is {found}; add others."
            )
        return replace(
            kept, left_out=pd.concat([self.left_out, left_out], ignore_index=True)
        )


def round_half_up(mean: float | Sequence[float] | np.ndarray | pd.Series) -> np.ndarray:
    """Class of a mean score: the nearest integer, halves (up to 1e-9 of arithmetic) going up."""
    return np.floor(np.asarray(mean, float) + (0.5 + 1e-9)).astype(np.int64)


def read_ours(path: File) -> pd.DataFrame:
    """A CSV that this library wrote: `NAMES` as they were given, since a photo or an arm may be
    called `NA`, `None`, `007` or `1e5`; elsewhere a number is missing where nothing stands."""
    names = dict.fromkeys(NAMES, str)
    return pd.read_csv(path, dtype=names, keep_default_na=False, na_values=[""])


def _rounding(given: np.ndarray) -> str:
    """How many given scores (n,) are not whole and were rounded; empty where all are whole."""
    uneven, halves = (given % 1 != 0).sum(), (given % 1 == 0.5).sum()
    if not uneven:
        return ""
    said = f"{uneven} of {len(given)} scores are not whole and were rounded to the nearest score"
    return f"{said}; {halves} of them lie halfway and went up (4.5 counts as 5)."


def _read_table(
    path: Path,
    columns: dict[str, str | int],
    separator: str = "",
    *,
    options: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Columns of a table as strings, index "file line n"; `columns`: name -> header or position.

    `options` are those of the command line that say which header has a name.
    """
    text = read_text(path, "a UTF-8 table")
    try:
        head = re.match(r"[^\r\n]*", text)[0]
        separator = separator or max(",;\t", key=head.count)
        if len(re.split(separator, head, maxsplit=2000)) > 2000:
            raise ValueError("more than 2000 columns")
        how = {
            "dtype": str,
            "keep_default_na": False,
            "skip_blank_lines": False,
            "header": None,
        }
        cells = pd.read_csv(
            io.StringIO(text, newline=None), sep=separator, **how
        ).fillna("")
    except ValueError as error:  # pandas counts rows from 0, but lines from 1
        found = re.sub(
            r"row (\d+)", lambda n: f"line {int(n[1]) + 1}", str(error).strip()
        )
        needed = "a UTF-8 table, every row as long as the first, text with separators in quotes"
        raise InputError(f"{path} cannot be read ({found}); give {needed}.") from error
    lines = np.arange(1, len(cells) + 1)
    if '"' in text:  # quoted fields may hold line ends
        lines[1:] += (
            cells.apply(lambda c: c.str.count("\n"))
            .sum(axis=1)
            .cumsum()
            .to_numpy()[:-1]
        )
    cells.index = f"{path} line " + pd.Index(lines.astype(str))
    if any(isinstance(name, str) for name in columns.values()):
        names, cells = list(cells.iloc[0].str.strip()), cells.iloc[1:]
        _check_names(path, names, columns, options or {})
        columns = dict(zip(names, names, strict=True)) | columns
        columns = {ours: names.index(theirs) for ours, theirs in columns.items()}
    places = {name: cells.get(place, "") for name, place in columns.items()}
    table = pd.DataFrame(places, cells.index)
    table = table.apply(lambda column: column.str.strip())
    return table[(table != "").any(axis=1)]


def _check_names(
    path: Path,
    names: list[str],
    columns: dict[str, str | int],
    options: Mapping[str, str],
) -> None:
    """`InputError` where a header is not there once, with the options that choose another one."""
    wrong = {
        ours: theirs for ours, theirs in columns.items() if names.count(theirs) != 1
    }
    if not wrong:
        return
    needed = " and ".join(f"one column {theirs!r}" for theirs in wrong.values())
    counts = " and ".join(str(names.count(theirs)) for theirs in wrong.values())
    found = f"{path} line 1, the columns' names, needs {needed}, has {counts}"
    chosen_by = " and ".join(
        dict.fromkeys(options[ours] for ours in wrong if ours in options)
    )
    if not chosen_by:
        raise InputError(f"{found}; correct it: there are {', '.join(names)}.")
    raise InputError(
        f"{found}; correct it or choose among {', '.join(names)} by {chosen_by}."
    )


def _numbers(
    table: pd.DataFrame, column: str, kind: str = "finite", least=-1e15, most=1e15
):
    values = pd.to_numeric(table[column], errors="coerce").to_numpy(float)
    bad = ~((least <= values) & (values <= most))  # NaN too
    bad |= (kind == "whole") & (np.floor(values) != values)
    if bad.any():
        value = table[column][bad].iloc[0]
        found = f"{table.index[bad][0]}: {column} '{value}' is not a {kind} number"
        if (least, most) != (-1e15, 1e15):
            found += f" in {least:g}..{most:g}"
        such = "4.5, with a point" if re.fullmatch(r"-?\d+,\d+", str(value)) else "4"
        raise InputError(f"{found}; write a number such as {such}.")
    return values.astype(np.int64) if kind == "whole" else values


def _unaliased(table: pd.DataFrame) -> None:
    """`InputError` where two rows of different names are one photo: `a.jpg` and `./a.jpg`, a link
    and what it points at, or two spellings that the drive takes for one. Copies and hard links are
    photos of their own (`protocols.split` keeps them together).
    """
    folder = cache(
        os.path.realpath
    )  # photos lie in few folders, and resolving asks the disk
    places = pd.Series([_place(path, folder) for path in table["path"]])
    folded = places.map(lambda place: unicodedata.normalize("NFC", place).casefold())
    for _, alike in places[folded.duplicated(keep=False)].groupby(folded, sort=False):
        twice = alike[alike.duplicated(keep=False)]
        one = twice[twice == twice.iloc[0]] if len(twice) else alike
        if len(twice) or _are_one_file([Path(place) for place in alike]):
            first, second = one.index[:2]
            found = (
                f"{table.index[first]} and {table.index[second]} score the same photo"
            )
            names = f"{table['photo'].iloc[first]} and {table['photo'].iloc[second]}"
            raise InputError(f"{found} ({names}); keep one of them.")


def _place(path: str, folder: Callable[[str], str]) -> str:
    """Where a file lies, without links; `folder` resolves the one that it is in."""
    try:
        head, name = os.path.split(path)
        place = f"{folder(head)}{os.sep}{name}"
        # A `Path` takes three times as long, which counts for a quarter of a million photos.
        return os.path.realpath(place) if os.path.islink(place) else place  # noqa: PTH114
    except ValueError:  # no name that a file can have
        return path


def _are_one_file(spellings: list[Path]) -> bool:
    """Whether paths that differ in case or composed letters are one file that has but one name."""
    first = spellings[0]
    try:
        if not all(first.samefile(other) for other in spellings[1:]):
            return False
        listed = {path.name for path in first.parent.iterdir()}
        return (
            not {path.name for path in spellings} <= listed
        )  # else these are hard links
    except OSError:
        return False


def _scored(
    table: pd.DataFrame, strict: bool, *, rounding: str = "", **known
) -> ScoredPhotos:
    """Check a table of photo, path and mean_score (or known votes), and complete it."""
    if (again := table.duplicated("photo", keep=False)).any():
        first, second = table.index[table["photo"] == table["photo"][again].iloc[0]][:2]
        raise InputError(
            f"{first} and {second} score the same photo; keep one of them."
        )
    _unaliased(table)
    known = {
        name: part.reindex(table["photo"], fill_value=0) for name, part in known.items()
    }
    if "mean_score" not in table:
        mean = known["votes"] @ known["votes"].columns / known["votes"].sum(axis=1)
        table = table.assign(mean_score=mean.to_numpy())
    table = table.assign(mean_score=_numbers(table, "mean_score"))
    if "score" not in table:
        table["score"] = round_half_up(table["mean_score"])
        rounding = _rounding(table["mean_score"].to_numpy())
    size = np.array([size_of(path) for path in table["path"]])
    reasons = (
        np.where(size < 0, "no such file: ", "0 bytes in ").astype(object)
        + table["path"]
    )
    absent = table[["photo"]].assign(reason=reasons)[size <= 0]
    if len(absent) and (strict or len(absent) == len(table)):
        row = absent.index[0]
        found = f"{row}: {_missing(Path(table['path'][row])) or reasons[row]}"
        found += f"; {len(absent)} of {len(table)} photos are missing"
        remedy = "add them or correct the folder"
        if len(absent) < len(table):
            remedy += ", or leave them out (--skip-broken; a public set: no --strict)"
        raise InputError(f"{found}: {remedy}.")
    columns = [
        "photo",
        "path",
        "score",
        "mean_score",
        *table.columns.intersection(["mask"]),
    ]
    scored = ScoredPhotos(table[columns], strict, **known, rounding=rounding)
    return scored.without(absent)


def _missing(path: Path) -> str:
    """Why there is no such photo, where its folder tells: none, or a name that nearly is it."""
    folder = path.parent
    try:
        if folder.is_file():
            return f"{folder} is a file, a folder of photos is needed"
        if not folder.is_dir():
            return f"there is no folder {folder}"
        beside = sorted(folder.iterdir())
    except OSError:  # a name that cannot be, a folder that cannot be listed
        return ""
    for there in beside:
        is_near = path.stem.lower() in (there.stem.lower(), there.name.lower())
        if is_near and there.is_file() and there.name != path.name:
            return f"no such file: {path} (there is {there.name}: write it as it stands there)"
    return ""


def read_folder(
    folder: File,
    scores: File,
    *,
    photo_column: str = "photo",
    score_column: str = "score",
    mean_column: str | None = None,
    votes: File | None = None,
    attribute_columns: Sequence[str] = (),
    strict: bool = True,
) -> ScoredPhotos:
    """Own photos: a folder and a CSV of file names and scores, which are rounded half up.

    `mean_score` is `mean_column`, else the mean of `votes` (CSV: photo, score; a row per vote),
    else, and where any score has a fraction, the score. A column `mask` names files beside the CSV.
    Bad input raises `InputError`.
    """
    columns = {"photo": photo_column, "score": score_column, "mean_score": mean_column}
    columns = {name: header for name, header in columns.items() if header}
    cells = _read_table(Path(scores), columns, options=COLUMN_OPTIONS)
    given, known = _numbers(cells, "score"), {}
    table = cells[["photo"]].assign(score=round_half_up(given))
    table["path"] = [str(Path(folder, photo)) for photo in cells["photo"]]
    if "mask" in cells:
        table["mask"] = [
            str(Path(scores).parent / m) if m else None for m in cells["mask"]
        ]
    if mean_column or not votes or (given % 1).any():
        table["mean_score"] = _numbers(cells, "mean_score") if mean_column else given
    if votes:
        cast = _read_table(Path(votes), {"photo": "photo", "score": "score"})
        # A wider range is a wrong column, and a table larger than the memory.
        known["votes"] = pd.crosstab(
            cast["photo"], _numbers(cast, "score", "whole", -100, 100)
        )
        if not known["votes"].index.isin(cells["photo"]).any():
            raise InputError(
                f"{votes} names no photo of {scores}; write the names as there."
            )
    if attribute_columns:  # read by themselves: one may bear a name that is used above
        columns = {name: name for name in attribute_columns} | {"photo": photo_column}
        options = dict.fromkeys(attribute_columns, "--attributes")
        cells = _read_table(Path(scores), columns, options=options)
        known["attributes"] = _attributes(cells, attribute_columns)
    return _scored(table, strict, rounding=_rounding(given), **known)


def _attributes(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Numbers; of a column of words a 0/1 attribute `column=word` each, unknown where blank."""
    known = {}
    for name in columns:
        words = table[name]
        if pd.to_numeric(words, errors="coerce").notna().any():
            known[name] = _numbers(table, name)
            continue
        if words.nunique() > 200:
            found = f"{table.index[0]}: {name} has {words.nunique()} different words"
            raise InputError(
                f"{found}, an attribute may have 200; name another column."
            )
        for word in sorted({*words} - {""}):
            known[f"{name}={word}"] = np.where(words == "", np.nan, words == word)
    return pd.DataFrame(known, table["photo"])


def ava_votes(path: File) -> pd.DataFrame:
    """Votes of `AVA.txt` without its photos: index `<id>.jpg`, columns 1..10, counts."""
    columns = {"photo": 1} | {f"votes of {vote}": vote + 1 for vote in range(1, 11)}
    table = _read_table(Path(path), columns, r"\s+")
    counts = {
        v: _numbers(table, f"votes of {v}", "whole", 0, 1e9) for v in range(1, 11)
    }
    return pd.DataFrame(counts).set_index(table["photo"] + ".jpg")


def read_ava(folder: File, *, strict: bool = False) -> ScoredPhotos:
    """AVA: `AVA.txt` (about 200 votes a photo on 1..10), `images/<id>.jpg`, and `tags.txt` for the
    names of the attributes `tag=<name, else number>`, unknown of a photo without tags."""
    votes = ava_votes(Path(folder, "AVA.txt"))
    columns = {
        "photo": 1,
        "tag 1": 12,
        "tag 2": 13,
    }  # with photos, so that rows are the same
    given = _read_table(Path(folder, "AVA.txt"), columns, r"\s+")
    given = np.stack([_numbers(given, f"tag {n}", "whole", 0, 999) for n in (1, 2)], 1)
    tags = np.zeros((len(given), given.max(initial=66) + 1), np.float32)
    tags[np.arange(len(given))[:, None], given] = 1
    tags[~given.any(axis=1)] = np.nan
    listed = Path(folder, "tags.txt")
    listed = listed.read_text("utf-8", "replace") if size_of(listed) > 0 else ""
    names = dict(re.findall(r"(?m)^(\d+) +(.*\S)", listed))
    names = ["tag=" + names.get(str(tag), str(tag)) for tag in range(tags.shape[1])]
    tags = pd.DataFrame(tags, votes.index, names).iloc[:, 1:]
    table = pd.DataFrame(
        {"photo": votes.index, "path": f"{folder}/images/" + votes.index}
    )
    table.index = f"{folder}/AVA.txt line " + (table.index + 1).astype(str)
    return _scored(table, strict, votes=votes, attributes=tags)


def _below(folder: File, table: pd.DataFrame) -> pd.DataFrame:
    there = {Path(path).name: path for path in read_unscored(folder)["path"]}
    return table.assign(path=[there.get(p, f"{folder}/{p}") for p in table["photo"]])


def read_eva(folder: File, *, strict: bool = False) -> ScoredPhotos:
    """EVA: `data/votes_filtered.csv` (votes 0..10) and, anywhere below, `<image_id>.jpg`."""
    wanted = {"photo": "image_id", "score": "score"}
    table = _read_table(Path(folder, "data/votes_filtered.csv"), wanted, "=")
    table["photo"] += ".jpg"
    votes = pd.crosstab(table["photo"], _numbers(table, "score", "whole", -100, 100))
    grades = table.reindex(columns=["visual", "composition", "quality", "semantic"])
    grades = grades.apply(pd.to_numeric, errors="coerce").astype(float)
    grades = grades.groupby(table["photo"]).mean()
    table = _below(folder, table[["photo"]].drop_duplicates())
    return _scored(table, strict, votes=votes, attributes=grades)


def read_aadb(folder: File, *, strict: bool = False) -> ScoredPhotos:
    """AADB: score lists (mean m of five raters in 0..1, here 1 + 4m), attribute lists (-1..1)
    beside them where there are any, and photos, anywhere below."""
    lists = sorted(
        name for name in files_below(folder)[0] if name.endswith("Regression_score.txt")
    )
    lists = [Path(folder, name) for name in lists or ["*_score.txt"]]
    table = pd.concat(
        [_read_table(path, {"photo": 0, "score": 1}, r"\s+") for path in lists]
    )
    table["mean_score"] = 1 + 4 * _numbers(table, "score")
    graded, known = [], {}
    for path in (
        p for s in lists for p in s.parent.glob(s.name.replace("_score", "_[A-Z]*"))
    ):
        name = path.stem.split("_")[-1].replace(
            "Balacing", "Balancing"
        )  # misspelt as published
        graded.append(
            _read_table(path, {"photo": 0, "mean": 1}, r"\s+").assign(name=name)
        )
    if graded:
        means = pd.concat(graded).assign(mean=lambda grades: _numbers(grades, "mean"))
        means = means.pivot_table("mean", "photo", "name")
        known["attributes"] = means.reindex(table["photo"].unique())
    return _scored(_below(folder, table.drop(columns="score")), strict, **known)


def read_para(folder: File, *, strict: bool = False) -> ScoredPhotos:
    """PARA: `annotation/PARA-Giaa*.csv` (means on 1..5) and `imgs/<session>/<image>`."""
    files = [
        Path(folder, "annotation", f"PARA-Giaa{part}.csv") for part in ("Train", "Test")
    ]
    columns = {
        "photo": "imageName",
        "session": "sessionId",
        "mean_score": "aestheticScore_mean",
    }
    table = pd.concat([_read_table(file, columns) for file in files])
    table["photo"] = table["session"] + "/" + table["photo"]
    table["path"] = f"{folder}/imgs/" + table["photo"]
    means = table.filter(regex=r"_mean$").apply(pd.to_numeric, errors="coerce")
    means = means.set_index(table["photo"])
    return _scored(table[["photo", "path", "mean_score"]], strict, attributes=means)


def read_oasis(
    folder: File, *, strict: bool = False, disturbing: bool = False
) -> ScoredPhotos:
    """OASIS: `OASIS.csv`, `images/<Theme>.jpg`, `corrData.mat` (beauty votes 1..7 of Brielmann &
    Pelli 2019); photos whose theme is `DISTURBING` only if asked for."""
    columns = {"item": "", "photo": "Theme", "category": "Category"}
    table = _read_table(Path(folder, "OASIS.csv"), columns)
    given = f"{folder}/corrData.mat, the beauty votes that OASIS.csv lacks,"
    with reading(given, "matrix for it", "fetch it from aenneb/OASIS-beauty"):
        columns = table["item"].str.extract(r"^I([1-9]\d*)$")[0].astype(int) - 1
        beauty = loadmat(Path(folder, "corrData.mat"))["corrData"][
            :, columns
        ]  # (raters, photos)
        votes = {v: pd.Series((beauty == v).sum(0)) for v in range(1, 8)}
    hidden = table["photo"].str.match(DISTURBING) & (not disturbing)
    table["photo"] += ".jpg"
    table["path"] = f"{folder}/images/" + table["photo"]
    votes = pd.DataFrame(votes).set_index(table["photo"])
    known = {"votes": votes, "attributes": _attributes(table, ["category"])}
    known = {name: part[~hidden.to_numpy()] for name, part in known.items()}
    left_out = table[["photo"]][hidden].assign(
        reason="disturbing; left out unless asked for"
    )
    shown = table.loc[~hidden, ["photo", "path"]]
    return _scored(shown, strict, **known).without(left_out)


def fetch_oasis(
    out: File,
    *,
    server: str = GITHUB,
    registry: File = ROOT / "data" / "oasis_registry.csv",
) -> Path:
    """Download 526 photos of OASIS and their beauty votes; returns `photos.csv`, written last.

    The originals are kept in `out`/originals, each checked by its SHA-256, so that a download that
    broke off goes on with what is missing. Made of them are `photos/` (256 px on the shorter side),
    `photos.csv` (photo, theme, category, source, mean_score, score_sd, votes, score, valence) and
    `votes.csv` (rater, photo, score): animals, objects and scenes, without disturbing photos and
    people. Raises `InputError` where a file cannot be had as it should be.
    """
    with needing("Fetching", "fetch"):
        import pooch
    listed, out = pd.read_csv(registry, dtype=str, keep_default_na=False), Path(out)
    known = ("sha256:" + listed.set_index("path").sha256).to_dict()
    pooch.get_logger().setLevel("ERROR")
    store = pooch.create(
        out / "originals", f"{server}/", registry=known, retry_if_failed=3
    )
    downloader = pooch.HTTPDownloader(progressbar=False, timeout=60)
    for done, path in enumerate(
        tqdm(listed.path, "fetching", unit="file", mininterval=2)
    ):
        try:
            store.fetch(path, downloader=downloader)
        except (
            Exception
        ) as error:  # what a server, a proxy or a disk can do is not one kind
            raise InputError(
                f"{server}/{path} could not be fetched as it should be ({error}); {done} of "
                f"{len(listed)} files are there: go online and give the same command again."
            ) from error
    pictures, (table, matrix) = (
        listed[listed.photo != ""],
        listed.path[listed.photo == ""],
    )
    (out / "photos").mkdir(exist_ok=True)
    for path, photo in zip(pictures.path, pictures.photo, strict=True):
        picture = open_rgb(store.path / path)
        scale = 256 / min(picture.size)
        size = [round(side * scale) for side in picture.size]
        picture.resize(size, Image.Resampling.LANCZOS).save(
            out / "photos" / photo, quality=90
        )
    columns = {"item": "", "theme": "Theme", "category": "Category", "source": "Source"}
    columns["valence"] = "Valence_mean"
    facts = _read_table(store.path / table, columns).set_index("theme")
    facts = facts.loc[[Path(path).stem for path in pictures.path]].reset_index()
    cast = loadmat(store.path / matrix)["corrData"]  # (raters, photos)
    cast = cast[:, facts["item"].str.removeprefix("I").astype(int) - 1]
    facts["photo"], facts["votes"] = pictures.photo.to_numpy(), np.isfinite(cast).sum(0)
    facts["mean_score"], facts["score_sd"] = (
        np.nanmean(cast, 0),
        np.nanstd(cast, 0, ddof=1),
    )
    facts["score"] = round_half_up(facts["mean_score"])
    at, rater = np.nonzero(np.isfinite(cast.T))
    votes = {
        "rater": rater,
        "photo": facts["photo"].to_numpy()[at],
        "score": cast.T[at, rater],
    }
    pd.DataFrame(votes).astype({"score": int}).to_csv(out / "votes.csv", index=False)
    names = [
        "photo",
        "theme",
        "category",
        "source",
        "mean_score",
        "score_sd",
        "votes",
        "score",
    ]
    facts = facts[[*names, "valence"]]
    with replacing(out / "photos.csv") as partial:
        facts.to_csv(partial, index=False, float_format="%.4f")
    return out / "photos.csv"


READERS = {
    "folder": read_folder,
    "ava": read_ava,
    "eva": read_eva,
    "aadb": read_aadb,
    "para": read_para,
    "oasis": read_oasis,
}


def read_photos(
    source: str, folder: File, scores: File | None = None, **columns
) -> ScoredPhotos:
    """Scored photos of a source by name; `columns` are options of its reader, None its default."""
    if source not in READERS or (source == "folder" and scores is None):
        known = ", ".join(map(repr, list(READERS)[1:]))
        found = f"{source!r}" if source not in READERS else f"{source!r} without one"
        raise InputError(
            f"Needed is a CSV with 'folder' (--scores), or a public set ({known}) by --source; "
            f"found is {found}."
        )
    columns = {name: value for name, value in columns.items() if value is not None}
    tables = [scores] if source == "folder" else []
    return READERS[source](folder, *tables, **columns)
