import io
import struct

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from rsrl_lib import cropping as c
from rsrl_lib.activation import ActivationMaps
from rsrl_lib.files import InputError
from rsrl_lib.reading.pictures import open_rgb
from tests.odd_pictures import chunk, png, ramp, tiff, whole
from tests.test_pictures import FORMS, ODD_EXIF, PASSED_OVER, XMP, with_exif

SIDE = 256


def spot(*boxes, low=0.0):
    """A map at the size of the view that is 1 inside some boxes."""
    values = np.full((SIDE, SIDE), low, np.float32)
    for left, top, right, foot in boxes:
        values[top:foot, left:right] = 1
    return values


def test_the_region_is_the_box_of_the_largest_connected_part_above_30_percent():
    values = spot((10, 20, 60, 50), (100, 100, 140, 140), low=-1)
    values[0:4, 200:256] = 0.29
    values[140:180, 120:125] = 0.31  # hangs on to the second part
    assert c.region_box(values) == (100, 100, 140, 180)
    values[140:180, 120:125] = 0.29
    assert c.region_box(values) == (100, 100, 140, 140)


def test_a_box_is_scaled_to_the_pixels_of_the_photo():
    box, reason = c.crop_box(spot((64, 128, 192, 256)), (1024, 300))
    assert (box, reason) == ((256, 150, 768, 300), "")


def test_pixels_that_the_box_touches_belong_to_the_crop():
    box, _ = c.crop_box(spot((65, 65, 130, 130)), (100, 100))  # from 25.4 to 50.8 pixels
    assert box == (25, 25, 51, 51)


def test_a_coarse_map_is_enlarged_before_it_is_cut():
    values = np.zeros((8, 8), np.float32)
    values[2, 5] = 1  # its centre lies at 176, 80; bilinear weight 0.3 is 0.7 cells = 22 px away
    assert np.allclose(c.region_box(values), (154, 58, 198, 102), atol=1)


@pytest.mark.parametrize("values", [np.zeros((7, 7)), np.full((7, 7), -2.0), spot(low=-1)])
def test_a_map_without_a_positive_value_keeps_the_whole_photo_and_says_so(values):
    box, reason = c.crop_box(values, (90, 60), aspect=1)
    assert (box, reason) == ((0, 0, 90, 60), "the map's maximum is not positive")


def test_a_constant_map_keeps_the_whole_photo_and_says_so():
    box, reason = c.crop_box(np.full((7, 7), 0.1), (90, 60))
    assert (box, reason) == ((0, 0, 90, 60), "the crop reaches all four edges")


def test_iou_is_intersection_over_union():
    assert c.overlap((0, 0, 4, 4), (2, 2, 6, 6)) == pytest.approx(4 / 28)
    assert c.overlap((0, 0, 4, 4), (0, 0, 4, 4)) == 1
    assert c.overlap((0, 0, 4, 4), (4, 0, 8, 4)) == c.overlap((0, 0, 1, 1), (3, 3, 4, 4)) == 0


def test_boxes_are_averaged_when_they_overlap_by_30_percent_and_not_below():
    aes, near, far = (spot(box) for box in ((0, 0, 100, 100), (50, 0, 150, 100), (56, 0, 156, 100)))
    size = (SIDE, SIDE)
    assert c.crop_box(aes, size, att=near)[0] == (25, 0, 125, 100)  # IoU 1/3
    assert c.crop_box(aes, size, att=far)[0] == (0, 0, 100, 100)  # IoU 44/156
    assert c.crop_box(aes, size, att=-near)[0] == (0, 0, 100, 100)  # no region at all


def test_boxes_that_overlap_by_exactly_the_iou_agree():
    aes, att = spot((0, 0, 100, 100)), spot((50, 0, 150, 100))
    size = (SIDE, SIDE)
    assert c.agreement(aes, att) == pytest.approx(1 / 3)
    exact = c.agreement(aes, att)
    assert c.crop_box(aes, size, att=att, iou=exact)[0] == (25, 0, 125, 100)
    above = np.nextafter(exact, 1)
    assert c.crop_box(aes, size, att=att, iou=above)[0] == (0, 0, 100, 100)


def test_the_threshold_decides_whether_boxes_agree():
    aes = spot((0, 0, 100, 100))
    att = 0.5 * spot((0, 0, 100, 100)) + 0.5 * spot((0, 0, 30, 30))
    assert c.agreement(aes, att) == 1
    assert c.agreement(aes, att, threshold=0.6) == pytest.approx(0.09)
    assert c.crop_box(aes, (SIDE, SIDE), att=att, threshold=0.6, iou=0.05)[0] == (0, 0, 65, 65)


