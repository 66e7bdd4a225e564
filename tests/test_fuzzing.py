"""Damaged and hostile input: every reader ends in success or in one sentence, quickly, in bounds.

RSRL_FUZZ_CASES=20 tries twenty times as many cases; each number gives the same ones every time.
"""

import io
import json
import os
import signal
import sys
import warnings
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import matplotlib.pyplot  # noqa: F401 - its first import makes folders of its own
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import EpsImagePlugin, Image
from scipy.io import savemat

from rsrl_lib import network, pixels, sources
from rsrl_lib.comparing import sweeps
from rsrl_lib.cropping import save_crop
from rsrl_lib.files import InputError
from rsrl_lib.interface import batch, cli, map_commands, photo_commands
from rsrl_lib.reading.pictures import open_rgb, read_unscored
from tests.conftest import draw_coloured_photos
from tests.odd_pictures import png, ramp, tiff, whole
from tests.test_pictures import FORMS, PASSED_OVER, XMP

pytestmark = pytest.mark.usefixtures("small_crops", "bounded_memory")
MORE = int(os.environ.get("RSRL_FUZZ_CASES", "1"))
MOST_MEMORY = 1 << 30  # of one test, beyond what there was before it
SECONDS = 30  # of one case; the slowest takes about one
TRIED = Counter()


def cases(count):
    checks = list(HealthCheck)
    how = {"derandomize": True, "database": None, "deadline": None, "suppress_health_check": checks}
    return settings(max_examples=count * MORE, **how)


@pytest.fixture(autouse=True)
def counted():
    yield
    print(f"{dict(TRIED)} so far")


class TooLong(BaseException):
    """No reader's `except Exception` takes it for bad input."""


def _stop(*_):
    raise TooLong(f"a case took more than {SECONDS} s")


def told(call, *args, **options):
    """What a call returns, or None where it says in one sentence what is wrong."""
    TRIED["all"] += 1
    before = signal.signal(signal.SIGALRM, _stop)
    signal.alarm(SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return call(*args, **options)
    except InputError as error:
        said = str(error)
        assert 20 < len(said) < 2000 and len(said.splitlines()) == 1, said
        assert said.endswith((".", "?")), said
        TRIED["refused"] += 1
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


HUGE = [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\xff\xff", b"\xff\xff\0\0", b"\0" * 4]


@st.composite
def damaged(draw, whole):
    """One of some files, with bytes changed, cut out, spliced in, or replaced by huge numbers."""
    data = bytearray(draw(st.sampled_from(whole)))
    for _ in range(draw(st.integers(1, 3))):
        # Headers lie at the start, so half of the damage does.
        reach = draw(st.sampled_from([min(64, len(data)), min(1024, len(data)), len(data)]))
        place = draw(st.integers(0, reach))
        kind = draw(st.sampled_from(["flip", "cut", "remove", "splice", "number", "noise"]))
        if kind == "flip" and place < len(data):
            data[place] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del data[place:]
        elif kind == "remove":
            del data[place : place + draw(st.integers(1, 64))]
        elif kind == "splice":
            other = draw(st.sampled_from(whole))
            data[place:] = other[draw(st.integers(0, len(other))) :]
        elif kind == "number":
            data[place : place + 4] = draw(st.sampled_from(HUGE))
        else:
            data[place:place] = draw(st.binary(max_size=24))
    return bytes(data)


def pictures():
    """Small files of every format, and of some that only pretend to be photos."""
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (18, 24, 3), dtype=np.uint8))
    deep = Image.fromarray(rng.integers(0, 65536, (18, 24)).astype(np.uint16))
    clear = rgb.copy()
    clear.putalpha(120)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "x" * 40
    ways = [("JPEG", rgb, {"exif": exif}), ("JPEG", rgb, {"progressive": True})]
    ways += [("JPEG", rgb.convert("CMYK"), {}), ("JPEG", rgb.convert("L"), {"dpi": (72, 72)})]
    ways += [("PNG", picture, {}) for picture in (rgb, clear, deep, rgb.convert("P"))]
    ways += [("PNG", rgb.convert("P"), {"transparency": 3})]
    ways += [("WEBP", rgb, {"lossless": lossless}) for lossless in (True, False)]
    ways += [("WEBP", rgb, {"save_all": True, "append_images": [clear]})]
    kinds = (None, "tiff_deflate", "tiff_lzw", "jpeg", "packbits")
    ways += [("TIFF", rgb, {"compression": kind}) for kind in kinds] + [("TIFF", deep, {})]
    ways += [("GIF", rgb, {}), ("GIF", rgb, {"save_all": True, "append_images": [clear]})]
    ways += [("BMP", rgb, {}), ("BMP", rgb.convert("1"), {}), ("EPS", rgb, {}), ("PPM", rgb, {})]
    exif.get_ifd(0x8825).update({1: "N", 6: 35.5})
    ways += [
        ("JPEG", rgb, {"exif": exif, "xmp": XMP % FORMS["element"]}),
        ("PNG", rgb, {"exif": exif}),
    ]
    ways += [("TIFF", rgb, {"exif": exif, "compression": "tiff_lzw"}), ("MPO", rgb, {"exif": exif})]
    files = []
    for kind, picture, options in ways:
        stream = io.BytesIO()
        picture.save(stream, kind, **options)
        files.append(stream.getvalue())
    small = whole(ramp(3, 18, 24), 8)
    files += [tiff(small, 8, 2, big=True, tile=(16, 16)), tiff(small[..., :1], 16, 0, planes=2)]
    files += [tiff(whole(ramp(1, 18, 24), 12), 12, 1, rows=5), tiff(small[..., :1], 32, 1, kind=2)]
    files += [png(small, 8, 2, odd) for odd in list(PASSED_OVER.values())[5:12]]
    return [*files, b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + files[0]]


