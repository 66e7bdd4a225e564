"""Near-duplicates: photos that look the same although their files differ.

A photo is told by 64 bits, its perceptual hash: which of the 64 slowest waves of the grey picture
are stronger than their median (`phash` of the library ImageHash).

Measured on 526 photos of OASIS: copies saved as JPEG at quality 90, 50 or 20, shrunk to a half or a
third, or a tenth brighter differ in at most 6 bits, most of them in none; of copies three tenths
brighter 96 % do. Two different photos differ in 12 bits or more, and in 32 in the median. So 6 is a
sensible bound. Drawn glass-box photos are alike by construction: among 1500 no two differ in 6 bits
or fewer, some in 8, and with 16 a third of all hang together in one group. Traded away: copies that
are cropped (6 bits find 85 % of those cut by 2 % at each edge, and 17 % at 5 %) or mirrored (none).
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import matplotlib
import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

AT_ONCE = 2**21
"""Pairs of photos that are compared at once, in about 20 MB, or 120 MB where all are alike."""
ROWS = 20
"""Groups that a contact sheet shows."""
COLUMNS = 8
"""Photos of a group that it shows."""
THUMB = 144
"""Side of a photo there, in pixels."""


@dataclass(frozen=True)
class NearDuplicates:
    """Which of some photos (n,) look like another one of them."""

    bits: int
    """In so many of 64 bits, or fewer, two photos differ that are joined."""
    group: np.ndarray
    """(n,) number of each photo's group, from 1 on, the largest first; 0 of a photo alone."""
    distance: np.ndarray
    """(n,) bits in which each photo differs from the one that is nearest to it."""

    @property
    def sizes(self) -> np.ndarray:
        """Photos of each group."""
        return np.bincount(self.group)[1:]


def hashes_of(array: np.ndarray) -> np.ndarray:
    """Perceptual hashes (n,), uint64, of decoded photos (n, side, side, 3)."""
    from imagehash import phash  # PyWavelets, which it loads, takes a while

    def bits_of(row: int) -> np.ndarray:
        photo = Image.fromarray(np.asarray(array[row]))
        return np.packbits(phash(photo).hash)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        each = list(pool.map(bits_of, range(len(array))))
    return np.array(each, np.uint8).reshape(-1, 8).view(np.uint64).ravel()


