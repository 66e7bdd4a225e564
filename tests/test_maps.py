"""Maps of photos as files, and the masks, contours and boxes of highlight regions."""

import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import ndimage

from rsrl_lib import activation, highlight, pixels, plots
from rsrl_lib.interface import map_commands
from rsrl_lib.network import aesthetic_net, save_network
from rsrl_lib.reading.pictures import open_rgb
from rsrl_lib.runs import open_run
from tests.test_choosing import run
from tests.test_cli import folder, gap_run, refused, rsrl

__all__ = ["folder", "gap_run", "run"]  # fixtures
pytestmark = pytest.mark.usefixtures("small_crops")


@pytest.fixture
def album(folder, tmp_path):
    """Three photos of other aspects, two of one name in other folders."""
    album = tmp_path / "album"
    (album / "2019").mkdir(parents=True)
    for place, source, size in (
        ("wide.png", "00.png", (300, 100)),
        ("2019/wide.jpg", "20.png", (80, 120)),
        ("2019/b.jpg", "40.png", (64, 48)),
    ):
        Image.open(folder / source).resize(size).save(album / place)
    return album


def written(out):
    return sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())


def maps_of(run, album):
    """What the library says of the photos of the album, in the order of their names."""
    network = open_run(run).network()
    paths = ["2019/b.jpg", "2019/wide.jpg", "wide.png"]
    table = pd.DataFrame({"photo": paths, "path": [str(album / path) for path in paths]})
    decoded, _ = pixels.decode(table, cache=album.parent / "cache")
    view = {"shrink_to": open_run(run).view["shrink_to"]}
    crops = decoded.crops(range(3), view="whole")
    return network, crops, view


def test_maps_of_a_level_are_written_under_the_photos_names(monkeypatch, gap_run, album, tmp_path):
    out = tmp_path / "out"
    rsrl(monkeypatch, "maps", "--run", gap_run, album, "--out", out)
    stems = ["2019/b", "2019/wide", "wide"]
    files = [f"{stem}_aesam.{ending}" for stem in stems for ending in ("npy", "png")]
    assert written(out) == sorted([*files, "maps_aesam.csv"])
    table = pd.read_csv(out / "maps_aesam.csv")
    assert list(table) == map_commands.MAP_COLUMNS
    assert table.photo.tolist() == [
        f"{album}/{name}" for name in ("2019/b.jpg", "2019/wide.jpg", "wide.png")
    ]
    network, crops, view = maps_of(gap_run, album)
    for row, own in zip(
        table.itertuples(), activation.activation_maps(network, crops, **view), strict=True
    ):
        values = np.load(out / row.array)
        assert values.dtype == np.float32 and values.shape == (row.rows, row.columns)
        np.testing.assert_allclose(values, own.high, rtol=1e-4, atol=1e-6)
        assert row.of == "high" and row.mean == pytest.approx(values.mean(), rel=1e-3)
        assert (row.lowest, row.highest) == pytest.approx((values.min(), values.max()), rel=1e-3)
    wide = Image.open(out / "wide_aesam.png")
    assert wide.width == 640 and wide.height == round(640 / 3) + 74  # the photo, and its bar


def test_the_part_of_one_of_several_backbones_is_written(monkeypatch, run, album, tmp_path):
    names = ("squeezenet1_1", "resnet18")
    network = aesthetic_net(names, [3, 4, 5], weights="none")
    joined = shutil.copytree(run.folder, tmp_path / "joined")
    save_network(network, joined / "network_best.safetensors", round=1)
    network, crops, view = maps_of(joined, album)
    for name in names:
        out = tmp_path / name
        words = ["maps", "--run", joined, album, "--out", out, "--backbone", name]
        rsrl(monkeypatch, *words)
        table = pd.read_csv(out / "maps_aesam.csv")
        assert set(table.of) == {f"high ({name})"}
        expected = activation.activation_maps(network, crops, backbone=name, **view)
        for row, own in zip(table.itertuples(), expected, strict=True):
            np.testing.assert_allclose(np.load(out / row.array), own.high, rtol=1e-3, atol=1e-6)


def test_maps_of_attributes_are_of_the_likeliest_or_of_the_one_asked_for(
    monkeypatch, gap_run, album, tmp_path
):
    network, crops, view = maps_of(gap_run, album)
    maps = activation.activation_maps(network, crops, top=9, **view)
    words = ["maps", "--run", gap_run, album, "--kind", "attam", "--out"]
    rsrl(monkeypatch, *words, tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "maps_attam.csv")
    assert table.of.tolist() == [next(iter(own.attributes)) for own in maps]
    rsrl(monkeypatch, *words, tmp_path / "red", "--of", "colour=red")
    table = pd.read_csv(tmp_path / "red" / "maps_attam.csv")
    assert set(table.of) == {"colour=red"}
    for row, own in zip(table.itertuples(), maps, strict=True):
        values = np.load(tmp_path / "red" / row.array)
        np.testing.assert_allclose(values, own.attributes["colour=red"], rtol=1e-4, atol=1e-6)


