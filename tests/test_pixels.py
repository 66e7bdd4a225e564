import os
import resource
from typing import get_args
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torchvision.models import get_model_weights
from torchvision.transforms.v2 import functional

from rsrl_lib import pixels
from rsrl_lib.files import InputError
from rsrl_lib.reading.pictures import open_rgb
from rsrl_lib.recipe import Torchvision


def save_noise(folder, count=4):
    rng = np.random.default_rng(0)
    paths = []
    for number in range(count):
        picture = rng.integers(0, 256, (60, 90, 3), dtype=np.uint8)
        paths.append(folder / f"{number}.png")
        Image.fromarray(picture).save(paths[-1])
    return pd.DataFrame({"photo": [p.name for p in paths], "path": [str(p) for p in paths]})


def test_a_photo_is_resized_by_pillows_bilinear_filter(tmp_path):
    table = save_noise(tmp_path)
    decoded, _ = pixels.decode(table, cache=tmp_path / "cache")
    with Image.open(table.path[2]) as picture:
        expected = np.asarray(picture.resize((256, 256), Image.Resampling.BILINEAR))
    assert (decoded.array[2] == expected).all()


def test_photos_are_decoded_once_and_anew_when_a_file_changes(tmp_path, monkeypatch):
    table = save_noise(tmp_path)
    first, _ = pixels.decode(table, cache=tmp_path / "cache")
    monkeypatch.setattr(pixels, "square", None)  # a second decoding would fail
    again, _ = pixels.decode(table, cache=tmp_path / "cache")
    assert (again.array == first.array).all()
    monkeypatch.undo()
    Image.new("RGB", (30, 30), "red").save(table.path[1])
    changed, _ = pixels.decode(table, cache=tmp_path / "cache")
    assert changed.fingerprint != first.fingerprint
    assert changed.array[1, 0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("gone", [False, True])
def test_a_disk_that_fails_for_a_moment_brands_no_photo(tmp_path, monkeypatch, gone):
    table, opened = save_noise(tmp_path), Image.open
    third, elsewhere = tmp_path / "2.png", tmp_path / "elsewhere"

    def failing(path, *given):
        if str(path).endswith("1.png") and gone:  # a share that vanishes between two photos
            third.rename(elsewhere)
        if str(path).endswith("2.png") and not gone:
            raise OSError(5, "Input/output error")
        return opened(path, *given)

    monkeypatch.setattr(Image, "open", failing)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    with pytest.raises(
        InputError, match=r"2\.png.*" + ("no file" if gone else "Input/output error")
    ):
        pixels.decode(table, strict=False, cache=tmp_path / "cache")
    monkeypatch.undo()
    if gone:
        elsewhere.rename(third)
    decoded, left_out = pixels.decode(table, strict=False, cache=tmp_path / "cache")
    assert len(decoded) == 4 and not len(left_out)


def test_a_damaged_photo_that_pillow_cannot_seek_in_is_left_out(tmp_path):
    table = save_noise(tmp_path)
    table.loc[1, "path"] = str(tmp_path / "far.tif")
    far = b"II\x2b\x00\x08\x00\x00\x00" + (2**62).to_bytes(8, "little")  # BigTIFF, to there
    (tmp_path / "far.tif").write_bytes(far)
    decoded, left_out = pixels.decode(table, strict=False, cache=tmp_path / "cache")
    assert len(decoded) == 3 and left_out.photo.tolist() == ["1.png"]


def test_a_broken_photo_stops_a_strict_decoding_and_is_left_out_of_a_lenient_one(tmp_path):
    table = save_noise(tmp_path)
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:200])
    with pytest.raises(InputError, match=r"1\.png.*1 of 4 photos.*--skip-broken"):
        pixels.decode(table, cache=tmp_path / "cache")
    decoded, left_out = pixels.decode(table, strict=False, cache=tmp_path / "cache")
    assert left_out.photo.tolist() == ["1.png"]
    assert "1.png" in left_out.reason[0]
    assert len(decoded) == 3
    whole = decoded.crops([1], view="whole")[0].permute(1, 2, 0).numpy()
    assert (whole == pixels.square(open_rgb(table.path[2]))).all()
    again, _ = pixels.decode(table, strict=False, cache=tmp_path / "cache")
    assert (again.array == decoded.array).all()
    with pytest.raises(InputError, match=r"1 of 4 photos"):
        pixels.decode(table, cache=tmp_path / "cache")


