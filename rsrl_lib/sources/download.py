"""The photos of OASIS, downloaded and checked."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy.io import loadmat
from tqdm.auto import tqdm

from rsrl_lib.files import ROOT, File, InputError, needing, replacing
from rsrl_lib.photos import round_half_up
from rsrl_lib.reading.pictures import open_rgb
from rsrl_lib.reading.tables import read_table

GITHUB = "https://raw.githubusercontent.com"
FACTS = {  # and the columns of OASIS.csv that hold them
    "item": "",
    "theme": "Theme",
    "category": "Category",
    "source": "Source",
    "valence": "Valence_mean",
}
COLUMNS = [
    "photo",
    "theme",
    "category",
    "source",
    "mean_score",
    "score_sd",
    "votes",
    "score",
    "valence",
]


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
    out = Path(out)
    originals = out / "originals"
    listed = pd.read_csv(registry, dtype=str, keep_default_na=False)
    _fetch(listed, server, originals)
    is_photo = listed["photo"] != ""
    photos = listed[is_photo]
    table, matrix = listed["path"][~is_photo]
    _make_photos(photos, originals, out / "photos")
    return _make_tables(photos, originals / table, originals / matrix, out)


def _fetch(listed: pd.DataFrame, server: str, originals: Path) -> None:
    """Download what is not there of the `listed` files (path, sha256)."""
    with needing("Fetching", "fetch"):
        import pooch
    pooch.get_logger().setLevel("ERROR")
    checksums = "sha256:" + listed.set_index("path")["sha256"]
    store = pooch.create(
        originals,
        f"{server}/",
        registry=checksums.to_dict(),
        retry_if_failed=3,
    )
    downloader = pooch.HTTPDownloader(progressbar=False, timeout=60)
    paths = tqdm(listed["path"], "fetching", unit="file", mininterval=2)
    for done, path in enumerate(paths):
        try:
            store.fetch(path, downloader=downloader)
        # What a server, a proxy or a disk can do is not one kind of error.
        except Exception as error:
            raise InputError(
                f"{server}/{path} could not be fetched as it should be ({error}); {done} of "
                f"{len(listed)} files are there: go online and give the same command again."
            ) from error


def _make_photos(photos: pd.DataFrame, originals: Path, folder: Path) -> None:
    """Shrink the originals to 256 px on the shorter side."""
    folder.mkdir(exist_ok=True)
    for path, photo in zip(photos["path"], photos["photo"], strict=True):
        picture = open_rgb(originals / path)
        scale = 256 / min(picture.size)
        size = [round(side * scale) for side in picture.size]
        picture = picture.resize(size, Image.Resampling.LANCZOS)
        picture.save(folder / photo, quality=90)


def _make_tables(photos: pd.DataFrame, table: Path, matrix: Path, out: Path) -> Path:
    """`votes.csv`, then `photos.csv`, of the facts and the beauty votes of all OASIS."""
    facts = read_table(table, FACTS).set_index("theme")
    themes = [Path(path).stem for path in photos["path"]]
    facts = facts.loc[themes].reset_index()
    facts["photo"] = photos["photo"].to_numpy()
    items = facts["item"].str.removeprefix("I").astype(int)
    beauty = loadmat(matrix)["corrData"]
    cast = beauty[:, items - 1]  # (raters, photos)
    facts["votes"] = np.isfinite(cast).sum(0)
    facts["mean_score"] = np.nanmean(cast, 0)
    facts["score_sd"] = np.nanstd(cast, 0, ddof=1)
    facts["score"] = round_half_up(facts["mean_score"])
    _votes(cast, facts["photo"]).to_csv(out / "votes.csv", index=False)
    written = out / "photos.csv"
    with replacing(written) as partial:
        facts[COLUMNS].to_csv(partial, index=False, float_format="%.4f")
    return written


def _votes(cast: np.ndarray, photos: pd.Series) -> pd.DataFrame:
    """A row per vote of a matrix (raters, photos), which has NaN where there is none."""
    photo, rater = np.nonzero(np.isfinite(cast.T))
    votes = {
        "rater": rater,
        "photo": photos.to_numpy()[photo],
        "score": cast[rater, photo],
    }
    return pd.DataFrame(votes).astype({"score": int})