def test_grad_cam_is_written_for_a_head_of_several_layers(monkeypatch, run, album, tmp_path):
    network = aesthetic_net("alexnet", [3, 4, 5], weights="none")
    alexnet = shutil.copytree(run.folder, tmp_path / "alexnet")
    save_network(network, alexnet / "network_best.safetensors", round=1)
    words = ["maps", "--run", alexnet, album, "--out", tmp_path / "out"]
    said = refused(monkeypatch, *words)
    assert "do not exist for the several fully connected layers of this alexnet" in said
    assert "rsrl maps --kind gradcam" in said
    rsrl(monkeypatch, *words, "--kind", "gradcam", "--of", "5")
    table = pd.read_csv(tmp_path / "out" / "maps_gradcam.csv")
    network, crops, view = maps_of(alexnet, album)
    expected = activation.grad_cam_maps(network, crops, "5", **view)
    for row, own in zip(table.itertuples(), expected, strict=True):
        np.testing.assert_allclose(np.load(tmp_path / "out" / row.array), own, rtol=1e-3, atol=1e-7)
    assert table.highest.max() > 0 and (table.lowest >= 0).all()


def test_kinds_of_maps_lie_beside_one_another(monkeypatch, gap_run, album, tmp_path):
    for kind in ("aesam", "gradcam", "aesam"):
        rsrl(
            monkeypatch, "maps", "--run", gap_run, album, "--kind", kind, "--out", tmp_path / "out"
        )
    files = written(tmp_path / "out")
    assert len(files) == 2 * (1 + 2 * 3)
    aesam, cam = (np.load(tmp_path / "out" / f"wide_{kind}.npy") for kind in ("aesam", "gradcam"))
    positive = np.maximum(aesam, 0)
    np.testing.assert_allclose(cam * cam.size, positive, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--of", "7"], "--of 7 is no level of"),
        (["--of", "sky"], "give one of high, low."),
        (["--backbone", "vgg16"], "no backbone 'vgg16'; it has alexnet: name one"),
        (["--backbone", "vgg16", "--kind", "gradcam"], "--backbone vgg16 is for --kind aesam"),
        (["--kind", "attam", "--of", "sky"], "--of sky is no attribute of"),
        (["--kind", "attam", "--of", "high"], "give one of sharp, colour=blue"),
    ],
)
def test_maps_of_what_a_network_does_not_know_are_refused(
    monkeypatch, gap_run, tmp_path, words, says
):
    places = ["maps", "--run", gap_run, tmp_path / "never_read.png", "--out", tmp_path / "out"]
    assert says in refused(monkeypatch, *places, *words)
    assert not list(tmp_path.glob("out/*"))


def test_maps_that_a_network_cannot_have_are_refused(monkeypatch, run, folder, tmp_path):
    words = ["maps", "--run", run.folder, folder / "00.png", "--out", tmp_path / "out"]
    said = refused(monkeypatch, *words, "--kind", "attam")
    assert f"--kind attam needs a network with attributes, {run.folder} has none" in said
    timm = pytest.importorskip("timm", reason="timm is not installed")
    assert timm
    other = shutil.copytree(run.folder, tmp_path / "other")
    network = aesthetic_net("timm:test_resnet", [3, 4], weights="none")
    save_network(network, other / "network_best.safetensors", round=1)
    words[2] = other
    said = refused(monkeypatch, *words, "--kind", "gradcam")
    assert "Grad-CAM is here for alexnet" in said and "(--kind aesam)" in said


def test_a_broken_photo_is_refused_or_left_out(monkeypatch, gap_run, album, tmp_path, capsys):
    (album / "broken.jpg").write_bytes(b"no picture")
    words = ["maps", "--run", gap_run, album, "--out", tmp_path / "out"]
    assert "broken.jpg is no whole picture" in refused(monkeypatch, *words)
    rsrl(monkeypatch, *words, "--skip-broken")
    assert len(pd.read_csv(tmp_path / "out" / "maps_aesam.csv")) == 3
    said = capsys.readouterr()
    assert "left out: " in said.err and "3 photos: pictures and arrays of AesAM" in said.out
    said = refused(monkeypatch, *words[:3], album / "broken.jpg", *words[4:], "--skip-broken")
    assert "There is nothing to map: the only photo had to be left out" in said


