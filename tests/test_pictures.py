import os
import re
import struct
import sys
import types
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps, features

from rsrl_lib import sources
from rsrl_lib.files import InputError, Note
from rsrl_lib.reading import pictures
from tests.odd_pictures import chunk, png, ramp, tiff, whole


def touch(folder, *names):
    """Files with something in them: readers do not decode."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def message(*parts):
    return ".*".join(re.escape(part) for part in parts)


@pytest.mark.parametrize(("name", "found"), [("gone", "is not there"), ("a.jpg", "is a file")])
def test_where_no_folder_is_that_is_said(tmp_path, name, found):
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=f"A folder of photos is needed, .*{name} {found}"):
        pictures.read_unscored(tmp_path / name)


def test_unscored_pictures_are_found_in_folders_within_and_in_order(tmp_path):
    touch(tmp_path, "b.JPG", "a/c.png", "notes.txt", ".hidden.jpg", ".cache/d.jpg", "a/._c.png")
    table = pictures.read_unscored(tmp_path)
    assert table["photo"].tolist() == ["a/c.png", "b.JPG"]
    assert table["path"].tolist() == [f"{tmp_path}/a/c.png", f"{tmp_path}/b.JPG"]
    (tmp_path / "empty").mkdir()
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
    colour = np.array([[[65535, 32896, 257]]], np.uint64)
    (tmp_path / "a.png").write_bytes(png(colour, 16, 2))
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


def same(path, content, expected, most=3):
    """A file's picture is the expected one, 0..1, within some of 256 levels; else what is said."""
    try:
        picture = np.asarray(pictures.open_rgb(path, content), float)
    except InputError as error:
        return str(error)
    assert np.abs(picture - 255 * expected).max() <= most
    return ""


LAYOUTS = {"strip": {}, "strips": {"rows": 7}, "tiles": {"tile": (16, 16)}}
LAYOUTS |= {f"{name}, deflated": way | {"deflate": True} for name, way in LAYOUTS.items()}
LAYOUTS |= {f"{name}, in planes": way | {"planes": 2} for name, way in LAYOUTS.items()}
GREYS = [(bits, colour) for bits in (1, 2, 4, 6, 8, 10, 12, 14, 16, 24, 32) for colour in (0, 1)]


@pytest.mark.parametrize(("bits", "colour"), GREYS)
def test_a_grey_tiff_is_its_picture_or_its_samples_are_named(bits, colour):
    values = whole(ramp(), bits)
    stored = values if colour else (1 << bits) - 1 - values
    shown = np.repeat(values / ((1 << bits) - 1), 3, 2)
    bits = 32 if bits == 24 else bits  # 24 bits in 32
    for name, way in LAYOUTS.items():
        for order, big in (("<", False), (">", False), ("<", True), (">", True)):
            content = tiff(stored, bits, colour, order=order, big=big, **way)
            said = same("a.tif", content, shown)
            assert not said or re.search(rf"a\.tif has {bits}-bit samples .*8 or 16 bits", said)
            usual = bits in (1, 2, 4, 8, 16) and colour == 1 and "planes" not in name
            assert not (said and usual) or (order, big) == (">", True)


FURTHER = [(), (0,), (1,), (2,), (0, 0), (1, 0), (2, 0)]  # unused, premultiplied, alpha


@pytest.mark.parametrize("bits", [8, 12, 16, 32])
@pytest.mark.parametrize("further", FURTHER, ids=str)
@pytest.mark.parametrize("colour", [1, 2, 5], ids=["grey", "RGB", "CMYK"])
def test_a_tiff_of_several_samples_is_its_picture_or_they_are_named(colour, further, bits):
    shown = ramp({1: 1, 2: 3, 5: 4}[colour])
    alpha = np.linspace(0.2, 1, shown[..., :1].size).reshape(*shown.shape[:2], 1)
    stored = shown * alpha if further[:1] == (1,) else shown
    stored = whole(np.concatenate([stored, *[alpha] * len(further)], 2), bits)
    if colour == 5:
        shown = (1 - shown[..., :3]) * (1 - shown[..., 3:])
    if further and further[0]:
        shown = shown * alpha + 1 - alpha
    shown = np.broadcast_to(shown, (*shown.shape[:2], 3))
    for name, way in LAYOUTS.items():
        for order in "<>":
            content = tiff(stored, bits, colour, further=further, order=order, **way)
            said = same("a.tif", content, shown)
            assert not said or re.search(rf"a\.tif has {bits}-bit samples \(.*8 or 16 bits", said)
            assert not (said and bits == 8 and colour == 2 and "planes" not in name)


