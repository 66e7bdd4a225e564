import io

import numpy as np
import pandas as pd
import pytest
from imagehash import phash
from PIL import Image, ImageEnhance

from rsrl_lib import duplicates, pixels
from rsrl_lib.drawing import glassbox
from rsrl_lib.duplicates import NearDuplicates, contact_sheet, in_words, near_duplicates, table_of


@pytest.fixture(scope="module")
def drawn():
    """Twelve drawn photos that differ, as RGB images."""
    photos = glassbox.open_set(count=60, seed=0).table.path[:12]
    return [Image.open(path).convert("RGB") for path in photos]


def saved_again(photo, quality=50):
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


COPIES = {
    "saved at quality 50": saved_again,
    "saved at quality 20": lambda photo: saved_again(photo, 20),
    "half as large": lambda photo: photo.resize((photo.width // 2, photo.height // 2)),
    "a tenth brighter": lambda photo: ImageEnhance.Brightness(photo).enhance(1.1),
    "grey": lambda photo: photo.convert("L").convert("RGB"),
}


@pytest.mark.parametrize("how", COPIES)
def test_copies_that_were_changed_a_little_are_found_and_different_photos_are_not(drawn, how):
    copies = [COPIES[how](photo) for photo in drawn]
    array = np.array([pixels.square(photo) for photo in [*drawn, *copies]])
    assert not (array[:12] == array[12:]).all()
    near = near_duplicates(array, 6)
    assert near.sizes.tolist() == [2] * 12
    assert (near.group[:12] == near.group[12:]).all()
    assert near_duplicates(array[:12], 6).sizes.size == 0


def test_hashes_are_those_of_the_library_and_distances_those_of_pairs(drawn):
    array = np.array([pixels.square(photo) for photo in drawn])
    theirs = [phash(Image.fromarray(photo)) for photo in array]
    apart = np.array([[one - other for other in theirs] for one in theirs])
    hashes = duplicates.hashes_of(array)
    assert (np.bitwise_count(hashes[:, None] ^ hashes) == apart).all()
    nearest = np.where(np.eye(12, dtype=bool), 64, apart).min(1)
    assert (near_duplicates(array, 0).distance == nearest).all()


def chained(monkeypatch, hashes, bits):
    monkeypatch.setattr(duplicates, "hashes_of", lambda array: np.array(hashes, np.uint64))
    return near_duplicates(np.zeros(len(hashes)), bits)


@pytest.mark.parametrize("at_once", [1, 7, 2**21])
def test_groups_are_chains_however_many_pairs_are_compared_at_once(monkeypatch, at_once):
    monkeypatch.setattr(duplicates, "AT_ONCE", at_once)
    hashes = [0, 2**60 - 1, 0b11, 0b1111, 2**60 - 2, 0b10101 << 50]
    near = chained(monkeypatch, hashes, 2)
    assert near.group.tolist() == [1, 2, 1, 1, 2, 0]
    assert near.distance.tolist() == [2, 1, 2, 2, 1, 3]
    assert chained(monkeypatch, hashes, 1).sizes.tolist() == [2]


def test_many_photos_are_compared_in_seconds_and_little_memory(monkeypatch):
    hashes = np.random.default_rng(0).integers(0, 2**63, 8000, dtype=np.uint64)
    hashes[100:140] = hashes[0]
    near = chained(monkeypatch, hashes, 6)
    assert near.sizes.tolist() == [41]
    assert set(np.flatnonzero(near.group)) == {0, *range(100, 140)}


def some_groups(sizes):
    group = np.concatenate([np.full(size, n) for n, size in enumerate(sizes, 1)])
    names = [f"a photo with a name that has no end {row}.jpg" for row in range(len(group))]
    photos = pd.DataFrame({"photo": names, "score": 4, "part": "train"})
    near = NearDuplicates(6, group, np.zeros(len(group), np.uint8))
    return near, photos, np.full((len(group), 32, 32, 3), 128, np.uint8)


def test_the_sheet_has_a_row_for_each_of_the_largest_groups_and_says_what_it_leaves_out(
    monkeypatch,
):
    written = []
    real = duplicates.ImageDraw.ImageDraw.text
    monkeypatch.setattr(
        duplicates.ImageDraw.ImageDraw,
        "text",
        lambda self, place, text, *rest: written.append(text) or real(self, place, text, *rest),
    )
    sheet = contact_sheet(*some_groups([11, *[2] * 24]))
    assert [text for text in written if text.startswith("group ")] == [
        f"group {n}" for n in range(1, 21)
    ]
    assert "8 are shown" in written and "5 more groups stand in near_duplicates.csv" in written[-1]
    names = [text for text in written if text.startswith("a photo")]
    assert len(names) == 8 + 19 * 2 and names[0].endswith("0.jpg") and "…" in names[0]
    small = contact_sheet(*some_groups([2]))
    assert small.height < sheet.height / 10 and small.width < sheet.width
    assert "more groups" not in written[-1]


def test_the_table_goes_group_by_group_and_leaves_out_photos_that_are_alone():
    _, photos, _ = some_groups([3, 2])
    alone = NearDuplicates(6, np.array([2, 1, 0, 1, 2]), np.arange(5))
    table = table_of(alone, photos)
    assert list(table) == ["group", "photo", "score", "part", "distance"]
    assert table.group.tolist() == [1, 1, 2, 2] and table.distance.tolist() == [1, 3, 0, 4]


def test_the_sentence_counts_groups_and_warns_of_one_that_holds_a_tenth_of_all():
    none = NearDuplicates(4, np.zeros(9, int), np.full(9, 30))
    assert (
        in_words(none)
        == "Near-duplicates: none; no two photos have hashes that differ in at most 4 of 64 bits."
    )
    few = NearDuplicates(6, np.array([1, 1, 2, 2, *[0] * 60]), np.zeros(64))
    assert in_words(few).startswith("Near-duplicates: 2 groups of 4 photos whose hashes differ in")
    assert "One group" not in in_words(few)
    many = NearDuplicates(16, np.array([1] * 7 + [0] * 57), np.zeros(64))
    assert "1 group of 7 photos" in in_words(many)
    assert "One group has 7 of 64 photos, which may be alike" in in_words(many)
