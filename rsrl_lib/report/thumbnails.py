"""Photos on a page: small, and only those files that the run has seen."""

import hashlib
import io
from base64 import b64encode
from pathlib import Path

import pandas as pd
import torch
from PIL import Image

from rsrl_lib.activation import activation_maps
from rsrl_lib.files import InputError
from rsrl_lib.highlight import conv1_of, highlights, pair_of_rounds, stacked
from rsrl_lib.pixels import square
from rsrl_lib.plots import activation_picture, highlight_pictures, scores_to_show
from rsrl_lib.reading.pictures import open_rgb
from rsrl_lib.report.answers import digests
from rsrl_lib.report.besides import Found
from rsrl_lib.report.figures import Picture
from rsrl_lib.runs import Run

SIDE = 240
"""Longer side of a thumbnail, in pixels."""
COUNT = 12
"""Photos of a row."""


class Photos:
    """The files of a run's photos, of which only those are opened that did not change since."""

    def __init__(self, run: Run, found: Found):
        self.paths = found.paths
        self.digests = digests(run).to_dict()

    def open(self, photo: str) -> Image.Image | None:
        """A photo, or None where there is none or another one under its name."""
        path = self.paths.get(photo)
        if path is None:
            return None
        try:
            content = Path(path).read_bytes()
            if hashlib.sha256(content).hexdigest() != (self.digests[photo] or None):
                return None
            return open_rgb(path)
        except (InputError, OSError):
            return None

    def thumbnails(self, rows: pd.DataFrame, count: int = COUNT) -> list[Picture]:
        """The first photos of a table (photo, caption) that can be opened."""
        pictures = []
        for row in rows.itertuples():
            if len(pictures) == count:
                break
            image = self.open(row.photo)
            if image is not None:
                image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
                alt = f"{row.photo}: {row.caption}"
                pictures.append(Picture(as_jpeg(image), alt, row.caption))
        return pictures


def as_jpeg(image: Image.Image) -> str:
    """A picture as a data URI."""
    out = io.BytesIO()
    image.convert("RGB").save(out, "JPEG", quality=78, optimize=True)
    return f"data:image/jpeg;base64,{b64encode(out.getvalue()).decode()}"


def examples(run: Run) -> list[str]:
    """A photo of a low, a middle and a high score, of those that are shown, the likeliest each."""
    samples = run.samples
    is_shown = (samples.part == run.shown_part) & (samples["round"] == run.chosen)
    shown = samples[is_shown]
    photos = []
    for score in scores_to_show(shown.label):
        of_score = shown[shown.label == score]
        photos.append(of_score.photo[of_score.own_logit.idxmax()])
    return photos


def highlight_rows(run: Run, photos: Photos) -> list[list[Picture]]:
    """Highlights of the last two rounds in a few photos, a row of pictures each.

    Raises `InputError` where the run has none.
    """
    later, earlier = pair_of_rounds(run)
    pair = stacked(conv1_of(run, later), conv1_of(run, earlier))
    shrink_to = run.view["shrink_to"]
    rows = []
    for photo, told, image, crops in _opened(run, photos):
        highlight = highlights(pair, crops, shrink_to=shrink_to)[0]
        image.thumbnail((SIDE, SIDE))
        named = {
            "photo": told,
            "later map": f"map of round {later}",
            "earlier map": f"map of round {earlier}",
            "difference": "their difference",
            "region": "highlight region",
        }
        shown = highlight_pictures(image, highlight)
        pictures = [
            Picture(as_jpeg(shown[key]), f"{photo}: {words}", words)
            for key, words in named.items()
        ]
        rows.append(pictures)
    return rows


def activation_rows(run: Run, photos: Photos) -> list[list[Picture]]:
    """Activation maps of the chosen network in a few photos, a row of pictures each.

    Raises `InputError` where its head has none.
    """
    network = run.network()
    shrink_to = run.view["shrink_to"]
    rows = []
    for photo, told, image, crops in _opened(run, photos):
        maps = activation_maps(network, crops, shrink_to=shrink_to, top=1)[0]
        image.thumbnail((SIDE, SIDE))
        pictures = [Picture(as_jpeg(image), told, told)]
        shown = {"what raises the score (AesAM)": maps.high}
        for name, values in maps.attributes.items():
            shown[f"likeliest attribute: {name} (AttAM)"] = values
        for words, values in shown.items():
            reach = max(abs(values).max(), 1e-12)
            picture = activation_picture(image, values, reach)
            pictures.append(Picture(as_jpeg(picture), f"{photo}: {words}", words))
        rows.append(pictures)
    return rows


def _opened(
    run: Run, photos: Photos
) -> list[tuple[str, str, Image.Image, torch.Tensor]]:
    """The example photos that can be opened: name, name and score, picture, and what the networks
    see of it."""
    score = run.split.set_index("photo").score
    opened = []
    for photo in examples(run):
        image = photos.open(photo)
        if image is not None:
            crops = torch.from_numpy(square(image, run.side)).permute(2, 0, 1)[None]
            opened.append((photo, f"{photo}, score {score[photo]}", image, crops))
    return opened