@given(
    data=damaged(pictures()),
    name=st.sampled_from(["a.jpg", "a.heic", "a.png", "a.tif"]),
    at_least=st.sampled_from([None, 8, 512]),
)
@cases(500)
def test_a_damaged_photo_is_a_picture_or_a_sentence(tmp_path, data, name, at_least):
    (tmp_path / name).write_bytes(data)
    picture = told(open_rgb, tmp_path / name, at_least=at_least)
    assert picture is None or (picture.mode == "RGB" and min(picture.size) > 0)
    if picture is not None and at_least is None:
        box = (0, 0, (picture.width + 1) // 2, (picture.height + 1) // 2)
        told(save_crop, tmp_path / name, box, target := io.BytesIO())
        again = told(open_rgb, "crop", target.getvalue())
        assert again is None or again.size == box[2:]


@given(files=st.lists(damaged(pictures()), min_size=1, max_size=4))
@cases(15)
def test_damaged_photos_are_left_out_of_a_lenient_decoding_and_listed(
    tmp_path_factory, files, capsys
):
    folder = tmp_path_factory.mktemp("photos")
    table = pd.DataFrame({"photo": [f"{n}.jpg" for n in range(len(files))]})
    table["path"] = f"{folder}/" + table.photo
    for path, data in zip(table.path, files, strict=True):
        Path(path).write_bytes(data)
    decoded, left_out = told(pixels.decode, table, strict=False, cache=folder / "cache")
    assert len(decoded) + len(left_out) == len(files)
    assert set(left_out.photo) <= set(table.photo)
    assert all(len(reason) > 20 for reason in left_out.reason)


def test_a_photo_that_is_a_program_is_not_run(tmp_path, monkeypatch):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.jpg", "EPS")
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("it was run"))
    with pytest.raises(InputError, match=r"a\.jpg is no whole picture .*PostScript"):
        open_rgb(tmp_path / "a.jpg")


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "loop", "nothing", "NUL", "long"])
def test_what_is_no_file_is_no_photo_and_nobody_waits_for_it(tmp_path, kind):
    path = tmp_path / "a.jpg"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind in ("device", "loop"):
        path.symlink_to("/dev/zero" if kind == "device" else path)
    path = {"NUL": tmp_path / "a\0.jpg", "long": tmp_path / ("a" * 5000 + ".jpg")}.get(kind, path)
    table = pd.DataFrame({"photo": ["a.jpg"], "path": [str(path)]})
    assert told(open_rgb, path) is None
    assert told(pixels.decode, table, cache=tmp_path / "cache") is None
    assert len(told(pixels.decode, table, strict=False, cache=tmp_path / "cache")[1]) == 1