def test_a_map_without_a_box_agrees_with_none_whatever_iou_is_asked():
    aes, nothing = spot((0, 0, 100, 100)), spot(low=-1)
    assert np.isnan(c.agreement(aes, nothing)) and np.isnan(c.agreement(nothing, aes))
    assert c.crop_box(aes, (SIDE, SIDE), att=nothing, iou=0)[0] == (0, 0, 100, 100)


def test_a_photo_is_cropped_by_the_level_by_an_attribute_or_by_both():
    high, sky, dog = np.eye(3), np.ones((3, 3)), np.zeros((3, 3))
    maps = ActivationMaps({"low": -high, "high": high}, {"sky": sky, "dog": dog})
    assert c.maps_to_crop_by(maps, "aes") == (high, None)
    assert c.maps_to_crop_by(maps, "att") == (sky, None)
    assert c.maps_to_crop_by(maps, "both") == (high, sky)
    plain = ActivationMaps({"low": -high, "high": high}, {})
    assert c.maps_to_crop_by(plain, "aes")[0] is high
    for which in ("att", "both"):
        with pytest.raises(InputError, match=rf"'{which}' needs a network with attributes"):
            c.maps_to_crop_by(plain, which)
    with pytest.raises(InputError, match=r"map must be one of aes, att, both, not 'AES'"):
        c.maps_to_crop_by(maps, "AES")


@pytest.mark.parametrize("share", [-0.1, 1.01, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["threshold", "iou"])
def test_a_share_outside_0_to_1_is_refused(name, share):
    with pytest.raises(InputError, match=rf"^{name} must lie in 0..1, not {share:g}\.$"):
        c.crop_box(np.eye(7), (9, 9), **{name: share})
    for good in (0, 1):
        c.crop_box(np.eye(7), (9, 9), **{name: good})


@pytest.mark.parametrize(
    ("region", "size", "aspect", "expected"),
    [
        ((64, 64, 128, 128), (512, 512), 1.5, (96, 128, 288, 256)),  # grows about its centre
        ((0, 0, 64, 64), (512, 512), 1.5, (0, 0, 192, 128)),  # and is pushed back inside
        ((0, 96, 256, 160), (300, 400), 0.5, (50, 0, 250, 400)),  # shrinks where the photo ends
        ((0, 0, 128, 256), (1000, 100), 1.5, (175, 0, 325, 100)),  # a 10:1 panorama
        ((100, 0, 101, 256), (100, 1000), 1.5, (0, 466, 100, 533)),
        ((0, 0, 256, 256), (1, 1), 1.5, (0, 0, 1, 1)),
    ],
)
def test_a_crop_has_the_aspect_asked_for_and_lies_inside_the_photo(region, size, aspect, expected):
    assert c.crop_box(spot(region), size, aspect=aspect)[0] == expected


def test_every_crop_lies_inside_its_photo_and_keeps_aspect_and_size():
    rng = np.random.default_rng(0)
    for _trial in range(200):
        width, height = rng.integers(1, 400, 2).tolist()
        values = rng.standard_normal((6, 6))
        aspect = float(rng.uniform(0.2, 5))
        (left, top, right, foot), _ = c.crop_box(values, (width, height), aspect=aspect)
        assert 0 <= left < right <= width and 0 <= top < foot <= height
        assert abs((right - left) - aspect * (foot - top)) <= 0.5 * (1 + aspect) + 1e-9 or (
            min(right - left, foot - top) == 1
        )


def test_a_crop_grows_to_the_smallest_size_or_the_photo_stays_whole():
    region = spot((100, 100, 110, 160))
    assert c.crop_box(region, (256, 256), least=40)[0] == (85, 100, 125, 160)
    assert c.crop_box(region, (256, 256), least=60, aspect=2)[0] == (45, 100, 165, 160)
    whole = (0, 0, 256, 50), "no crop with sides of 60 pixels or more fits"
    assert c.crop_box(region, (256, 50), least=60) == whole


def test_a_photo_of_one_pixel_is_its_own_crop():
    assert c.crop_box(np.eye(7), (1, 1)) == ((0, 0, 1, 1), "the crop reaches all four edges")


@pytest.mark.parametrize("text", ["3", "3:0", "a:b", "3:2:1", "-3:2", "nan:1", "inf:1"])
def test_an_aspect_ratio_that_is_none_is_refused(text):
    assert c.aspect_ratio("16:9") == 16 / 9
    with pytest.raises(InputError, match=r"give width:height, such as 3:2"):
        c.aspect_ratio(text)


@pytest.mark.parametrize(
    ("ending", "mode"),
    [("png", "RGB"), ("png", "I;16"), ("png", "P"), ("tif", "RGB"), ("jpg", "L"), ("jpg", "CMYK")],
)
def test_a_crop_is_upright_and_keeps_mode_exif_and_profile(tmp_path, ending, mode):
    ramp = np.add.outer(np.arange(40), 2 * np.arange(60)).astype(np.uint8)
    turned = Image.fromarray(ramp.astype(np.uint16) * 257 if mode == "I;16" else ramp)
    turned = turned if mode == "I;16" else turned.convert("RGB").convert(mode)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Make] = 6, "Camera"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path, target = tmp_path / f"a.{ending}", tmp_path / f"b.{ending}"
    turned.save(path, exif=exif, icc_profile=profile, quality=100, subsampling=0)
    c.save_crop(path, (5, 10, 35, 50), target)
    expected = turned.transpose(Image.Transpose.ROTATE_270).crop((5, 10, 35, 50))
    with Image.open(target) as made:
        assert (made.mode, made.size, made.info["icc_profile"]) == (mode, (30, 40), profile)
        assert made.getexif()[ExifTags.Base.Make] == "Camera"
        assert ExifTags.Base.Orientation not in made.getexif()
        pixels = np.asarray(made).astype(int)
    assert np.abs(pixels - np.asarray(expected)).max() <= (6 if ending == "jpg" else 0)


