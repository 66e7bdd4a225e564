"""Every chapter runs on real photos; a file of its own, for two processes to share the chapters."""

import pandas as pd
import pytest

from tests.test_notebooks import CHAPTERS, execute


@pytest.fixture(scope="module")
def real_folder(shared, tmp_path_factory):
    """A table of some of the real photos, and a folder of a few others."""
    folder = tmp_path_factory.mktemp("real")
    table = pd.read_csv(shared / "oasis" / "photos.csv", dtype={"photo": str})
    scored, rest = table.iloc[::6], table.iloc[1::40]
    scored.to_csv(folder / "photos.csv", index=False)
    votes = pd.read_csv(shared / "oasis" / "votes.csv", dtype={"photo": str})
    votes[votes.photo.isin(scored.photo)].to_csv(folder / "votes.csv", index=False)
    (folder / "other").mkdir()
    for photo in rest.photo:
        (folder / "other" / photo).symlink_to((shared / "oasis" / "photos" / photo).resolve())
    return folder


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_runs_on_real_photos(path, places, tmp_path, shared, real_folder):
    given = {
        "photos": str(shared / "oasis" / "photos"),
        "scores": str(real_folder / "photos.csv"),
        "options": {
            "mean_column": "mean_score",
            "votes": str(real_folder / "votes.csv"),
            "attribute_columns": ["category"],
        },
        "other": str(real_folder / "other"),
        "ava": str(shared / "ava" / "AVA.txt"),
        "run": places["run"] + "_real",
        "gap_run": places["gap_run"] + "_real",
    }
    execute(path, places, tmp_path, **given)