@pytest.mark.parametrize("samples", [1, 3], ids=["grey", "RGB"])
@pytest.mark.parametrize("white", [1, 255, 65535])
@pytest.mark.parametrize("bits", [16, 32, 64])
def test_a_tiff_of_floats_is_refused_by_name(bits, white, samples):
    with np.errstate(over="ignore"):  # 65535 is more than 16 bits of a float hold
        stored = (white * ramp(samples)).astype(f"f{bits // 8}")
    for order, layout in [(order, layout) for order in "<>" for layout in LAYOUTS.values()]:
        content = tiff(stored, bits, min(samples, 2), kind=3, order=order, **layout)
        with pytest.raises(InputError, match=f"a.tif has {bits}-bit float samples .*save it with"):
            pictures.open_rgb("a.tif", content)


@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize("samples", [1, 3], ids=["grey", "RGB"])
def test_a_tiff_of_signed_numbers_is_refused_by_name(bits, samples):
    stored = (ramp(samples) * (2**bits - 1) - 2 ** (bits - 1)).astype(np.int64)
    content = tiff(stored, bits, 1 if samples == 1 else 2, kind=2)
    with pytest.raises(InputError, match=f"a.tif has {bits}-bit signed samples"):
        pictures.open_rgb("a.tif", content)


@pytest.mark.parametrize("kind", [1, 2], ids=["unsigned", "signed"])
def test_of_32_bits_only_those_are_read_that_hold_16(kind):
    grey = np.repeat(ramp() / ramp().max(), 3, 2)
    assert same("a.tif", tiff(whole(grey[..., :1], 16), 32, 1, kind=kind), grey) == ""
    for bits in (8, 12, 15, 24, 31):
        said = same("a.tif", tiff(whole(grey[..., :1], bits), 32, 1, kind=kind), grey)
        assert re.search("a.tif has 32-bit (signed )?samples", said)


@pytest.mark.parametrize("factor", [257, 256, 1], ids=["16 bits", "high bytes", "8 bits"])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_tiffs_palette_may_be_stored_in_8_bits(bits, factor):
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (3, 1 << bits))
    stored = whole(ramp(), bits)
    content = tiff(stored, bits, 3, tags={320: ("H", (colours * factor).ravel().tolist())})
    shown = colours[:, stored[..., 0].astype(int)].transpose(1, 2, 0) / 255
    assert same("a.tif", content, shown) == ""


def test_a_tiff_of_ycbcr_is_read_as_its_tags_say_or_not_at_all():
    red, green, blue = np.moveaxis(255 * ramp(3), 2, 0)
    light = 0.299 * red + 0.587 * green + 0.114 * blue
    stored = np.stack([light, (blue - light) / 1.772 + 128, (red - light) / 1.402 + 128], 2)
    stored = stored.round().astype(np.uint64)
    for deflate in (False, True):
        whole_size = {530: ("H", [1, 1])}
        assert same("a.tif", tiff(stored, 8, 6, deflate=deflate, tags=whole_size), ramp(3)) == ""
        said = same("a.tif", tiff(stored, 8, 6, deflate=deflate), ramp(3))
        assert "8-bit samples (YCbCr" in said


@pytest.mark.parametrize(
    ("tags", "says"),
    [
        ({262: ("H", [8])}, "8-bit samples (CIELab"),
        ({262: ("H", [32803]), 277: ("H", [1])}, "8/8/8-bit|8-bit samples (a sensor's"),
        ({262: ("H", [34892])}, "8-bit samples (a sensor's"),
        ({339: ("H", [4, 4, 4])}, "8-bit undefined samples"),
        ({339: ("H", [1, 1, 3])}, "8-bit /float samples"),
        ({258: ("H", [8, 8, 4])}, "8/4-bit samples"),
        ({259: ("H", [34712])}, "compression 34712"),
        ({254: ("L", [1]), 330: ("L", [8])}, "is a raw file"),
    ],
)
def test_other_tiffs_are_refused_by_what_their_tags_say(tags, says):
    content = tiff(whole(ramp(3), 8), 8, 2, tags=tags)
    with pytest.raises(InputError) as caught:
        pictures.open_rgb("a.tif", content)
    assert any(part in str(caught.value) for part in says.split("|"))