def near_duplicates(array: np.ndarray, bits: int) -> NearDuplicates:
    """Photos (n, side, side, 3) whose hashes differ in at most so many bits, in groups.

    A group may hold two photos that differ in more bits, if others lie between them.
    """
    hashes = hashes_of(array)
    count = len(hashes)
    linked = np.arange(count)  # number of each photo's group, so far
    distance = np.full(count, 64, np.uint8)
    at_once = max(1, AT_ONCE // max(1, count))
    for first in range(0, count, at_once):
        rows = np.arange(first, min(first + at_once, count))
        apart = np.bitwise_count(hashes[rows, None] ^ hashes)  # (rows, n)
        apart[rows - first, rows] = 64  # a photo is not its own neighbour
        distance[rows] = apart.min(1)
        here, there = np.nonzero(apart <= bits)
        if len(here):
            linked = _linked(linked, linked[rows[here]], linked[there])
    return NearDuplicates(bits, _largest_first(linked), distance)


def _linked(numbers: np.ndarray, some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Numbers (n,) of groups after those of `some` (m,) are joined with those of `others` (m,)."""
    count = len(numbers)
    links = coo_array((np.ones(len(some), bool), (some, others)), (count, count))
    return connected_components(links, directed=False)[1][numbers]


def _largest_first(numbers: np.ndarray) -> np.ndarray:
    """The groups of two or more, numbered from 1 on by their sizes; 0 for what is alone."""
    sizes = pd.Series(numbers).value_counts(sort=False)
    several = sizes[sizes > 1].sort_index()
    ranked = several.sort_values(ascending=False, kind="stable")
    rank = pd.Series(np.arange(1, len(ranked) + 1), ranked.index)
    return rank.reindex(numbers, fill_value=0).to_numpy()


def table_of(near: NearDuplicates, photos: pd.DataFrame) -> pd.DataFrame:
    """The photos (photo, score, part) that have near-duplicates: a row each, group by group."""
    table = pd.DataFrame(
        {
            "group": near.group,
            "photo": photos.photo.to_numpy(),
            "score": photos.score.to_numpy(),
            "part": photos.part.to_numpy(),
            "distance": near.distance,
        }
    )
    table = table[table.group > 0]
    return table.sort_values("group", kind="stable")


def in_words(near: NearDuplicates) -> str:
    """How many groups of how many photos there are."""
    within = f"differ in at most {near.bits} of 64 bits"
    sizes = near.sizes
    if not len(sizes):
        return f"Near-duplicates: none; no two photos have hashes that {within}."
    groups = "1 group" if len(sizes) == 1 else f"{len(sizes)} groups"
    sentence = (
        f"Near-duplicates: {groups} of {sizes.sum()} photos whose hashes {within}; "
        "near_duplicates.csv and .png, in the run's folder, show them."
    )
    share = sizes[0] / len(near.group)
    if share > 0.1:
        sentence += (
            f" One group has {sizes[0]} of {len(near.group)} photos, which may be alike and no "
            "duplicates; a smaller number of bits tells them apart."
        )
    return sentence


def contact_sheet(
    near: NearDuplicates, photos: pd.DataFrame, array: np.ndarray
) -> Image.Image:
    """The largest groups as a picture: a row each, the photos' names below them.

    `photos` (photo, score, part) are those of the decoded `array` (n, side, side, 3).
    """
    shown = min(len(near.sizes), ROWS)
    columns = min(COLUMNS, max(4, near.sizes[0]))  # title and last line need four
    width = columns * (THUMB + 12) + 112
    row_height = THUMB + 48
    sheet = Image.new("RGB", (width, 52 + shown * row_height + 28), "white")
    draw = ImageDraw.Draw(sheet)
    large, small = font(18), font(11)
    title = f"Photos whose hashes differ in at most {near.bits} of 64 bits"
    draw.text((12, 14), title, "black", large)
    for number in range(1, shown + 1):
        rows = np.flatnonzero(near.group == number)
        top = 52 + (number - 1) * row_height
        draw.text((12, top), f"group {number}", "black", font(13))
        draw.text((12, top + 20), f"{len(rows)} photos", "black", small)
        if len(rows) > COLUMNS:
            draw.text((12, top + 36), f"{COLUMNS} are shown", "black", small)
        for place, row in enumerate(rows[:COLUMNS]):
            left = 100 + place * (THUMB + 12)
            thumb = Image.fromarray(np.asarray(array[row])).resize((THUMB, THUMB))
            sheet.paste(thumb, (left, top))
            photo = photos.iloc[row]
            name = _shortened(str(photo.photo), small, THUMB)
            draw.text((left, top + THUMB + 3), name, "black", small)
            facts = f"score {photo.score}, {photo.part}, {near.distance[row]} bits"
            draw.text((left, top + THUMB + 18), facts, (90, 90, 90), small)
    left_out = len(near.sizes) - shown
    last = "Bits: in so many a photo differs from the one nearest to it."
    if left_out:
        last += f" {left_out} more groups stand in near_duplicates.csv."
    draw.text((12, sheet.height - 24), last, "black", font(12))
    return sheet


def font(size: int) -> ImageFont.FreeTypeFont:
    """The one that figures are written in, which knows most letters of Europe."""
    path = f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf"
    return ImageFont.truetype(path, size)


def _shortened(name: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """A name with its middle left out, where it is wider than so many pixels."""
    name = " ".join(name.split())  # a line end would begin another line
    kept = name
    for count in range(len(name), 1, -1):
        if font.getlength(kept) <= width:
            break
        half = count // 2
        kept = f"{name[:half]}…{name[-half:]}"
    return kept