def test_the_centre_crop_is_the_middle_and_a_random_crop_a_mirrored_or_plain_window(tmp_path):
    decoded, _ = pixels.decode(save_noise(tmp_path), cache=tmp_path / "cache")
    whole = decoded.crops([3], view="whole")[0]
    assert (decoded.crops([3], view="centre")[0] == whole[:, 14:241, 14:241]).all()
    torch.manual_seed(4)
    crops = decoded.crops([3] * 12, view="random")
    windows = whole.unfold(1, 227, 1).unfold(2, 227, 1)  # (3, 30, 30, 227, 227)
    mirrored = 0
    for crop in crops:
        plain = (windows[0] == crop[0]).all((-1, -2)).any()
        flipped = (windows[0] == crop[0].flip(-1)).all((-1, -2)).any()
        assert plain != flipped
        mirrored += int(flipped)
    assert 0 < mirrored < 12


@pytest.mark.parametrize("backbone", get_args(Torchvision))
@pytest.mark.parametrize("shrink_to", [None, 64])
def test_photos_are_normalised_as_torchvision_does_for_its_weights(backbone, shrink_to):
    crops = torch.randint(256, (2, 3, 227, 227), dtype=torch.uint8)
    published = get_model_weights(backbone).DEFAULT.transforms()
    size = [shrink_to or 227]
    resized = functional.resize(crops, size, antialias=True).float()
    expected = functional.normalize(resized / 255, published.mean, published.std)
    assert torch.allclose(pixels.normalised(crops, shrink_to=shrink_to), expected, atol=1e-5)


def test_every_view_is_shrunk_by_the_factor_of_the_crops():
    whole = torch.randint(256, (1, 3, 256, 256), dtype=torch.uint8)
    crop = whole[..., 14:241, 14:241]
    for shrink_to, side in ((64, 72), (96, 108), (227, 256)):
        assert pixels.normalised(crop, shrink_to=shrink_to).shape[2:] == (shrink_to, shrink_to)
        assert pixels.normalised(whole, shrink_to=shrink_to).shape[2:] == (side, side)


def test_an_unknown_view_is_refused(coloured):
    with pytest.raises(ValueError, match="view must be"):
        coloured[1].crops([0], view="corner")


def test_the_five_views_are_the_corners_and_the_centre(tmp_path):
    decoded, _ = pixels.decode(save_noise(tmp_path), cache=tmp_path / "cache")
    whole = decoded.crops([2], view="whole")
    expected = [whole[..., a : a + 227, b : b + 227] for a in (0, 29) for b in (0, 29)]
    expected.append(whole[..., 14:241, 14:241])
    for corner, window in zip(pixels.five_corners(), expected, strict=True):
        assert torch.equal(decoded.crops([2], view=corner), window)
    assert torch.equal(decoded.crops([2], view="centre"), expected[-1])
    drawn = decoded.crops([2] * 60, view="five")
    found = [[torch.equal(crop, window[0]) for window in expected].index(True) for crop in drawn]
    assert set(found) == set(range(5))


def test_a_gpu_gathers_the_windows_that_a_processor_copies_one_by_one(tmp_path):
    decoded, _ = pixels.decode(save_noise(tmp_path), cache=tmp_path / "cache")
    rows, mirrored = torch.tensor([3, 0, 3]), torch.tensor([True, False, False])
    corners = torch.tensor([[0, 29], [14, 3], [29, 0]])
    place = rows, corners, mirrored, 227
    at_once = pixels.windows_at_once(torch.tensor(decoded.array), *place)
    assert torch.equal(at_once, pixels.windows(decoded.array, *place))


def test_a_share_of_the_rows_has_the_places_that_all_of_them_draw(tmp_path):
    decoded, _ = pixels.decode(save_noise(tmp_path), cache=tmp_path / "cache")

    def crops(**how):
        draw = torch.Generator().manual_seed(0)
        return decoded.crops([2, 0, 1, 3, 2], view="random", draw=draw, **how)

    assert torch.equal(crops(share=slice(1, None, 2)), crops()[1::2])


def test_a_large_jpeg_is_decoded_at_a_reduced_size_that_looks_the_same(tmp_path):
    small = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    large = Image.fromarray(small).resize((1600, 1200), Image.Resampling.BICUBIC)
    large.save(tmp_path / "large.jpg", quality=95)
    table = pd.DataFrame({"photo": ["large.jpg"], "path": [str(tmp_path / "large.jpg")]})
    decoded, _ = pixels.decode(table, cache=tmp_path / "cache")
    full = pixels.square(open_rgb(table.path[0])).astype(int)
    assert open_rgb(table.path[0], at_least=512).size == (800, 600)
    difference = np.abs(decoded.array[0] - full)
    assert 0 < difference.mean() < 0.5
    assert difference.max() <= 4