def test_a_photo_of_a_format_that_cannot_be_written_is_named(tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"b\.png cannot be written as PNG.*convert the photo"):
        c.save_crop(tmp_path / "a.png", (0, 0, 3, 3), tmp_path / "nowhere" / "b.png")


BOX = (4, 6, 30, 21)


def cropped(path, box=BOX):
    """A crop's bytes; what it is opened as has the size of the box, however often it is opened."""
    target = io.BytesIO()
    c.save_crop(path, box, target)
    size = (box[2] - box[0], box[3] - box[1])
    assert open_rgb("crop", target.getvalue()).size == size
    with Image.open(target) as made:
        assert made.size == size
    return target.getvalue()


@pytest.mark.parametrize("odd", ODD_EXIF)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "MPO"])
def test_a_crop_is_written_without_the_tags_that_pillow_cannot_write(tmp_path, kind, odd):
    good = {272: ("s", b"Model\0"), 274: ("H", [6])}
    made = cropped(with_exif(tmp_path, kind, ODD_EXIF[odd] | good))
    with Image.open(io.BytesIO(made)) as image:
        exif = image.getexif()
    assert exif[ExifTags.Base.Model] == "Model"
    for tag, (letter, _values) in ODD_EXIF[odd].items():
        assert tag not in exif or (letter == "s" and tag == 34665)


def test_a_crop_keeps_what_is_true_of_it(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Artist], exif[ExifTags.Base.Make] = "José".encode(), "Camera"
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.ImageDescription] = 6, "a bird"
    inner, place = exif.get_ifd(ExifTags.IFD.Exif), exif.get_ifd(ExifTags.IFD.GPSInfo)
    inner |= {33437: 2.8, 36867: "2020:01:02 03:04:05", 40962: 60, 40963: 40, 37396: (9, 9)}
    inner |= {37500: b"thumbnails", 42016: "0" * 32}
    place |= {1: "N", 2: (48.0, 51.0, 29.5), 5: b"\0", 6: 35.5}
    Image.new("RGB", (60, 40), "red").save(tmp_path / "a.jpg", exif=exif, comment=b"hello")
    with Image.open(io.BytesIO(cropped(tmp_path / "a.jpg"))) as made:
        kept = made.getexif()
        assert made.info["comment"] == b"hello"
    assert {*kept} - {34665, 34853} == {270, 271, 315}
    assert kept[315].encode("latin-1") == "José".encode()
    assert {*kept.get_ifd(ExifTags.IFD.Exif)} == {33437, 36867}
    assert kept.get_ifd(ExifTags.IFD.GPSInfo) == dict(place)
    assert kept.get_ifd(ExifTags.IFD.IFD1) == {}