CELLS = ["a.jpg", "b.jpg", "c.jpg", "4", "5", "6.5", "", " ", "nan", "inf", "-1", "1e300", "1e15"]
CELLS += ["=cmd|' /C calc'!A0", "@SUM(1+1)", "../../x.jpg", "/etc/passwd", "a\0.jpg", '"', '""']
CELLS += ["a" * 5000 + ".jpg", "\u202egpj.a", "\ufeff4", "٤", "0x10", "1_0", "4,5", "é.jpg", "\n"]
CODES = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1", "cp1252", "shift_jis"]


@st.composite
def tables(draw, header):
    """Bytes of a table with odd cells, separators, line ends, quotes and encodings."""
    cells = st.sampled_from(CELLS) | st.text(max_size=12)
    rows = [header if draw(st.booleans()) else draw(st.lists(cells, max_size=5))]
    likely = st.tuples(st.sampled_from(CELLS[:3]), *[st.sampled_from(CELLS[3:6])] * 3)
    rows += draw(st.lists(likely | st.lists(cells, max_size=5), max_size=6))
    separator = draw(st.sampled_from([",", ";", "\t", " ", "="]))
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    quote = draw(st.sampled_from(["", '"']))
    text = end.join(separator.join(quote + cell + quote for cell in row) for row in rows)
    return text.encode(draw(st.sampled_from(CODES)), errors="replace")


def check(scored):
    """What every reader promises of the photos that it returns."""
    if scored is None:
        return
    table = scored.table
    assert table.photo.is_unique and table.score.nunique() > 1 and table.score.dtype == np.int64
    assert np.isfinite(table.mean_score).all() and all(Path(p).is_file() for p in table.path)
    for part in (scored.votes, scored.attributes):
        assert part is None or part.index.tolist() == table.photo.tolist()


HEADER = ["photo", "score", "mean", "kind"]
GOOD = b"photo,score,mean,kind\na.jpg,4,4.2,sea\nb.jpg,5,4.9,\nc.jpg,4,4,town\n"
VOTES = b"rater,photo,score\n1,a.jpg,4\n2,a.jpg,5\n1,b.jpg,5\n2,b.jpg,6\n1,c.jpg,4\n"


@given(
    scores=tables(HEADER) | damaged([GOOD]) | st.just(GOOD),
    votes=st.none() | tables(["photo", "score"]) | damaged([VOTES]),
    mean=st.booleans(),
    kind=st.booleans(),
    strict=st.booleans(),
)
@cases(200)
def test_any_table_of_scores_and_votes_is_read_or_refused(
    tmp_path, scores, votes, mean, kind, strict
):
    for name in "abc":
        (tmp_path / f"{name}.jpg").write_bytes(b"x")
    (tmp_path / "s.csv").write_bytes(scores)
    (tmp_path / "v.csv").write_bytes(votes or b"")
    options = {"mean_column": "mean" if mean else None, "strict": strict}
    options |= {"attribute_columns": ["kind"] * kind}
    options["votes"] = None if votes is None else tmp_path / "v.csv"
    scored = told(sources.read_folder, tmp_path, tmp_path / "s.csv", **options)
    check(scored)
    if scored is not None and not mean and votes is None:
        assert (scored.table.score - scored.table.mean_score).abs().max() <= 0.5 + 1e-9


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"photo,score" + b"," * 1_000_000 + b"\na.jpg,4\n", "more than 2000 columns"),
        (b"photo,score\na.jpg," + b"4" * 20_000_000 + b"\n", "is not a finite number"),
        (b"photo,score\na.jpg,1e300\n", "is not a finite number"),
        (b"photo,score\n" + b"a" * 5000 + b".jpg,4\nb.jpg,5\n", "no such file"),
        (b"photo,score\na\0.jpg,4\nb.jpg,5\n", "no such file"),
        (GOOD.decode().encode("utf-16")[:-1], "give a UTF-8 table"),
    ],
    ids=["wide", "huge field", "huge number", "long name", "NUL", "half a letter of UTF-16"],
)
def test_a_table_of_absurd_size_or_kind_is_refused_with_its_fault(tmp_path, text, says):
    (tmp_path / "s.csv").write_bytes(text)
    with pytest.raises(InputError, match=says) as caught:
        sources.read_folder(tmp_path, tmp_path / "s.csv")
    assert len(str(caught.value)) < 2000