def test_a_tiff_that_does_not_say_its_colour_is_refused():
    content = tiff(whole(ramp(), 8), 8, 1)
    entry = content.index(struct.pack("<HHL", 262, 3, 1))
    content = content[:entry] + struct.pack("<H", 261) + content[entry + 2 :]
    with pytest.raises(InputError, match="of a colour that is not said"):
        pictures.open_rgb("a.tif", content)


def test_a_raw_file_is_not_its_small_copy(tmp_path):
    (tmp_path / "a.nef").write_bytes(tiff(whole(ramp(3), 8), 8, 2))
    (tmp_path / "a.raf").write_bytes(b"FUJIFILMCCD-RAW")
    (tmp_path / "a.cr3").write_bytes(b"\0\0\0\x18ftypcrx " + bytes(20))
    for name in ("a.nef", "a.raf", "a.cr3"):
        with pytest.raises(InputError, match=rf"{name} is a raw file; save it as JPEG"):
            pictures.open_rgb(tmp_path / name)


def test_floats_of_other_formats_are_refused(tmp_path):
    (tmp_path / "a.pfm").write_bytes(b"Pf\n2 1\n-1.0\n" + struct.pack("<2f", 0.2, 0.9))
    with pytest.raises(InputError, match=r"a\.pfm has F samples; save it with 8 bits"):
        pictures.open_rgb(tmp_path / "a.pfm")
    (tmp_path / "a.pgm").write_bytes(b"P5\n2 1\n65535\n" + struct.pack(">2H", 257, 65535))
    assert pictures.open_rgb(tmp_path / "a.pgm").getpixel((0, 0)) == (1, 1, 1)


@pytest.mark.parametrize("colour", [0, 2, 3, 4, 6])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_a_png_of_any_kind_is_its_picture(bits, colour):
    if bits not in {0: (1, 2, 4, 8, 16), 3: (1, 2, 4, 8)}.get(colour, (8, 16)):
        return
    shown = ramp({0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour])
    stored = whole(shown, bits)
    if colour == 3:
        colours = np.random.default_rng(0).integers(0, 256, (1 << bits, 3), dtype=np.uint8)
        content = png(stored, bits, colour, chunk(b"PLTE", colours.tobytes()))
        assert same("a.png", content, colours[stored[..., 0].astype(int)] / 255) == ""
        return
    rounded = stored / ((1 << bits) - 1)
    if colour > 3:
        rounded = rounded[..., :-1] * rounded[..., -1:] + 1 - rounded[..., -1:]
    rounded = np.broadcast_to(rounded, (*rounded.shape[:2], 3))
    assert same("a.png", png(stored, bits, colour), rounded) == ""


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_a_png_has_one_transparent_grey_of_its_own_depth(bits):
    stored = whole(ramp(), bits)
    stored[5:9, 3:7] = clear = stored[20, 30, 0]
    more = 0 if bits == 16 else 1 << bits  # bits that say nothing
    content = png(stored, bits, 0, chunk(b"tRNS", struct.pack(">H", int(clear) + more)))
    shown = np.where(stored == clear, 1, stored / ((1 << bits) - 1))
    assert same("a.png", content, np.repeat(shown, 3, 2)) == ""


def test_a_transparent_colour_of_16_bits_is_refused_since_8_are_read():
    stored = whole(ramp(3), 16)
    content = png(stored, 16, 2, chunk(b"tRNS", struct.pack(">3H", 1, 2, 3)))
    with pytest.raises(InputError, match=r"one transparent colour of 16-bit samples.*alpha"):
        pictures.open_rgb("a.png", content)
    ok = png(whole(ramp(3), 8), 8, 2, chunk(b"tRNS", struct.pack(">3H", 1, 2, 3)))
    assert same("a.png", ok, ramp(3)) == ""


