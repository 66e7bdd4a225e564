"""Public sets of scored photos, each as its authors publish it."""

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
    columns = {"photo": 1} | {f"votes of {vote}": vote + 1 for vote in range(1, 11)}
    table = read_table(Path(path), columns, r"\s+")
    counts = {v: numbers(table, f"votes of {v}", "whole", 0, 1e9) for v in range(1, 11)}
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
    given = read_table(Path(folder, "AVA.txt"), columns, r"\s+")
    given = np.stack([numbers(given, f"tag {n}", "whole", 0, 999) for n in (1, 2)], 1)
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
    return scored_photos(table, strict, votes=votes, attributes=tags)


def read_eva(folder: File, *, strict: bool = False) -> ScoredPhotos:
    """EVA: `data/votes_filtered.csv` (votes 0..10) and, anywhere below, `<image_id>.jpg`."""
    wanted = {"photo": "image_id", "score": "score"}
    table = read_table(Path(folder, "data/votes_filtered.csv"), wanted, "=")
    table["photo"] += ".jpg"
    votes = pd.crosstab(table["photo"], numbers(table, "score", "whole", -100, 100))
    grades = table.reindex(columns=["visual", "composition", "quality", "semantic"])
    grades = grades.apply(pd.to_numeric, errors="coerce").astype(float)
    grades = grades.groupby(table["photo"]).mean()
    table = _below(folder, table[["photo"]].drop_duplicates())
    return scored_photos(table, strict, votes=votes, attributes=grades)


def read_aadb(folder: File, *, strict: bool = False) -> ScoredPhotos:
    """AADB: score lists (mean m of five raters in 0..1, here 1 + 4m), attribute lists (-1..1)
    beside them where there are any, and photos, anywhere below."""
    lists = sorted(
        name for name in files_below(folder)[0] if name.endswith("Regression_score.txt")
    )
    lists = [Path(folder, name) for name in lists or ["*_score.txt"]]
    table = pd.concat(
        [read_table(path, {"photo": 0, "score": 1}, r"\s+") for path in lists]
    )
    table["mean_score"] = 1 + 4 * numbers(table, "score")
    graded, known = [], {}
    for path in (
        p for s in lists for p in s.parent.glob(s.name.replace("_score", "_[A-Z]*"))
    ):
        name = path.stem.split("_")[-1].replace(
            "Balacing", "Balancing"
        )  # misspelt as published
        graded.append(
            read_table(path, {"photo": 0, "mean": 1}, r"\s+").assign(name=name)
        )
    if graded:
        means = pd.concat(graded).assign(mean=lambda grades: numbers(grades, "mean"))
        means = means.pivot_table("mean", "photo", "name")
        known["attributes"] = means.reindex(table["photo"].unique())
    return scored_photos(_below(folder, table.drop(columns="score")), strict, **known)


def _below(folder: File, table: pd.DataFrame) -> pd.DataFrame:
    there = {Path(path).name: path for path in read_unscored(folder)["path"]}
    return table.assign(path=[there.get(p, f"{folder}/{p}") for p in table["photo"]])


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
    table = pd.concat([read_table(file, columns) for file in files])
    table["photo"] = table["session"] + "/" + table["photo"]
    table["path"] = f"{folder}/imgs/" + table["photo"]
    means = table.filter(regex=r"_mean$").apply(pd.to_numeric, errors="coerce")
    means = means.set_index(table["photo"])
    return scored_photos(
        table[["photo", "path", "mean_score"]], strict, attributes=means
    )


def read_oasis(
    folder: File, *, strict: bool = False, disturbing: bool = False
) -> ScoredPhotos:
    """OASIS: `OASIS.csv`, `images/<Theme>.jpg`, `corrData.mat` (beauty votes 1..7 of Brielmann &
    Pelli 2019); photos whose theme is `DISTURBING` only if asked for."""
    columns = {"item": "", "photo": "Theme", "category": "Category"}
    table = read_table(Path(folder, "OASIS.csv"), columns)
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
    known = {"votes": votes, "attributes": attributes_of(table, ["category"])}
    known = {name: part[~hidden.to_numpy()] for name, part in known.items()}
    left_out = table[["photo"]][hidden].assign(
        reason="disturbing; left out unless asked for"
    )
    shown = table.loc[~hidden, ["photo", "path"]]
    return scored_photos(shown, strict, **known).without(left_out)