def test_columns_that_would_grow_into_gigabytes_are_refused(tmp_path):
    names = [f"{n}.jpg" for n in range(30_000)]
    table = pd.DataFrame({"photo": names, "score": np.arange(30_000) % 7})
    table.to_csv(tmp_path / "s.csv", index=False)
    with pytest.raises(InputError, match=r"photo has 30000 different words.*name another column"):
        sources.read_folder(tmp_path, tmp_path / "s.csv", attribute_columns=["photo"])
    table.assign(score=range(30_000)).to_csv(tmp_path / "v.csv", index=False)
    with pytest.raises(InputError, match=r"v.csv line 103: score '101' is not .* -100\.\.100"):
        sources.read_folder(tmp_path, tmp_path / "s.csv", votes=tmp_path / "v.csv")


def published(source):
    """Files of a public set as published, three photos or so, by name."""
    votes = io.BytesIO()
    savemat(votes, {"corrData": np.array([[4.0, 2, 7], [5, 3, 6]])})
    giaa = "sessionId,imageName,aestheticScore_mean,qualityScore_mean\n"
    rows = "7=1=8=2=3=4=2=1=9=1=0\n8=1=0=2=1=1=1=1=9=0=0\n"
    return {
        "ava": {
            "AVA.txt": b"1 7 0 0 0 2 2 0 0 0 0 0 1 22 9\n2 8 0 0 0 0 0 0 3 0 0 1 0 66 9\n",
            "tags.txt": b"1 Abstract\n22 Sky\n",
        },
        "eva": {
            "data/votes_filtered.csv": (
                "image_id=user_id=score=difficulty=visual=composition=quality=semantic=time=1=2\n"
                + rows
            ).encode()
        },
        "aadb": {
            "l/imgListTrainRegression_score.txt": b"7.jpg 0.65\n8.jpg 0.05\n",
            "l/imgListTrainRegression_DoF.txt": b"7.jpg -0.4\n8.jpg 0.8\n",
        },
        "para": {
            "annotation/PARA-GiaaTrain.csv": (giaa + "s,7.jpg,2.5,3\n").encode(),
            "annotation/PARA-GiaaTest.csv": (giaa + "s,8.jpg,4.2,\n").encode(),
        },
        "oasis": {
            "OASIS.csv": b",Theme,Category\rI1,7,Animal\rI3,8,Scene\rI2,Nude 1,Person",
            "corrData.mat": votes.getvalue(),
        },
    }[source]


FOLDERS = {"ava": "images", "eva": "x", "aadb": "x", "para": "imgs/s", "oasis": "images"}


@pytest.mark.parametrize("source", FOLDERS)
@given(data=st.data())
@cases(40)
def test_a_damaged_public_set_is_read_or_refused(tmp_path, source, data):
    files = published(source)
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / FOLDERS[source]).mkdir(parents=True, exist_ok=True)
    for name in ("7.jpg", "8.jpg"):
        (tmp_path / FOLDERS[source] / name).write_bytes(b"x")
    assert len(sources.read_photos(source, tmp_path)) == 2
    victim = data.draw(st.sampled_from(sorted(files)))
    header = files[victim].split(b"\n")[0].decode(errors="replace").split(",")
    content = data.draw(damaged([files[victim], *files.values()]) | tables(header))
    (tmp_path / victim).write_bytes(content)
    check(told(sources.read_photos, source, tmp_path, strict=data.draw(st.booleans())))


@pytest.mark.parametrize("tag", ["999999999", "-5"])
def test_a_tag_that_would_be_a_column_of_gigabytes_is_refused(tmp_path, tag):
    (tmp_path / "AVA.txt").write_text(f"1 7 {'1 ' * 10}{tag} 0 9\n")
    with pytest.raises(InputError, match=rf"AVA\.txt line 1: tag 1 '{tag}' is not .* 0\.\.999"):
        sources.read_ava(tmp_path)


DEEP = ["-" * 9000 + "1", "[" * 9000, "(" * 150 + ")" * 150, "{[]: 1}", "{{}}", "9" * 5000]
DEEP += ["a\0b", "__import__('os').system('false')", "1e999", "None", "[0.99", "True", "\\", "'"]