BIG = b"x" * (1 << 20) + b"y"
PASSED_OVER = {
    "large text": chunk(b"tEXt", b"Comment\0" + BIG),
    "large text, packed": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(BIG)),
    "large XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + BIG),
    "large XMP, packed": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(BIG)),
    "large profile": chunk(b"iCCP", b"name\0\0" + zlib.compress(BIG)),
    "profile packed otherwise": chunk(b"iCCP", b"name\0\7abc"),
    "profile without an end": chunk(b"iCCP", b"name"),
    "text packed otherwise": chunk(b"zTXt", b"Comment\0\7abc"),
    "text that is junk": chunk(b"zTXt", b"Comment\0\0junk"),
    "XMP that is cut": chunk(b"iTXt", b"XML:com.adobe.xmp\0"),
    "junk EXIF": chunk(b"eXIf", b"junkjunkjunk"),
    "empty EXIF": chunk(b"eXIf", b""),
    "EXIF that points away": chunk(b"eXIf", b"II*\0\xff\xff\xff\xff"),
    "ImageMagick's EXIF": chunk(b"tEXt", b"Raw profile type exif\0\nexif\n  8\nxyz"),
    "wrong checksum of a text": chunk(b"tEXt", b"Comment\0abc", 5),
    "wrong checksum of EXIF": chunk(b"eXIf", b"II*\0\x08\0\0\0\0\0", 5),
    "wrong checksum of a transparency": chunk(b"tRNS", bytes(6), 5),
    "short transparency": chunk(b"tRNS", b"\0"),
    "short gamma": chunk(b"gAMA", b"\0"),
    "short resolution": chunk(b"pHYs", b"\0"),
    "short primaries": chunk(b"cHRM", b"\0"),
    "short intent": chunk(b"sRGB", b""),
    "short animation": chunk(b"acTL", b"\0"),
    "wrong animation": chunk(b"acTL", bytes(8)) + chunk(b"fcTL", bytes(9)),
    "unknown": chunk(b"abCd", b"junk", 5),
}


@pytest.mark.parametrize("name", PASSED_OVER)
@pytest.mark.filterwarnings("error")
def test_a_png_is_read_without_what_viewers_pass_over(name):
    odd, stored = PASSED_OVER[name], whole(ramp(3), 8)
    for content in (png(stored, 8, 2, odd), png(stored, 8, 2, after=[odd])):
        assert same("a.png", content, ramp(3), 0.5) == ""
    with_junk = png(stored, 8, 2) + b"junk after the end"
    assert same("a.png", with_junk, ramp(3), 0.5) == ""


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE", b"IDAT"])
@pytest.mark.parametrize("damage", ["checksum", "data", "cut", "left out"])
def test_a_png_whose_pixels_are_damaged_is_refused(kind, damage):
    colours = chunk(b"PLTE", np.random.default_rng(0).bytes(768))
    content = bytearray(png(whole(ramp(), 8), 8, 3, colours))
    place = content.index(kind)
    length = struct.unpack(">L", content[place - 4 : place])[0]
    if damage == "checksum":
        content[place + 4 + length] ^= 1
    elif damage == "data":
        content[place + 4 + length // 2] ^= 1
    elif damage == "cut":
        del content[place + 4 + length // 2 :]
    else:
        del content[place - 4 : place + length + 8]
    with pytest.raises(InputError, match=r"a\.png is no whole picture .*copy"):
        pictures.open_rgb("a.png", bytes(content))


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description %s</x:xmpmeta>'
FORMS = {"attribute": b'tiff:Orientation="6"/>', "quotes": b"tiff:Orientation='6'/>"}
FORMS["element"] = b"><tiff:Orientation>6</tiff:Orientation></rdf:Description>"


def with_exif(folder, kind, entries, xmp=None):
    """A picture whose EXIF was made by other programs, 60 x 40, blue above and red below."""
    picture = Image.new("RGB", (60, 40), "red")
    picture.paste("blue", (0, 0, 60, 20))
    path = folder / f"a.{kind.lower()}"
    if kind == "TIFF":
        stored = np.asarray(picture, np.uint64)
        tags = entries | {700: ("B", list(xmp))} if xmp else entries
        path.write_bytes(tiff(stored, 8, 2, tags=tags))
        return path
    exif = b""
    if entries:
        stored = tiff(np.zeros((1, 1, 1), np.uint64), 8, 1, tags=entries)
        exif = stored if kind == "PNG" else b"Exif\0\0" + stored
    options = {"exif": exif, "xmp": xmp or b""}
    if kind == "PNG":
        odd = [chunk(b"eXIf", exif)] if exif else []
        odd += [chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)] if xmp else []
        path.write_bytes(png(np.asarray(picture, np.uint64), 8, 2, *odd))
    elif kind == "MPO":
        picture.save(path, kind, exif=exif, save_all=True, append_images=[picture], quality=95)
    else:
        picture.save(path, kind, quality=95, **options)
    return path


ODD_EXIF = {
    "negative resolution": {282: ("l", [-5])},
    "maker of numbers": {271: ("L", [7])},
    "fraction of text": {282: ("s", b"high\0")},
    "too large a number": {296: ("L", [70_000])},
    "directory far away": {34853: ("L", [2**31])},
    "directory that is text": {34665: ("s", b"exif\0")},
    "directory before the file": {34665: ("l", [-9])},
}


@pytest.mark.parametrize("odd", ODD_EXIF)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "MPO"])
def test_exif_that_pillow_cannot_write_back_turns_a_picture_nevertheless(tmp_path, kind, odd):
    path = with_exif(tmp_path, kind, ODD_EXIF[odd] | {274: ("H", [6])})
    upright = pictures.open_rgb(path)
    assert upright.size == (40, 60)
    assert upright.getpixel((35, 30))[2] > 180 and upright.getpixel((5, 30))[0] > 180


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_xmp_turns_a_picture_of_which_exif_says_nothing(tmp_path, kind, form):
    assert pictures.open_rgb(with_exif(tmp_path, kind, {}, XMP % FORMS[form])).size == (40, 60)
    both = with_exif(tmp_path, kind, {274: ("H", [1])}, XMP % FORMS[form])
    assert pictures.open_rgb(both).size == (60, 40)