def test_a_decoding_that_was_stopped_goes_on_where_it_was(tmp_path, monkeypatch):
    table, once = save_noise(tmp_path, 7), []
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:200])
    expected, _ = pixels.decode(table, strict=False, cache=tmp_path / "whole")
    monkeypatch.setattr(pixels, "CHUNK", 2)
    read = pixels.open_rgb

    def stopped(path, **how):
        once.append(path)
        if "5.png" in path:
            raise KeyboardInterrupt
        return read(path, **how)

    monkeypatch.setattr(pixels, "open_rgb", stopped)
    with pytest.raises(KeyboardInterrupt):
        pixels.decode(table, strict=False, cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.npy"))
    monkeypatch.setattr(pixels, "open_rgb", lambda path, **how: once.append(path) or read(path))
    found, left_out = pixels.decode(table, strict=False, cache=tmp_path / "cache")
    assert (found.array == expected.array).all()
    assert left_out.photo.tolist() == ["1.png"]
    assert [once.count(str(tmp_path / f"{n}.png")) for n in range(7)] == [1, 2, 1, 1, 2, 2, 1]
    assert not [
        p.name for p in (tmp_path / "cache").iterdir() if p.suffix in (".partial", ".notes")
    ]


def test_too_small_a_disk_is_told_before_anything_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(pixels.shutil, "disk_usage", lambda _: Mock(free=500_000))
    monkeypatch.setattr(pixels, "open_rgb", None)
    with pytest.raises(InputError, match=r"7 photos takes 0\.00 GB in .*cache.*link to a larger"):
        pixels.decode(save_noise(tmp_path, 7), cache=tmp_path / "cache")


def test_a_disk_that_fills_up_is_one_sentence_and_decoding_goes_on_after_it(tmp_path, monkeypatch):
    table = save_noise(tmp_path, 6)
    monkeypatch.setattr(pixels, "CHUNK", 2)
    size = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 * 256 * 256 * 3, size[1]))
    try:
        with pytest.raises(InputError, match=r"could not be written .*File too large.*make room"):
            pixels.decode(table, cache=tmp_path / "cache")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, size)
    decoded, _ = pixels.decode(table, cache=tmp_path / "cache")
    assert (decoded.array == pixels.decode(table, cache=tmp_path / "other")[0].array).all()


def test_what_was_decoded_by_other_rules_is_decoded_anew(tmp_path, monkeypatch):
    table, whole = save_noise(tmp_path), pixels.square
    with monkeypatch.context() as before:
        before.setattr(pixels, "READING", pixels.READING - 1)
        before.setattr(pixels, "square", lambda *given: 0 * whole(*given))
        black = pixels.decode(table, cache=tmp_path / "cache")[0]
    assert not black.array.any()
    decoded = pixels.decode(table, cache=tmp_path / "cache")[0]
    assert decoded.array.any() and decoded.fingerprint == black.fingerprint


def test_pictures_in_memory_are_seen_as_those_in_files_are(tmp_path):
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (3, 40, 60, 3), dtype=np.uint8)
    names = [f"{number}.png" for number in range(3)]
    for name, picture in zip(names, pictures, strict=True):
        Image.fromarray(picture).save(tmp_path / name)
    table = pd.DataFrame({"photo": names, "path": [str(tmp_path / name) for name in names]})
    of_files, _ = pixels.decode(table, cache=tmp_path / "cache")
    as_images = [Image.fromarray(picture) for picture in pictures]
    as_tensor = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    for given in (as_images, list(pictures), as_tensor):
        assert np.array_equal(pixels.pixels_of(given).array, of_files.array)
    assert pixels.pixels_of(as_tensor, 300).side == 300
    same, other, again = pixels.pixels_of([pictures[0], pictures[1], pictures[0]]).digests
    assert same == again != other


@pytest.mark.parametrize("wrong", [np.zeros((4, 5, 3)), np.zeros((4, 5), np.uint8)])
def test_a_picture_in_memory_that_is_none_is_refused_in_one_sentence(wrong):
    with pytest.raises(InputError, match=r"Picture 1 is .*; give bytes \(uint8\)"):
        pixels.pixels_of([np.zeros((4, 5, 3), np.uint8), wrong])
