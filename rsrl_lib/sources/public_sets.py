"""Public sets of scored photos, each as its authors publish it.

Each reader takes `parts`, a CSV of photo and part (train, validation or test), such as a split that
a document has used.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.io import loadmat

from rsrl_lib.files import File, reading, size_of
from rsrl_lib.photos import ScoredPhotos
from rsrl_lib.reading.pictures import files_below, read_unscored
from rsrl_lib.reading.tables import numbers, read_table
from rsrl_lib.sources.checked import attributes_of, scored_photos

# OASIS themes of nudity, injury, death, violence or excrement; the single photos show the same.
DISTURBING = (
    r"(Animal carcass|BDSM|Bloody|Dead|Dummy|Feces|Injury|KKK|Neonazi|Nude|Severed|Shot|"
    r"Surgery|Torture|Tumor|War|Dog (24|26|31|attack 3)|Lion 5|Miserable pose 3|Scary face 1)\b"
)


def ava_votes(path: File) -> pd.DataFrame:
    """Votes of `AVA.txt` without its photos: index `<id>.jpg`, columns 1..10, counts."""
    columns = {"photo": 1}
    for vote in range(1, 11):
        columns[f"votes of {vote}"] = vote + 1
    table = read_table(Path(path), columns, r"\s+")
    counts = {}
    for vote in range(1, 11):
        counts[vote] = numbers(table, f"votes of {vote}", "whole", 0, 1e9)
    votes = pd.DataFrame(counts)
    photos = table["photo"] + ".jpg"
    return votes.set_index(photos)


def read_ava(
    folder: File, *, strict: bool = False, parts: File | None = None
) -> ScoredPhotos:
    """AVA: `AVA.txt` (about 200 votes a photo on 1..10), `images/<id>.jpg`, and `tags.txt` for the
    names of the attributes `tag=<name, else number>`, unknown of a photo without tags."""
    votes = ava_votes(Path(folder, "AVA.txt"))
    tags = _ava_tags(Path(folder))
    photos = votes.index
    tags.index = photos
    paths = f"{folder}/images/" + photos
    table = pd.DataFrame({"photo": photos, "path": paths})
    lines = (table.index + 1).astype(str)
    table.index = f"{folder}/AVA.txt line " + lines
    return scored_photos(table, strict, parts=parts, votes=votes, attributes=tags)


def _ava_tags(folder: Path) -> pd.DataFrame:
    """0/1 attributes of the two tags that a photo may have; a tag 0 is none."""
    # With photos, so that rows are those of the votes.
    columns = {"photo": 1, "tag 1": 12, "tag 2": 13}
    path = folder / "AVA.txt"
    cells = read_table(path, columns, r"\s+")
    first = numbers(cells, "tag 1", "whole", 0, 999)
    second = numbers(cells, "tag 2", "whole", 0, 999)
    highest_of_first = first.max(initial=0)
    highest_of_second = second.max(initial=0)
    count = 1 + max(66, highest_of_first, highest_of_second)

    photos = np.arange(len(cells))
    has_tag = np.zeros((len(cells), count), np.float32)
    has_tag[photos, first] = 1
    has_tag[photos, second] = 1
    has_none = (first == 0) & (second == 0)
    has_tag[has_none] = np.nan

    names = _ava_tag_names(folder / "tags.txt")
    headers = []
    for tag in range(count):
        name = names.get(str(tag), tag)
        headers.append(f"tag={name}")
    table = pd.DataFrame(has_tag, columns=headers)
    return table.iloc[:, 1:]


def _ava_tag_names(path: Path) -> dict[str, str]:
    """Names by number, as far as there is such a file."""
    if size_of(path) <= 0:
        return {}
    text = path.read_text("utf-8", "replace")
    pairs = re.findall(r"(?m)^(\d+) +(.*\S)", text)
    return dict(pairs)


def read_eva(
    folder: File, *, strict: bool = False, parts: File | None = None
) -> ScoredPhotos:
    """EVA: `data/votes_filtered.csv` (votes 0..10) and, anywhere below, `<image_id>.jpg`."""
    path = Path(folder, "data/votes_filtered.csv")
    cast = read_table(path, {"photo": "image_id", "score": "score"}, "=")
    cast["photo"] += ".jpg"
    photos = cast["photo"]
    scores = numbers(cast, "score", "whole", -100, 100)
    votes = pd.crosstab(photos, scores)

    grades = cast.reindex(columns=["visual", "composition", "quality", "semantic"])
    grades = grades.apply(pd.to_numeric, errors="coerce")
    grades = grades.astype(float)
    means = grades.groupby(photos).mean()

    once = cast[["photo"]].drop_duplicates()
    table = _with_paths(once, folder)
    return scored_photos(table, strict, parts=parts, votes=votes, attributes=means)


def read_aadb(
    folder: File, *, strict: bool = False, parts: File | None = None
) -> ScoredPhotos:
    """AADB: score lists (mean m of five raters in 0..1, here 1 + 4m), attribute lists (-1..1)
    beside them where there are any, and photos, anywhere below."""
    files, _ = files_below(folder)
    names = [name for name in files if name.endswith("Regression_score.txt")]
    if not names:
        names = ["*_score.txt"]  # for the error that says what is not there
    lists = [Path(folder, name) for name in sorted(names)]
    columns = {"photo": 0, "score": 1}
    tables = [read_table(path, columns, r"\s+") for path in lists]
    table = pd.concat(tables)
    raters_mean = numbers(table, "score")
    table["mean_score"] = 1 + 4 * raters_mean
    table = table.drop(columns="score")
    grades = _aadb_means(lists)
    table = _with_paths(table, folder)
    if grades is None:
        return scored_photos(table, strict, parts=parts)
    photos = table["photo"].unique()
    attributes = grades.reindex(photos)
    return scored_photos(table, strict, parts=parts, attributes=attributes)


def _aadb_means(lists: list[Path]) -> pd.DataFrame | None:
    """Mean grades (photos, attributes) of the attribute lists beside the score lists, if any."""
    grades = []
    for scores in lists:
        pattern = scores.name.replace("_score", "_[A-Z]*")
        for path in scores.parent.glob(pattern):
            name = path.stem.split("_")[-1]
            name = name.replace("Balacing", "Balancing")  # misspelt as published
            cells = read_table(path, {"photo": 0, "mean": 1}, r"\s+")
            grades.append(cells.assign(name=name))
    if not grades:
        return None
    table = pd.concat(grades)
    table["mean"] = numbers(table, "mean")
    return table.pivot_table("mean", "photo", "name")


def _with_paths(table: pd.DataFrame, folder: File) -> pd.DataFrame:
    """The table with the path of each photo, which lies anywhere below the folder."""
    photos_below = read_unscored(folder)
    path_of = {Path(path).name: path for path in photos_below["path"]}
    paths = []
    for photo in table["photo"]:
        missing = f"{folder}/{photo}"
        paths.append(path_of.get(photo, missing))
    return table.assign(path=paths)


def read_para(
    folder: File, *, strict: bool = False, parts: File | None = None
) -> ScoredPhotos:
    """PARA: `annotation/PARA-Giaa*.csv` (means on 1..5) and `imgs/<session>/<image>`."""
    annotation = Path(folder, "annotation")
    files = [annotation / "PARA-GiaaTrain.csv", annotation / "PARA-GiaaTest.csv"]
    columns = {
        "photo": "imageName",
        "session": "sessionId",
        "mean_score": "aestheticScore_mean",
    }
    tables = [read_table(file, columns) for file in files]
    table = pd.concat(tables)
    table["photo"] = table["session"] + "/" + table["photo"]
    table["path"] = f"{folder}/imgs/" + table["photo"]
    cells = table.filter(regex=r"_mean$")
    means = cells.apply(pd.to_numeric, errors="coerce")
    means = means.set_index(table["photo"])
    table = table[["photo", "path", "mean_score"]]
    return scored_photos(table, strict, parts=parts, attributes=means)


def read_oasis(
    folder: File,
    *,
    strict: bool = False,
    disturbing: bool = False,
    parts: File | None = None,
) -> ScoredPhotos:
    """OASIS: `OASIS.csv`, `images/<Theme>.jpg`, `corrData.mat` (beauty votes 1..7 of Brielmann &
    Pelli 2019); photos whose theme is `DISTURBING` only if asked for."""
    columns = {"item": "", "photo": "Theme", "category": "Category"}
    table = read_table(Path(folder, "OASIS.csv"), columns)
    votes = _oasis_votes(folder, table["item"])
    is_disturbing = table["photo"].str.match(DISTURBING)
    is_hidden = is_disturbing & (not disturbing)
    table["photo"] += ".jpg"
    photos = table["photo"]
    table["path"] = f"{folder}/images/" + photos
    votes = votes.set_index(photos)
    categories = attributes_of(table, ["category"], photos)

    is_shown = ~is_hidden.to_numpy()
    shown = table.loc[is_shown, ["photo", "path"]]
    scored = scored_photos(
        shown,
        strict,
        parts=parts,
        votes=votes[is_shown],
        attributes=categories[is_shown],
    )
    hidden = table.loc[is_hidden, ["photo"]]
    hidden = hidden.assign(reason="disturbing; left out unless asked for")
    return scored.without(hidden)


def _oasis_votes(folder: File, items: pd.Series) -> pd.DataFrame:
    """Counts of the beauty votes 1..7 of the photos that are called "I1", "I2" and so on."""
    what = f"{folder}/corrData.mat, the beauty votes that OASIS.csv lacks,"
    with reading(what, "matrix for it", "fetch it from aenneb/OASIS-beauty"):
        item_numbers = items.str.extract(r"^I([1-9]\d*)$")[0]
        columns = item_numbers.astype(int) - 1
        matrices = loadmat(Path(folder, "corrData.mat"))
        beauty = matrices["corrData"]
        cast = beauty[:, columns]  # (raters, photos)
        counts = {}
        for vote in range(1, 8):
            times = (cast == vote).sum(0)
            counts[vote] = pd.Series(times)
    return pd.DataFrame(counts)
