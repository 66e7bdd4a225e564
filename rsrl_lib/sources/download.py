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
    facts = read_table(store.path / table, columns).set_index("theme")
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