@given(
    text=st.sampled_from(DEEP) | st.text(max_size=30),
    default=st.sampled_from(["", 0, 0.5, None, True, [0.9], (1, 2), {}]),
)
@cases(300)
def test_a_notebook_parameter_is_of_its_defaults_kind_or_refused(text, default):
    value = told(batch._value, "k", text, default)
    number = isinstance(default, float) and isinstance(value, int | float)
    # A parameter that is None until it is given says in its chapter what it takes.
    is_open = default is None
    assert value is None or is_open or number or isinstance(value, type(default))


GRID = b"""[photos]
folder = "p"
scores = "s.csv"
options = {mean_column = "m"}
[grid]
dataset = "D"
folds = [0, 1]
seeds = [0]
labels = "mean"
[common]
backbone = "squeezenet1_1"
weights = "none"
rounds = 2
[arms.plain]
k = [0.0]
[arms."own class"]
each_k = [0.9, 0.99]
"""
VALUES = ['"x"', "5", "[]", "{}", "[[1]]", "1979-05-27", "nan", "true", '"../../x"', '"a\\u0000b"']
LINES = [line for line in GRID.decode().splitlines() if "=" in line]


@st.composite
def grids(draw):
    """A grid with some of its values replaced by others."""
    text = GRID.decode()
    for line in draw(st.lists(st.sampled_from(LINES), min_size=1, max_size=3)):
        text = text.replace(line, f"{line.split('=')[0]}= {draw(st.sampled_from(VALUES))}")
    return text.encode()


TABLES = [b"photos = 5", b"arms = [1]", b"[photos]\nfolder=5\n[arms]\na=5", b"a = " + b"[" * 9000]


@given(text=damaged([GRID]) | grids() | st.sampled_from(TABLES))
@cases(150)
def test_any_grid_of_a_sweep_is_read_or_refused(tmp_path, text):
    (tmp_path / "g.toml").write_bytes(text)
    for cell in told(sweeps.read_grid, tmp_path / "g.toml") or ():
        assert sweeps.folder_of(cell, tmp_path / "out.csv").parent == tmp_path / "out_cells"


WATCHED = []


def _hear(event, args):
    """Where Python writes while `WATCHED` has a list: an audit hook cannot be taken off again."""
    changes = event in ("os.mkdir", "os.rename", "os.symlink", "os.link")
    if not WATCHED or not (event == "open" or changes) or isinstance(args[0], int):
        return
    if changes or args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        WATCHED[-1].append(os.path.realpath(args[1] if event == "os.rename" else args[0]))


sys.addaudithook(_hear)


@contextmanager
def only_below(*folders):
    """Whatever is written inside the block lies in one of these folders."""
    WATCHED.append([])
    try:
        yield
    finally:
        places = WATCHED.pop()
    allowed = [os.path.realpath(folder) for folder in folders]
    outside = [p for p in places if not any(p.startswith(a) for a in allowed)]
    assert not [p for p in outside if p != "/dev/null"]
    assert places


@pytest.fixture(scope="module")
def world(tmp_path_factory, small_crops):
    """Photos under odd names and in odd places, a CSV of them, and a run trained on it."""
    world = tmp_path_factory.mktemp("world")
    (world / "originals").mkdir()
    (world / "a" / "b").mkdir(parents=True)
    table = pd.read_csv(draw_coloured_photos(world / "originals"))
    for n, name in enumerate(table.photo):
        given = [f"../../originals/{name}", str(world / "originals" / name), name]
        if n % 3 == 2:
            odd = (f"{n}\u202egpj.png", f"-{n}.png", f"{n}\n.png", f"{n} ..png")[n // 3 % 4]
            (world / "a" / "b" / odd).symlink_to(world / "originals" / name)
            given[2] = odd
        table.loc[n, "photo"] = given[n % 3]
    table.to_csv(world / "scores.csv", index=False)
    words = ["train", "--photos", world / "a" / "b", "--scores", world / "scores.csv"]
    words += ["--run", world / "run", "--cache", world / "cache", "--rounds", "2", "--steps", "1"]
    with only_below(world / "run", world / "cache"):
        rsrl(
            *words, "--backbone", "squeezenet1_1", "--weights", "starter", "--learning-rate", "0.01"
        )
    return world


def rsrl(*words):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["rsrl", *map(str, words)])
        cli.main()


