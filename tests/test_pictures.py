import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, features

from rsrl_lib import pictures
from rsrl_lib.files import InputError


def touch(folder, *names):
    """Files with something in them: readers do not decode."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def message(*parts):
    return ".*".join(re.escape(part) for part in parts)


def test_unscored_pictures_are_found_in_folders_within_and_in_order(tmp_path):
    touch(tmp_path, "b.JPG", "a/c.png", "notes.txt", ".hidden.jpg", ".cache/d.jpg", "a/._c.png")
    table = pictures.read_unscored(tmp_path)
    assert table["photo"].tolist() == ["a/c.png", "b.JPG"]
    assert table["path"].tolist() == [f"{tmp_path}/a/c.png", f"{tmp_path}/b.JPG"]
    with pytest.raises(InputError, match=message("empty holds no photos", "name a folder")):
        pictures.read_unscored(tmp_path / "empty")


def test_an_upright_rgb_picture_comes_as_it_is(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    picture = pictures.open_rgb(tmp_path / "a.png")
    assert picture.mode == "RGB" and (np.asarray(picture) == pixels).all()


def test_a_turned_photo_is_put_upright(tmp_path):
    picture = Image.new("RGB", (60, 40), "red")
    picture.paste("blue", (0, 0, 60, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held so that the viewer turns the picture clockwise
    picture.save(tmp_path / "a.jpg", exif=exif, quality=95)
    upright = pictures.open_rgb(tmp_path / "a.jpg")
    assert upright.size == (40, 60)
    assert upright.getpixel((35, 30))[2] > 200 and upright.getpixel((5, 30))[0] > 200


def test_cmyk_jpegs_keep_their_colours_also_inverted_by_adobe(tmp_path):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    assert b"Adobe" in (tmp_path / "a.jpg").read_bytes()
    assert np.allclose(pictures.open_rgb(tmp_path / "a.jpg"), (255, 0, 0), atol=6)


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    grey = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    expected = np.repeat(np.array([[0, 1, 128, 255]])[..., None], 3, axis=2)
    for name in ("a.png", "a.tif"):
        Image.fromarray(grey).save(tmp_path / name)
        assert (np.asarray(pictures.open_rgb(tmp_path / name)) == expected).all()
    Image.fromarray(grey.astype(np.int32)).save(tmp_path / "b.tif")
    assert (np.asarray(pictures.open_rgb(tmp_path / "b.tif")) == expected).all()


def test_sixteen_bit_colours_are_scaled(tmp_path):
    def chunk(kind, data):
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)  # 1 x 1, 16 bits, RGB
    row = b"\0" + struct.pack(">HHH", 65535, 32896, 257)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    assert pictures.open_rgb(tmp_path / "a.png").getpixel((0, 0)) == (255, 128, 1)


def test_transparency_lies_over_white(tmp_path):
    Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("RGBA", (2, 2), (0, 0, 0, 51)).save(tmp_path / "thin.png")
    Image.new("LA", (2, 2), (0, 255)).save(tmp_path / "grey.png")
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 200, 30, 0, 0, 0])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "palette.png", transparency=1)
    Image.new("RGB", (1, 1), (9, 9, 9)).save(tmp_path / "key.png", transparency=(9, 9, 9))

    def colour(name, x=0):
        return pictures.open_rgb(tmp_path / name).getpixel((x, 0))

    assert colour("clear.png") == (255, 255, 255) and colour("thin.png") == (204, 204, 204)
    assert colour("grey.png") == (0, 0, 0) and colour("key.png") == (255, 255, 255)
    assert colour("palette.png") == (10, 200, 30) and colour("palette.png", 1) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["1", "L", "P"])
def test_plain_grey_palette_and_line_art_become_rgb(tmp_path, kind):
    Image.new("RGB", (4, 4), "white").convert(kind).save(tmp_path / "a.png")
    assert pictures.open_rgb(tmp_path / "a.png").getpixel((1, 1)) == (255, 255, 255)


def test_a_broken_picture_is_named_with_what_is_wrong_and_the_remedy(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for name in ("cut.jpg", "cut.png"):
        Image.fromarray(noise).save(tmp_path / name)
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("not a picture")
    expected = {
        "cut.jpg": "truncated",
        "cut.png": "truncated",
        "empty.jpg": "0 bytes",
        "text.jpg": "cannot identify",
        "lost.jpg": "no file",
    }
    for name, problem in expected.items():
        with pytest.raises(InputError, match=message(name, "no whole picture", problem, "copy")):
            pictures.open_rgb(tmp_path / name)


@pytest.mark.parametrize("limit", [70, 40], ids=["Pillow warns", "Pillow refuses"])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path, monkeypatch, limit):
    Image.new("RGB", (10, 10)).save(tmp_path / "a.png")
    assert pictures.open_rgb(tmp_path / "a.png").size == (10, 10)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(InputError, match=message("a.png", "pixels", "shrink")):
        pictures.open_rgb(tmp_path / "a.png")


@pytest.mark.skipif(not features.check("webp"), reason="this Pillow was built without WebP")
def test_webp_is_read(tmp_path):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.webp", lossless=True)
    assert pictures.open_rgb(tmp_path / "a.webp").getpixel((0, 0)) == (255, 0, 0)