@pytest.mark.parametrize("deflate", [False, True], ids=["as it is", "deflated"])
@pytest.mark.parametrize("form", FORMS)
def test_a_crop_of_a_tiff_keeps_nothing_of_the_whole_photo(tmp_path, form, deflate):
    tags = {700: ("B", list(XMP % FORMS[form])), 37724: ("U", b"Adobe Photoshop Document Data")}
    tags |= {
        34377: ("B", list(b"8BIM\4\x0c\0\0" + bytes(9))),
        330: ("L", [8]),
        42112: ("s", b"a\0"),
    }
    tags |= {
        33550: ("d", [1.0] * 3),
        270: ("s", b'{"shape": [40, 60, 3]}\0'),
        271: ("s", b"Make\0"),
    }
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(whole(ramp(3, 40, 60), 8), 8, 2, deflate=deflate, tags=tags))
    upright = open_rgb(path)
    assert upright.size == (40, 60)
    made = cropped(path)
    with Image.open(io.BytesIO(made)) as image:
        known = {*image.tag_v2}
        assert image.info["compression"] == ("tiff_adobe_deflate" if deflate else "raw")
    assert known <= {256, 257, 258, 259, 262, 271, 273, 277, 278, 279, 284, 338, 339}
    assert 271 in known
    expected = np.asarray(upright.crop(BOX))
    assert (np.asarray(open_rgb("crop", made)) == expected).all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_crop_is_not_turned_again_by_xmp(tmp_path, kind, form):
    made = cropped(with_exif(tmp_path, kind, {}, XMP % FORMS[form]))
    assert b"Orientation" not in made


def test_a_crop_has_no_small_copy_of_the_whole_photo_and_no_second_picture(tmp_path):
    path = with_exif(tmp_path, "MPO", {274: ("H", [1])})
    with Image.open(path) as image:
        assert (image.format, image.n_frames) == ("MPO", 2)
    with Image.open(io.BytesIO(cropped(path))) as made:
        assert made.format == "JPEG" and "mp" not in made.info
    # EXIF with a second directory, which is the thumbnail's.
    first = struct.pack("<HHHLLL", 1, 274, 3, 1, 6, 26)
    second = struct.pack("<HHHLLHHLLL", 2, 513, 4, 1, 56, 514, 4, 1, 9, 0) + b"thumbnail"
    exif = b"Exif\0\0II*\0\x08\0\0\0" + first + second
    Image.new("RGB", (60, 40), "red").save(tmp_path / "a.jpg", exif=exif)
    with Image.open(tmp_path / "a.jpg") as image:
        assert 513 in image.getexif().get_ifd(ExifTags.IFD.IFD1)
    assert b"thumbnail" not in cropped(tmp_path / "a.jpg")


@pytest.mark.parametrize("name", PASSED_OVER)
def test_a_png_is_cropped_whatever_viewers_pass_over(tmp_path, name):
    (tmp_path / "a.png").write_bytes(png(whole(ramp(3), 8), 8, 2, PASSED_OVER[name]))
    assert len(cropped(tmp_path / "a.png")) < 10_000


ODD_SAMPLES = {"12 bits": (12, 1), "16 bits": (16, 1), "white is zero": (16, 0), "32 bits": (32, 1)}


@pytest.mark.parametrize("name", ODD_SAMPLES)
def test_a_crop_of_odd_samples_is_a_usual_tiff_of_the_same_picture(tmp_path, name):
    bits, colour = ODD_SAMPLES[name]
    values = whole(ramp() / ramp().max(), min(bits, 16))
    stored = values if colour else 65535 - values
    (tmp_path / "a.tif").write_bytes(tiff(stored, bits, colour))
    expected = np.asarray(open_rgb(tmp_path / "a.tif").crop(BOX))
    made = cropped(tmp_path / "a.tif")
    assert (np.asarray(open_rgb("crop", made)) == expected).all()
    with Image.open(io.BytesIO(made)) as image:
        assert image.mode == "I;16" and image.tag_v2[262] == 1


def test_a_transparent_grey_of_16_bits_is_kept(tmp_path):
    stored = whole(ramp(), 16)
    stored[10:14, 9:15] = 777
    content = png(stored, 16, 0, chunk(b"tRNS", struct.pack(">H", 777)))
    (tmp_path / "a.png").write_bytes(content)
    expected = np.asarray(open_rgb(tmp_path / "a.png").crop(BOX))
    assert (expected[5, 6] == 255).all()
    assert (np.asarray(open_rgb("crop", cropped(tmp_path / "a.png"))) == expected).all()


def test_a_crop_of_what_is_no_photo_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"The photo is no whole picture"):
        c.save_crop(io.BytesIO(b"junk"), BOX, io.BytesIO())