def snapshot(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


COMMANDS = {
    "assess": ["--csv", "OUT/table.csv"],
    "highlight": ["--rounds", "2", "1", "--out", "OUT"],
    "crop": ["--out", "OUT"],
    "maps": ["--out", "OUT"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_whatever_photos_are_called_nothing_is_written_outside_the_output_folder(
    world, command, tmp_path, monkeypatch
):
    (tmp_path / "out").mkdir()
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    words = [command, "--run", world / "run", "--skip-broken"]
    words += [word.replace("OUT", str(tmp_path / "out")) for word in COMMANDS[command]]
    odd = [
        *sorted((world / "a" / "b").iterdir())[:4],
        world / "a" / "b" / "../../originals/01.png",
        "/etc/passwd",
    ]
    odd += [tmp_path / "lost.png", "../../x.png", world / ("a" * 200 + "/../x.png")]
    before = snapshot(world)
    with only_below(tmp_path / "out", tmp_path / "temporary"):
        rsrl(*words, "--", *odd)
    assert snapshot(world) == before
    folders = {"masks", "contours"} if command == "highlight" else set()
    written = [path for path in (tmp_path / "out").iterdir() if path.name not in folders]
    assert len(written) == {"assess": 1, "highlight": 6, "crop": 6, "maps": 11}[command]
    assert all(len(list((tmp_path / "out" / name).iterdir())) == 5 for name in folders)
    with pytest.raises(SystemExit) as stopped:
        rsrl(*words, "--", world / ("a" * 5000 + ".png"))
    assert "File name too long" in str(stopped.value) and str(stopped.value).endswith("written.")


@pytest.mark.parametrize("command", ["highlight", "crop"])
@pytest.mark.parametrize("kind", ["same", "linked folder", "link in it", "hard link in it"])
def test_photos_are_not_written_over_through_links(world, command, kind, tmp_path):
    photo, out = tmp_path / "in" / "00.png", tmp_path / "out"
    (tmp_path / "in").mkdir()
    photo.write_bytes((world / "originals" / "00.png").read_bytes())
    victim = tmp_path / "victim.png"
    victim.write_bytes(b"precious")
    if kind == "same":
        out = tmp_path / "in"
    elif kind == "linked folder":
        out.mkdir()
        (out / "00.png").symlink_to(photo)
        photo = out / "00.png"
    else:
        out.mkdir()
        (os.link if "hard" in kind else os.symlink)(victim, out / "00.png")
    words = [command, "--run", world / "run", *COMMANDS[command], photo]
    words = [str(word).replace("OUT", str(out)) for word in words]
    before = photo.read_bytes()
    if "in it" in kind:
        rsrl(*words)
        assert (out / "00.png").read_bytes() != b"precious" and not (out / "00.png").is_symlink()
    else:
        with pytest.raises(SystemExit, match=r"holds photos that .* would overwrite"):
            rsrl(*words)
    assert victim.read_bytes() == b"precious" and photo.read_bytes() == before


def test_a_photo_whose_name_is_not_utf8_is_one_sentence(world, tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    (tmp_path / name).write_bytes((world / "originals" / "00.png").read_bytes())
    with pytest.raises(InputError, match="rename those whose names are not UTF-8"):
        read_unscored(tmp_path)
    for place in (tmp_path, tmp_path / name):
        with pytest.raises(SystemExit, match="rename"):
            rsrl("assess", "--run", world / "run", place)


@pytest.mark.parametrize("command", COMMANDS)
def test_names_of_no_photo_are_told_before_any_work(world, command, tmp_path, monkeypatch):
    monkeypatch.setattr(pixels, "decode", None)
    monkeypatch.setattr("rsrl_lib.reading.pictures.open_rgb", None)
    words = [command, "--run", world / "run"]
    words += [word.replace("OUT", str(tmp_path / "out")) for word in COMMANDS[command]]
    there, pipe = world / "originals" / "00.png", tmp_path / "pipe.png"
    os.mkfifo(pipe)
    for absent in (["nowhere"], ["nowhere", there], [pipe], ["nowhere", tmp_path / "a.jpg"]):
        with pytest.raises(SystemExit) as stopped:
            rsrl(*words, *absent)
        said = str(stopped.value)
        assert said.startswith(f"rsrl: There is no photo {absent[0]}"), said
        assert ("(nor " in said) == (absent[1:] == [tmp_path / "a.jpg"])
        assert said.endswith("; correct the name, or leave it out by --skip-broken.")
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize("command", COMMANDS)
def test_what_a_folder_has_beside_photos_is_told_once(world, command, tmp_path, capsys):
    (tmp_path / "photos" / "@eaDir" / "00.png").mkdir(parents=True)
    for name in ("a.heic", "b.nef", "@eaDir/00.png/small.jpg", "@eaDir/c.heic"):
        (tmp_path / "photos" / name).write_bytes(b"x")
    (tmp_path / "photos" / "00.png").symlink_to(world / "originals" / "00.png")
    words = [command, "--run", world / "run"]
    words += [word.replace("OUT", str(tmp_path / "out")) for word in COMMANDS[command]]
    (tmp_path / "out").mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        rsrl(*words, tmp_path / "photos")
    said = [line for line in capsys.readouterr().err.splitlines() if "passed over" in line]
    expected = "1 HEIC photo (such as a.heic; convert to JPEG, or install pillow-heif), "
    expected += "1 raw file (such as b.nef; save as JPEG)."
    assert said == [f"rsrl: In {tmp_path / 'photos'} were passed over: {expected}"]


JSON = ['{"recipe": 5}', "[]", "null", '{"recipe": {"training": []}}', "[" * 5000, "\ufeff{}"]
HEAD = 20_000  # header and first layers; the cases are kept in memory by Hypothesis
FACTS = ["shrink_to", "precision", "crops", "batch", "learning_rate"]


@st.composite
def infos(draw, info):
    """`run.json` with one value of another kind."""
    info = json.loads(info)
    values = [None, -1, 0, 10**9, 1e300, "x", [], {}, True]
    info["recipe"]["training"][draw(st.sampled_from(FACTS))] = draw(st.sampled_from(values))
    info["recipe"]["backbone"] = draw(st.sampled_from(["squeezenet1_1", "alexnet", "x", 5]))
    return json.dumps(info).encode()


@pytest.mark.parametrize("command", COMMANDS)
@given(data=st.data())
@cases(8)
def test_a_damaged_run_is_read_or_refused(world, command, tmp_path_factory, data):
    names = {"run.json", "conv1.safetensors", "network_best.safetensors", "rounds.csv"}
    names |= {"samples.parquet", "split.csv", "network_last.safetensors"}
    run = tmp_path_factory.mktemp("run")
    # Often the file that the command reads, else any.
    own = {"highlight": "conv1.safetensors"}.get(command, "network_best.safetensors")
    victim = data.draw(st.sampled_from([own, "run.json", *sorted(names)]))
    for name in names - {victim}:
        (run / name).symlink_to(world / "run" / name)
    whole = (world / "run" / victim).read_bytes()
    content = damaged([whole[:HEAD]])
    if victim == "run.json":
        content |= infos(whole) | st.sampled_from([text.encode() for text in JSON])
    (run / victim).write_bytes(data.draw(content) + whole[HEAD:])
    photo = (world / "originals" / "00.png",)
    if command == "assess":
        told(photo_commands.assess, (run,), photo, run / "table.csv")
    elif command == "highlight":
        told(photo_commands.highlight, run, (2, 1), photo, run / "out", skip_broken=True)
    elif command == "maps":
        told(map_commands.maps, run, photo, run / "out")
    else:
        told(photo_commands.crop, run, photo, run / "out")
    (run / victim).unlink()


@given(data=st.data())
@cases(30)
def test_a_damaged_weight_file_is_read_or_refused(world, tmp_path, data):
    whole = (world / "run" / "network_best.safetensors").read_bytes()
    (tmp_path / "w.safetensors").write_bytes(data.draw(damaged([whole[:HEAD]])) + whole[HEAD:])
    read = told(network.load_network, tmp_path / "w.safetensors")
    assert read is None or all(p.isfinite().all() for p in read[0].parameters())
    told(network.aesthetic_net, "squeezenet1_1", [3, 4], weights=str(tmp_path / "w.safetensors"))