@pytest.mark.parametrize("turn", range(10))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_turn_is_that_of_pillow(tmp_path, kind, turn):
    path = with_exif(tmp_path, kind, {274: ("H", [turn])})
    with Image.open(path) as image:
        expected = ImageOps.exif_transpose(image).convert("RGB")
    assert (np.asarray(pictures.open_rgb(path)) == np.asarray(expected)).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_junk_in_place_of_exif_is_passed_over(tmp_path, kind):
    picture = Image.new("RGB", (60, 40), "red")
    picture.save(tmp_path / "a", kind, exif=b"Exif\0\0junkjunkjunk")
    assert pictures.open_rgb(tmp_path / "a").size == (60, 40)


def test_folders_that_look_like_photos_are_none_and_a_nas_keeps_its_own(tmp_path):
    touch(tmp_path, "a.jpg", "b.jpg/c.jpg", "@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg", "d/@eaDir/e.png")
    touch(tmp_path, "__MACOSX/f.jpg", "#recycle/g.jpg", "$RECYCLE.BIN/h.jpg", ".thumbnails/i.png")
    (tmp_path / "j.png").mkdir()
    assert pictures.read_unscored(tmp_path)["photo"].tolist() == ["a.jpg", "b.jpg/c.jpg"]


def test_every_name_of_a_jpeg_is_read(tmp_path):
    touch(tmp_path, "a.jfif", "b.JPE", "c.jpeg")
    assert pictures.read_unscored(tmp_path)["photo"].tolist() == ["a.jfif", "b.JPE", "c.jpeg"]


def test_linked_folders_are_looked_into_once_and_circles_end(tmp_path):
    touch(tmp_path, "in/z/a.jpg", "out/b.jpg", "out/deep/c.jpg")
    (tmp_path / "in" / "a link").symlink_to(tmp_path / "in" / "z")
    (tmp_path / "in" / "z" / "up").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "away").symlink_to(tmp_path / "out")
    (tmp_path / "out" / "back").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "d.jpg").symlink_to(tmp_path / "in" / "z" / "a.jpg")
    photos = pictures.read_unscored(tmp_path / "in")["photo"].tolist()
    assert photos == ["away/b.jpg", "away/deep/c.jpg", "d.jpg", "z/a.jpg"]