def test_maps_are_not_written_over_photos(monkeypatch, gap_run, folder, tmp_path):
    photo = tmp_path / "a_aesam.png"
    shutil.copy(folder / "00.png", photo)
    shutil.copy(folder / "01.png", tmp_path / "a.png")
    before = photo.read_bytes()
    words = ["maps", "--run", gap_run, tmp_path / "a.png", "--out", tmp_path]
    assert "holds a_aesam.png, and no maps_aesam.csv" in refused(monkeypatch, *words)
    words.insert(3, photo)
    assert "holds photos that maps_aesam would overwrite" in refused(monkeypatch, *words)
    assert photo.read_bytes() == before


def test_the_picture_of_a_map_is_coloured_where_the_map_is_not_zero():
    photo = Image.new("RGB", (640, 320), (120, 120, 120))
    values = np.zeros((4, 4), np.float32)
    values[0, 0], values[3, 3] = 2, -2
    shown = np.asarray(plots.map_picture(photo, values, 2.0, "AesAM of high")).astype(int)
    assert shown.shape == (320 + 74, 640, 3)
    orange, purple, middle = shown[5, 5], shown[314, 634], shown[314, 5]
    assert orange[0] > orange[2] + 50 and purple[2] > purple[1] + 30
    assert np.ptp(middle) == 0 and 100 < middle[0] < 150  # grey, as the photo
    positive = plots.map_picture(photo, np.abs(values), 2.0, "Grad-CAM of 5", signed=False)
    bar = np.asarray(positive).astype(int)[320 + 41, 141:499]
    assert (bar[:, 0] >= bar[:, 2]).all()  # no purple in it


def highlighted(monkeypatch, run, out, *photos):
    rsrl(monkeypatch, "highlight", "--run", run.folder, "--rounds", "2", "1", *photos, "--out", out)
    return pd.read_csv(out / "highlights.csv")


def test_highlights_have_masks_contours_and_the_box_of_the_largest_part(
    monkeypatch, run, album, tmp_path
):
    out = tmp_path / "out"
    table = highlighted(monkeypatch, run, out, album)
    names = ["2019/b.png", "2019/wide.png", "wide.png"]
    files = [f"{folder}{name}" for folder in ("", "masks/", "contours/") for name in names]
    assert written(out) == sorted([*files, "highlights.csv"])
    several = 0
    for row, name in zip(table.itertuples(), names, strict=True):
        photo = open_rgb(row.photo)
        mask = Image.open(out / "masks" / name)
        assert (mask.mode, mask.size) == ("L", photo.size)
        inside = np.asarray(mask)
        assert set(np.unique(inside)) == {0, 255}
        assert (inside == 255).mean() == pytest.approx(row.area_share)
        contour = np.asarray(Image.open(out / "contours" / name)).astype(int)
        assert contour.shape == (*photo.size[::-1], 3)
        is_drawn = (contour != np.asarray(photo)).any(-1)
        assert 0 < is_drawn.mean() < 1
        box = inside[row.top : row.top + row.height, row.left : row.left + row.width]
        several += (box == 255).sum() < (inside == 255).sum()
    assert several  # in some photo the region has parts outside the box


def test_the_box_of_a_highlight_leaves_out_what_is_not_of_its_largest_part():
    region = np.zeros((64, 64), bool)
    region[10:30, 20:50] = True
    region[60, 2] = region[0, 63] = True
    found = highlight.Highlight(0, np.ones(1), *[region * 1.0] * 3, region)
    facts = found.facts((128, 64))
    assert [facts[name] for name in ("left", "top", "width", "height")] == [40, 10, 60, 20]
    assert facts["area_share"] == region.mean()
    parts, _ = ndimage.label(region)
    assert (pixels.largest_part(region) == (parts == parts[15, 30])).all()
    assert not pixels.largest_part(np.zeros((3, 3), bool)).any()


def test_a_contour_changes_nothing_but_the_border_of_the_region():
    photo = Image.effect_noise((400, 400), 60).convert("RGB")
    mask = np.zeros((400, 400), bool)
    mask[100:300, 100:300] = True
    drawn = np.asarray(plots.contoured(photo, Image.fromarray(mask)))
    changed = (drawn != np.asarray(photo)).any(-1)
    border = ndimage.binary_dilation(mask, iterations=4) & ~ndimage.binary_erosion(
        mask, iterations=4
    )
    assert changed.any() and not (changed & ~border).any()
    assert changed[100, 150:250].mean() > 0.9