def test_what_is_passed_over_is_counted_in_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "_reads_avif", lambda: False)
    touch(tmp_path, "a.jpg", "b.HEIC", "c/d.heif", "e.avif", "f.nef", "g.psd", "notes.txt", "h.mov")
    (tmp_path / "i.jpg").symlink_to(tmp_path / "lost.jpg")
    (tmp_path / "closed").mkdir()
    scan = os.scandir

    def refused(place):
        if str(place).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scan(place)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.warns(Note) as told:
        assert pictures.read_unscored(tmp_path)["photo"].tolist() == ["a.jpg"]
    (said,) = [str(warning.message) for warning in told]
    assert said.startswith(f"In {tmp_path} were passed over: 1 unreadable folder (such as closed/)")
    assert "1 name without a file (such as i.jpg)" in said
    assert "2 HEIC photos (such as b.HEIC; convert to JPEG, or install pillow-heif)" in said
    assert "1 AVIF photo (such as e.avif; convert to JPEG)" in said
    assert "1 raw file (such as f.nef; save as JPEG), 1 other picture (such as g.psd;" in said
    assert "txt" not in said and "mov" not in said
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(InputError, match=r"holds no photos \(passed over: .*HEIC.*name a folder"):
        pictures.read_unscored(tmp_path)


def test_a_heic_is_read_where_its_reader_is_and_else_named(tmp_path, monkeypatch):
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)
    (tmp_path / "a.heic").write_bytes(heic)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for given in ((tmp_path / "a.heic",), ("a.heic", heic)):
        with pytest.raises(InputError, match=r"a\.heic is a HEIC photo; convert it to JPEG, or"):
            pictures.open_rgb(*given)
    reader = types.ModuleType("pillow_heif")

    class Heif(ImageFile.ImageFile):
        format = "HEIF"

        def _open(self):
            self._mode, self._size = "RGB", (4, 2)
            self.info |= {"exif": None, "xmp": XMP % FORMS["attribute"]}  # turned by the reader
            self.tile = []

        def load(self):
            self.im = Image.new("RGB", (4, 2), "blue").im

    def register():
        Image.register_open("HEIF", Heif, lambda head: head[4:12] == b"ftypheic")

    reader.register_heif_opener = register
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    monkeypatch.setitem(sys.modules, "pillow_heif", reader)
    for given in ((tmp_path / "a.heic",), ("a.heic", heic)):
        picture = pictures.open_rgb(*given)
        assert picture.size == (4, 2) and picture.getpixel((0, 0)) == (0, 0, 255)
    assert pictures.read_unscored(tmp_path)["photo"].tolist() == ["a.heic"]
    assert ".heic" in pictures.endings()


@pytest.mark.skipif(not pictures._reads_avif(), reason="this Pillow was built without AVIF")
def test_an_avif_is_read_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40), "red").save(tmp_path / "a.avif", exif=exif)
    content = (tmp_path / "a.avif").read_bytes()
    for given in ((tmp_path / "a.avif",), ("a.avif", content)):
        assert pictures.open_rgb(*given).size == (40, 60)
    assert pictures.read_unscored(tmp_path)["photo"].tolist() == ["a.avif"]


def test_what_a_nas_keeps_hides_no_photo_of_a_public_set(tmp_path):
    touch(
        tmp_path, "eva/x/7.jpg", "eva/x/@eaDir/7.jpg/small.jpg", "eva/z/@eaDir/8.jpg", "eva/y/8.jpg"
    )
    votes = "image_id=user_id=score\n7=1=8\n8=1=0\n"
    (tmp_path / "eva" / "data").mkdir()
    (tmp_path / "eva" / "data" / "votes_filtered.csv").write_text(votes)
    paths = sources.read_eva(tmp_path / "eva").table.path
    assert paths.tolist() == [f"{tmp_path}/eva/x/7.jpg", f"{tmp_path}/eva/y/8.jpg"]
    touch(tmp_path, "aadb/x/7.jpg", "aadb/8.jpg", "aadb/z/7.jpg/a.txt")
    touch(tmp_path, "aadb/@eaDir/imgListRegression_score.txt/SYNOINDEX")
    (tmp_path / "aadb" / "imgListRegression_score.txt").write_text("7.jpg 0.65\n8.jpg 0.05\n")
    paths = sources.read_aadb(tmp_path / "aadb").table.path
    assert paths.tolist() == [f"{tmp_path}/aadb/x/7.jpg", f"{tmp_path}/aadb/8.jpg"]
