"""The explorers of highlights and of crops in a browser, as JupyterLab and Voila show them."""

import dataclasses
import hashlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from rsrl_lib import network, rounds, sources
from rsrl_lib.interface import app
from rsrl_lib.ratings import read_log
from tests.conftest import ROOT
from tests.test_rounds import RECIPE

pytest.importorskip("papermill", reason="papermill is not installed")
rating_view = pytest.importorskip("rsrl_lib.interface.rating").rating_view
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
psutil = pytest.importorskip("psutil", reason="psutil is not installed")
websocket = pytest.importorskip("websocket", reason="websocket-client is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium is installed (on Debian: apt-get install chromium)"
)

FIGURES = ("photo", "region", "later map", "earlier map", "difference")
MAPS = set(FIGURES) - {"photo"}
HIGHLIGHTS, CROPS = ".rsrl-highlights", ".rsrl-crops"
EVIL = "<img src=x onerror=alert({})>"
SECONDS = 180
APP = ["app", "--run", "run", "--gap-run", "gap_run"]
APP += ["--photos", "photos", "--scores", "photos/scores.csv"]
playwright.expect.set_options(timeout=SECONDS * 1000)
PIXELS = """images => Promise.all(images.map(async image => {
    try { await image.decode(); } catch { return null; }  // it is just being replaced
    const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    const context = canvas.getContext('2d');
    context.drawImage(image, 0, 0);
    const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
    return pixels.reduce((hash, value) => (Math.imul(hash, 31) + value) | 0, canvas.width);
}))"""


@pytest.fixture(scope="module")
def folder(coloured, small_crops, tmp_path_factory):
    """A folder with a finished run, and the page as a notebook that shows it.

    One photo and one attribute are named by a program for the page.
    """
    folder = tmp_path_factory.mktemp("app")
    given = {name: folder / name for name in ("photos", "run", "gap_run")}
    given["scores"] = given["photos"] / "scores.csv"
    shutil.copytree(Path(coloured[0].table.path[0]).parent, given["photos"])
    (given["photos"] / "01.png").rename(given["photos"] / f"{EVIL.format(1)}.png")
    named = given["scores"].read_text().replace("01.png", f"{EVIL.format(1)}.png")
    given["scores"].write_text(named)
    scored = sources.read_folder(given["photos"], given["scores"]), coloured[1]
    rounds.repeat(*scored, given["run"], RECIPE)
    make_crop_run(scored, given["gap_run"])
    app.write_page(folder, {name: str(path) for name, path in given.items()})
    (folder / "temporary").mkdir()
    return folder


def make_crop_run(coloured, folder):
    """A run of a network with attributes whose map of the high level is nowhere negative."""
    scored, pixels = coloured
    red = pd.DataFrame({EVIL.format(2): (scored.table.score == 2).astype(float)})
    scored = dataclasses.replace(scored, attributes=red.set_index(scored.table.photo))
    kind = {"head": "gap", "levels": "low-high", "cut": 4, "attributes": tuple(red)}
    made = rounds.repeat(scored, pixels, folder, dataclasses.replace(RECIPE, rounds=1, **kind))
    positive = made.network()
    with torch.no_grad():
        positive.head.weight[1].abs_()
    network.save_network(positive, folder / "network_best.safetensors", round=1)


@contextmanager
def served(folder, words, path):
    """A server of its own, without the settings of whoever runs the tests; yields an address."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    homes = {f"JUPYTER_{name}_DIR": folder / name for name in ("CONFIG", "DATA", "RUNTIME")}
    homes |= {f"JUPYTERLAB_{name}_DIR": folder / name for name in ("SETTINGS", "WORKSPACES")}
    news = folder / "SETTINGS" / "@jupyterlab" / "apputils-extension"
    news.mkdir(parents=True, exist_ok=True)
    (news / "notification.jupyterlab-settings").write_text(json.dumps({"fetchNews": "false"}))
    homes |= {"TMPDIR": folder / "temporary", "JUPYTER_PATH": folder / "jupyter"}
    other = folder / "jupyter" / "kernels" / "python3" / "kernel.json"  # found first, and broken
    other.parent.mkdir(parents=True, exist_ok=True)
    other.write_text(json.dumps({"argv": ["no_python"], "display_name": "", "language": "python"}))
    with log_of(folder, words).open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", *words, f"--port={port}", "--no-browser"],
            cwd=folder,
            env=os.environ | {name: str(path) for name, path in homes.items()},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_for(lambda: listens(port) or server.poll() is not None)
            assert server.poll() is None, log_of(folder, words).read_text()
            yield f"http://127.0.0.1:{port}/{path}"
        finally:
            server.terminate()
            server.wait(SECONDS)


def log_of(folder, words):
    return folder / f"{words[0]}.txt"


def listens(port):
    with socket.socket() as found:
        return found.connect_ex(("127.0.0.1", port)) == 0


def wait_for(condition):
    end = time.monotonic() + SECONDS
    while not (answer := condition()):
        assert time.monotonic() < end, f"{condition} is not so after {SECONDS} s"
        time.sleep(0.05)
    return answer


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as driver:
        quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        yield driver.chromium.launch(executable_path=CHROMIUM, args=quiet)


def made(target, *given):
    """The last command that make starts for a target."""
    words = ["make", "--dry-run", "--no-print-directory", target, *given]
    told = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return shlex.split(told.replace("\\\n", " ").splitlines()[-1])


@pytest.fixture(scope="module")
def voila(folder):
    """The address of the page as `rsrl app` serves it, and `make app` through it."""
    with served(folder, ["rsrl_lib", *APP], "") as address:
        yield address


@pytest.fixture(scope="module")
def lab(folder):
    """The address of the page in a JupyterLab as `make lab` starts it."""
    words = ["jupyterlab", "--IdentityProvider.token=secret", "--allow-root", "--ip=127.0.0.1"]
    words += [word for word in made("lab") if word.startswith("--")]
    with served(folder, words, "lab/tree/app.ipynb?token=secret") as address:
        yield address


def visit(chromium, address, size=(1500, 1000)):
    """The page in a browser of its own, with all that goes wrong in it."""
    page = chromium.new_context(
        viewport=dict(zip(("width", "height"), size, strict=True))
    ).new_page()
    page.set_default_timeout(SECONDS * 1000)
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("dialog", lambda dialog: (page.errors.append(dialog.message), dialog.dismiss()))
    page.goto(address)
    return page


@pytest.fixture(scope="module", params=["lab", "voila"])
def page(request, chromium):
    """The explorer, run and shown."""
    page = visit(chromium, request.getfixturevalue(request.param))
    run_all(page, request.param)
    yield page
    page.context.close()


def run_all(page, kind):
    """Until the explorers are shown, by "lab" or "voila"."""
    if kind == "lab":
        # What is run before the kernel is ready gets lost.
        page.get_by_text("| Idle").wait_for()
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_text("Run All Cells", exact=True).click()
    page.get_by_role("button", name="00.png").wait_for()
    wait_for(lambda: len(pictures(page)) == len(FIGURES))


def pictures(page, where=HIGHLIGHTS, names=FIGURES):
    """A hash of the pixels of every picture that is shown."""
    shown = wait_for(lambda: whole(page.locator(f"{where} img").evaluate_all(PIXELS)))
    return dict(zip(names, *shown, strict=False))


def whole(hashes):
    """All hashes, in a list that is true even of none; nothing while a picture is replaced."""
    return None if None in hashes else [hashes]


def until_changed(page, before, expected, where=HIGHLIGHTS):
    """Wait until exactly these pictures differ in pixels."""
    found = None

    def as_expected():
        nonlocal found
        now = pictures(page, where, before)
        found = {name for name in now if now[name] != before[name]}
        return found == expected

    try:
        wait_for(as_expected)
    except AssertionError:
        pytest.fail(f"{sorted(found)} changed, not {sorted(expected)}")
    return pictures(page, where, before)


def slider(page, text):
    return page.locator(".widget-hslider", has_text=text).locator(".noUi-handle")


def upload(page, path):
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Your own photo").click()
    chooser.value.set_files(path)


def test_the_sliders_change_every_picture_but_the_photo(page):
    first = pictures(page)
    playwright.expect(page.locator(HIGHLIGHTS)).to_contain_text("rounds 3 and 2")
    slider(page, "round I").press("ArrowLeft")
    second = until_changed(page, first, MAPS)
    playwright.expect(page.locator(HIGHLIGHTS)).to_contain_text("rounds 2 and 1")
    slider(page, "round I").press("ArrowRight")
    until_changed(page, second, MAPS)
    until_changed(page, first, set())
    slider(page, "k rounds before").press("ArrowRight")
    until_changed(page, first, MAPS)
    playwright.expect(page.locator(HIGHLIGHTS)).to_contain_text("rounds 3 and 1")


def test_a_thumbnail_changes_every_picture(page):
    before = pictures(page)
    page.get_by_role("button", name="09.png").click()
    until_changed(page, before, set(FIGURES))
    playwright.expect(page.locator(HIGHLIGHTS)).to_contain_text("09.png: score")


def test_a_thumbnail_is_chosen_by_the_keyboard(page):
    before = pictures(page)
    page.get_by_role("button", name="10.png").press("Enter")
    until_changed(page, before, set(FIGURES))


def test_a_channel_changes_the_maps_and_the_least_correlated_brings_them_back(page):
    before = pictures(page)
    text = page.locator(HIGHLIGHTS).inner_text()
    channel = 7 if "channel 7 (" not in text else 8
    page.locator(".rsrl-channels button").nth(1 + channel).click()
    until_changed(page, before, MAPS)
    playwright.expect(page.locator(HIGHLIGHTS)).to_contain_text(f"channel {channel} (by hand")
    page.get_by_role("button", name="least correlated").click()
    until_changed(page, before, set())


def test_an_own_photo_is_shown_with_its_predicted_score(page, tmp_path):
    before, path = pictures(page), tmp_path / "<i>mine.png"
    Image.radial_gradient("L").resize((80, 60)).convert("RGB").save(path)
    upload(page, path)
    until_changed(page, before, set(FIGURES))
    playwright.expect(page.locator(HIGHLIGHTS)).to_contain_text(
        "<i>mine.png: your own photo, predic"
    )


def test_a_bad_photo_is_told_in_a_sentence_and_the_page_goes_on(page, tmp_path):
    before, large = pictures(page), bytes(31 * 2**20)
    for content, told in (
        (large, "has 31 MB, a photo may"),
        (b"no picture", "is no whole picture"),
    ):
        (tmp_path / "bad.jpg").write_bytes(content)
        upload(page, tmp_path / "bad.jpg")
        playwright.expect(page.get_by_role("alert")).to_contain_text(f"bad.jpg {told}")
        assert "Traceback" not in page.content()
        until_changed(page, before, set())
    page.get_by_role("button", name="11.png").click()
    until_changed(page, before, set(FIGURES))
    playwright.expect(page.get_by_role("alert")).to_have_count(0)


def test_the_figure_is_saved_as_a_png(page):
    page.get_by_role("button", name="Save the figure").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download highlight_").click()
    with Image.open(download.value.path()) as figure:
        figure.load()
        assert figure.format == "PNG"
        assert figure.width > 1000
    assert download.value.suggested_filename.endswith(".png")


def test_names_are_text_and_no_part_of_the_page(page, tmp_path):
    page.get_by_role("button", name=EVIL.format(1)).click()
    shown = page.locator(HIGHLIGHTS)
    playwright.expect(shown).to_contain_text(f"{EVIL.format(1)}.png: score")
    Image.radial_gradient("L").convert("RGB").save(tmp_path / f"{EVIL.format(3)}.png")
    upload(page, tmp_path / f"{EVIL.format(3)}.png")
    playwright.expect(shown).to_contain_text(f"{EVIL.format(3)}.png: your own photo")
    page.get_by_role("button", name="Save the figure").click()
    page.get_by_role("link", name=f"Download highlight_{EVIL.format(3)}").wait_for()
    page.get_by_role("tab", name="Crops").click()
    playwright.expect(page.locator(CROPS)).to_contain_text(f"AttAM of {EVIL.format(2)}")
    assert page.locator("[onerror], img[src=x]").count() == 0
    assert page.errors == []


def test_a_filter_without_a_photo_says_so_and_shows_no_button(page):
    page.get_by_role("tab", name="Highlight regions").click()
    shown, buttons = page.locator(HIGHLIGHTS), page.locator(f"{HIGHLIGHTS} .rsrl-thumbs button")
    score = shown.get_by_label("score", exact=True)
    predicted = shown.get_by_label("predicted score")
    told = shown.get_by_text("no such photo")
    empty = 0
    for own in score.locator("option").all_inner_texts()[1:]:
        score.select_option(own)
        for guess in predicted.locator("option").all_inner_texts()[1:]:
            predicted.select_option(guess)
            until_idle(page)
            # The browser may draw the words a moment before or after the buttons go.
            wait_for(lambda: (visible(buttons) == 0) == told.is_visible())
            empty += told.is_visible()
    assert empty
    score.select_option("all")
    predicted.select_option("all")
    playwright.expect(buttons).to_have_count(18)
    playwright.expect(buttons.first).to_be_visible()


def visible(buttons):
    """How many are seen, asked of all in one moment."""
    return buttons.evaluate_all("every => every.filter(one => one.offsetParent !== null).length")


def until_idle(page, where=HIGHLIGHTS):
    """Until an explorer has done all that it was asked: its answer to a last question is there."""
    page.wait_for_timeout(300)
    playwright.expect(page.locator(f"{where} .rsrl-busy")).to_have_count(0)
    page.wait_for_timeout(300)


SHOWN = ("photo", "crop", "good", "level", "attribute")


@pytest.fixture
def crops(page, tmp_path):
    """The tab of crops, showing a photo of one bright spot."""
    show_spot(page, tmp_path)
    return page


def show_spot(page, tmp_path):
    page.get_by_role("tab", name="Crops").click()
    spot = np.hypot(*np.mgrid[-1.2:0.8:240j, -1.5:0.5:320j])
    Image.fromarray((255 * np.exp(-8 * spot**2)).astype(np.uint8)).save(tmp_path / "spot.png")
    upload(page, tmp_path / "spot.png")
    playwright.expect(page.locator(CROPS)).to_contain_text("spot.png: your own photo, predicted")
    wait_for(lambda: len(pictures(page, CROPS, SHOWN)) == len(SHOWN))
    playwright.expect(page.locator(CROPS)).to_contain_text("of 320 x 240 px")


def choose(page, what, option):
    page.locator(CROPS).get_by_label(what).select_option(option)


def settled(page):
    """The pictures of the crops, once they no longer change."""
    before = pictures(page, CROPS, SHOWN)
    while True:
        time.sleep(0.7)
        now = pictures(page, CROPS, SHOWN)
        if now == before:
            return now
        before = now


def test_the_threshold_and_the_aspect_ratio_change_the_crop_and_no_map(crops):
    before = settled(crops)
    handle = crops.locator(f"{CROPS} .widget-hslider", has_text="threshold").locator(".noUi-handle")
    for _ in range(11):
        handle.press("ArrowRight")
    playwright.expect(crops.locator(CROPS)).to_contain_text("85%")
    until_changed(crops, before, {"photo", "crop"}, CROPS)
    tight = settled(crops)  # each step of the slider has its pictures
    choose(crops, "aspect ratio", "9:16")
    until_changed(crops, tight, {"photo", "crop"}, CROPS)
    choose(crops, "aspect ratio", "as the region")
    until_changed(crops, tight, set(), CROPS)


def test_another_map_changes_its_picture_alone(crops):
    before = settled(crops)
    choose(crops, "AesAM of level", "high")
    until_changed(crops, before, {"level"}, CROPS)
    choose(crops, "AesAM of level", "low")
    until_changed(crops, before, set(), CROPS)


def test_a_thumbnail_shows_its_crop_and_a_broken_photo_is_told(crops, tmp_path):
    before = settled(crops)
    crops.get_by_role("button", name="12.png").click()
    playwright.expect(crops.locator(CROPS)).to_contain_text("12.png: score")
    after = until_changed(crops, before, set(SHOWN), CROPS)
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    upload(crops, tmp_path / "broken.jpg")
    playwright.expect(crops.get_by_role("alert")).to_contain_text("broken.jpg is no whole picture")
    until_changed(crops, after, set(), CROPS)


def test_the_crop_is_saved_at_the_size_that_is_told(crops):
    crops.get_by_role("button", name="Save the crop").click()
    with crops.expect_download() as download:
        crops.get_by_role("link", name="Download spot_crop.png").click()
    with Image.open(download.value.path()) as crop:
        said = f"crop {crop.width} x {crop.height} at"
    playwright.expect(crops.locator(CROPS)).to_contain_text(said)


def test_what_is_saved_after_a_drag_is_what_is_told(crops):
    for share in (0.2, 0.9, 0.4):
        handle = crops.locator(f"{CROPS} .widget-hslider", has_text="threshold")
        track = handle.locator(".noUi-base").bounding_box()
        start = handle.locator(".noUi-handle").bounding_box()
        crops.mouse.move(start["x"] + 3, start["y"] + 3)
        crops.mouse.down()
        at = track["x"] + share * track["width"], track["y"] + 2
        crops.mouse.move(*at, steps=12)
        crops.mouse.up()
        assert saved_size(crops) == told_size(crops)


def saved_size(page):
    """Width and height of the crop that is saved at once."""
    page.get_by_role("button", name="Save the crop").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download spot_crop.png").click()
    with Image.open(download.value.path()) as crop:
        return crop.size


def told_size(page):
    """Width and height of the crop that is told, once nothing changes any more."""
    until_idle(page, CROPS)
    found = re.search(r"crop (\d+) x (\d+) at", page.locator(CROPS).inner_text())
    return tuple(map(int, found.groups()))


SLOW = """
import time

from rsrl_lib.interface import widgets

quick = widgets.crop_box
widgets.crop_box = lambda *given, **how: (time.sleep(1), quick(*given, **how))[1]
"""


@pytest.fixture
def slow(chromium, folder, tmp_path):
    """The page where every crop takes a second more, as beside other work."""
    notebook = json.loads((folder / "app.ipynb").read_text())
    code = {"cell_type": "code", "id": "slow", "metadata": {}, "outputs": []}
    code |= {"execution_count": None, "source": SLOW}
    notebook["cells"].insert(1, code)
    (tmp_path / "app.ipynb").write_text(json.dumps(notebook))
    (tmp_path / "temporary").mkdir()
    with served(tmp_path, ["voila", "app.ipynb", *app.PAGE], "") as address:
        page = visit(chromium, address)
        run_all(page, "voila")
        show_spot(page, tmp_path)
        yield page
        page.context.close()


def test_a_slow_page_says_that_it_computes_and_saves_the_latest_state(slow):
    handle = slow.locator(f"{CROPS} .widget-hslider", has_text="threshold").locator(".noUi-handle")
    busy = slow.locator(CROPS).get_by_text("computing")
    before = told_size(slow)
    for _ in range(7):  # 30 to 65 %: the first is worked on while the browser collects the others
        handle.press("ArrowRight")
    playwright.expect(busy).to_be_visible()
    assert busy.get_attribute("aria-busy") == "true"
    size = saved_size(slow)
    assert size == told_size(slow) != before
    playwright.expect(slow.locator(CROPS)).to_contain_text("65%")
    assert busy.count() == 0


def kernels_of(folder):
    """The kernels that a server in this folder has started."""
    started = psutil.Process().children(recursive=True)
    commands = {process: " ".join(process.cmdline()) for process in started}
    return [p for p, words in commands.items() if "ipykernel" in words and p.cwd() == str(folder)]


@pytest.fixture
def doomed(chromium, folder, tmp_path):
    """A page of a server that is to end, the server's process, and its kernel's."""
    shutil.copy(folder / "app.ipynb", tmp_path)
    (tmp_path / "temporary").mkdir()
    with served(tmp_path, ["voila", "app.ipynb", *app.PAGE], "") as address:
        page = visit(chromium, address)
        run_all(page, "voila")
        (kernel,) = kernels_of(tmp_path)
        yield page, kernel.parent(), kernel
        page.context.close()


def hidden_words(page, kind):
    """Words that the page holds and does not show yet."""
    told = page.locator(HIGHLIGHTS).locator(f".{kind}")
    told.wait_for(state="attached")
    assert not told.is_visible()
    return told


def test_a_page_whose_kernel_died_says_so_in_words(doomed):
    page, _, kernel = doomed
    told = hidden_words(page, "rsrl-ended")
    kernel.kill()
    playwright.expect(told).to_be_visible()
    playwright.expect(told).to_contain_text("session has ended")
    playwright.expect(told).to_contain_text("load the page again")
    icons = """() => [...document.querySelectorAll('.jupyter-widgets-disconnected')].filter(
        part => getComputedStyle(part, '::before').content != 'none').length"""
    assert page.evaluate(icons) == 0


def test_a_page_whose_server_ended_says_so_in_words(doomed):
    page, server, _ = doomed
    told = hidden_words(page, "rsrl-silent")
    server.kill()
    playwright.expect(told).to_be_visible()
    playwright.expect(told).to_contain_text("load the page again")


MAIN_CONTROLS = {"Highlight regions": (HIGHLIGHTS, "round I"), "Crops": (CROPS, "threshold")}


@pytest.fixture(params=["lab", "voila"])
def small(request, chromium):
    """The page on a small screen, and the part of the screen that is left to it."""
    page = visit(chromium, request.getfixturevalue(request.param), size=(1024, 768))
    run_all(page, request.param)
    yield page, page.locator(".jp-WindowedPanel-outer" if request.param == "lab" else "html")
    page.context.close()


@pytest.mark.parametrize("tab", MAIN_CONTROLS)
@pytest.mark.parametrize("has_side_bar", [True, False])
def test_pictures_and_main_controls_are_on_a_small_screen_together(small, tab, has_side_bar):
    page, area = small
    page.get_by_role("tab", name=tab).click()
    where, control = MAIN_CONTROLS[tab]
    explorer = page.locator(where)
    if not has_side_bar:
        page.keyboard.press("Control+b")  # in Voila, which has none, it does nothing
    explorer.evaluate("explorer => explorer.scrollIntoView()")
    page.wait_for_timeout(700)
    left = area.bounding_box()
    images = explorer.locator("img").all()
    parts = [*images, explorer.locator(".rsrl-thumbs")]
    parts.append(explorer.locator(".widget-hslider", has_text=control))
    for part in parts:
        box = part.bounding_box()
        assert box["y"] >= left["y"] - 1
        assert box["y"] + box["height"] <= min(768, left["y"] + left["height"])
        assert box["x"] + box["width"] <= left["x"] + left["width"]
    assert images[0].bounding_box()["width"] > 120


def test_nothing_went_wrong_in_the_page_and_voila_shows_no_code(page, request):
    assert page.errors == []
    assert "Traceback" not in page.content()
    code_is_shown = page.locator(".jp-InputArea-editor").count() > 0
    assert code_is_shown == ("lab" in request.node.name)


def test_what_one_visitor_gives_is_not_seen_by_another(chromium, voila, tmp_path):
    def give(name):
        Image.radial_gradient("L").convert("RGB").save(tmp_path / name)
        upload(one, tmp_path / name)
        playwright.expect(one.locator(HIGHLIGHTS)).to_contain_text(f"{name}: your own photo")

    one = visit(chromium, voila)
    give("before.png")
    other = visit(chromium, voila)
    other.get_by_role("button", name="00.png").wait_for()
    give("beside.png")
    other.get_by_role("button", name="09.png").click()
    playwright.expect(other.locator(HIGHLIGHTS)).to_contain_text("09.png: score")
    assert not re.search("before.png|beside.png", other.content())
    playwright.expect(one.locator(HIGHLIGHTS)).to_contain_text("beside.png: your own photo")
    assert kernel_in(one.content()) != kernel_in(other.content())
    for page in (one, other):
        page.context.close()


def kernel_in(page):
    return re.search(r'"kernelId": "([\w-]+)"', page)[1]


@pytest.fixture(scope="module")
def kernel(voila, folder):
    """The kernel of a stranger, who asks for the page by a template of her own."""
    (folder / "template").mkdir()
    (folder / "template" / "index.html.j2").write_text("{{ 6 * 7 }}")
    with urlopen(f"{voila}?template={folder / 'template'}", timeout=SECONDS) as page:
        return kernel_in(page.read().decode())


def channels(voila, kernel):
    return f"ws{voila.removeprefix('http')}api/kernels/{kernel}/channels"


def test_a_page_works_its_widgets_and_can_run_no_code(voila, kernel, tmp_path):
    socket, answers = websocket.create_connection(channels(voila, kernel), timeout=SECONDS), []

    def ask(channel, kind, **content):
        header = {"msg_id": uuid.uuid4().hex, "msg_type": kind, "version": "5.3"}
        header |= {"session": "one", "username": "", "date": ""}
        message = {"channel": channel, "header": header, "content": content}
        socket.send(json.dumps(message | {"parent_header": {}, "metadata": {}}))

    def until(kind):
        while not answers or answers[-1]["msg_type"] != kind:
            answers.append(json.loads(socket.recv()))
        return answers[-1]["content"]

    for channel in ("shell", "control"):
        code = f"open({str(tmp_path / channel)!r}, 'w').close()"
        ask(channel, "execute_request", code=code, silent=False, user_expressions={"all": "dir()"})
        ask(channel, "inspect_request", code="run", cursor_pos=2, detail_level=0)
        ask(channel, "complete_request", code="run.", cursor_pos=4)
        ask(channel, "history_request", hist_access_type="tail", n=9, output=True, raw=True)
        ask(channel, "debug_request", command="evaluate", arguments={"expression": code})
        ask(channel, "kernel_info_request")  # answered once those above were handled
        until("kernel_info_reply")
    ask("shell", "comm_info_request", target_name="jupyter.widget")
    # The first is a layout. A picture comes as bytes, in which Voila (0.5.13), asked by this older
    # protocol, loses its way for good.
    comm = next(iter(until("comm_info_reply")["comms"]))
    ask("shell", "comm_msg", comm_id=comm, data={"method": "request_state"})
    assert until("comm_msg")["data"]["method"] == "update"
    socket.close()
    assert list(tmp_path.iterdir()) == []
    kinds = {"kernel_info_reply", "comm_info_reply", "comm_msg", "status"}
    assert {answer["msg_type"] for answer in answers} <= kinds


def status(voila, path, **headers):
    """What a server answers to a path, which a browser would first make shorter."""
    connection = HTTPConnection(urlsplit(voila).netloc, timeout=SECONDS)
    connection.putrequest("GET", path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    connection.close()
    return status(voila, answer.headers["Location"]) if answer.status == 302 else answer.status


FILES = ("app.ipynb", "rsrl_lib.txt", "photos/00.png", "photos/scores.csv", "run/run.json")
AFTER = (".", "..", "../..", "%2e%2e/%2e%2e", "..%2f..", "../" * 12 + "{folder}", "/{folder}")
GIVEN = ("voila/static", "voila/templates/lab/static", "voila/labextensions", "voila/api/themes")


@pytest.mark.parametrize("file", FILES)
def test_no_file_is_served(voila, folder, file):
    assert (folder / file).exists()
    for service in ("", "files/", "voila/files/", "api/contents/", "voila/render/", "voila/tree/"):
        assert status(voila, f"/{service}{file}") >= 400
    for service in (*GIVEN, "voila/files"):
        for way in AFTER:
            assert status(voila, f"/{service}/{way.format(folder=folder)}/{file}") >= 400
    assert status(voila, "/voila/static/voila.js") == 200


@pytest.mark.parametrize(
    "service", ["contents", "kernels", "sessions", "terminals", "config/a", "kernelspecs"]
)
def test_no_service_of_a_notebook_server_answers(voila, service):
    assert status(voila, f"/api/{service}") >= 400


def test_it_listens_on_127_0_0_1_alone(voila, kernel):
    """The server and its kernels; others on this machine reach it, no other machine does."""
    started = psutil.Process().children(recursive=True)
    ends = [end for process in started for end in process.net_connections("inet")]
    listening = [end.laddr for end in ends if end.status == psutil.CONN_LISTEN]
    assert urlsplit(voila).port in [address.port for address in listening]
    assert len(listening) > 5  # a kernel has five, of its own
    assert {address.ip for address in listening} == {"127.0.0.1"}


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "192.0.2.7:{port}"])
def test_a_page_by_another_name_of_this_machine_gets_no_kernel(voila, kernel, host):
    host = host.format(port=urlsplit(voila).port)
    assert status(voila, "/", Host=host) == 403
    with pytest.raises(websocket.WebSocketBadStatusException, match="403"):
        websocket.create_connection(channels(voila, kernel), host=host, origin=f"http://{host}")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1"])
def test_a_page_of_another_site_gets_no_kernel(voila, kernel, origin):
    with pytest.raises(websocket.WebSocketBadStatusException, match="403"):
        websocket.create_connection(channels(voila, kernel), origin=origin)


def test_a_kernel_that_nobody_looks_at_ends(folder):
    kind = "--MappingKernelManager.cull_"
    quick = [re.sub(rf"({kind}\w+)=\d+", r"\1=1", option) for option in app.PAGE]
    with served(folder, ["voila", "app.ipynb", *quick], "") as address:
        with urlopen(address, timeout=SECONDS) as page:
            kernel = kernel_in(page.read().decode())
        wait_for(lambda: status(address, f"/api/kernels/{kernel}") == 404)


def test_what_is_said_to_a_kernel_is_encrypted(page, folder):
    """The last of the tests of a page: its kernel has been asked for all there is."""
    for log in folder.glob("*.txt"):
        assert "without encryption" not in log.read_text()


def test_make_app_is_rsrl_app():
    assert made("app")[-1] == "app"
    given = {"RUN": "run", "GAP_RUN": "gap_run"}
    given |= {"PHOTOS": "photos", "SCORES": "photos/scores.csv"}
    words = made("app", *[f"{name}={value}" for name, value in given.items()])
    assert [Path(words[0]).name, *words[1:]] == ["rsrl", *APP]
    words = made("app", "SOURCE=ava", "OPTIONS={strict: true, a: 'b c'}")
    assert words[2:4] == ["--source", "ava"]


RATE = ["rsrl_lib", "rate", "--photos", "photos", "--scores", "scores.csv"]
RATING = ".rsrl-rate"


@pytest.fixture
def to_rate(tmp_path):
    """A folder of drawn photos without scores, one of them on its side, one in a sub-folder, and
    one that is none."""
    photos = tmp_path / "photos"
    (photos / "more").mkdir(parents=True)
    for number in range(14):
        name = f"more/{number:02}.jpg" if number == 3 else f"{number:02}.jpg"
        turned = Image.Exif()
        turned[274] = 6 if number == 5 else 1
        Image.new("RGB", (120, 80), (17 * number, 90, 200)).save(photos / name, exif=turned)
    (photos / "broken.jpg").write_bytes(b"no picture")
    (tmp_path / "temporary").mkdir()
    return tmp_path


def rating(chromium, address, **how):
    """The page that rates, once its first photo is shown; keys go to it without a click."""
    page = visit(chromium, address, **how)
    page.locator(f"{RATING}:focus img[alt^=Photo]").wait_for()
    return page


def logged(folder):
    return read_log(folder / "scores_ratings.csv")


def press(page, folder, *keys):
    """Press keys one after the other, each once the one before it is in the log."""
    for key in keys:
        before = len(logged(folder))
        page.keyboard.press(key)
        wait_for(lambda before=before: len(logged(folder)) > before)
        wait_for(lambda: page.locator(".rsrl-waits").count() == 0)


def test_a_folder_is_rated_by_the_keyboard_alone_with_a_stop_between(chromium, to_rate):
    with served(to_rate, RATE, "") as address:
        page = rating(chromium, address)
        playwright.expect(page.locator(RATING)).to_contain_text("0 of about")
        press(page, to_rate, "4", "Numpad7", "Backspace", "6", "Space", "ArrowRight", "5")
        playwright.expect(page.locator(RATING)).to_contain_text("3 of about")
        playwright.expect(page.locator(RATING)).to_contain_text("You gave 5.")
        page.keyboard.press("0")
        playwright.expect(page.locator(RATING)).to_contain_text("0 is no score here.")
        assert page.errors == []
        page.context.close()
    events = [(key.event, key.score) for key in logged(to_rate)]
    assert events == [
        ("rated", 4),
        ("rated", 7),
        ("taken back", None),
        ("rated", 6),
        ("skipped", None),
        ("skipped", None),
        ("rated", 5),
    ]
    photos = [key.photo for key in logged(to_rate)]
    assert photos[1] == photos[2] == photos[3]

    with served(to_rate, RATE, "") as address:
        page = rating(chromium, address)
        playwright.expect(page.locator(RATING)).to_contain_text("3 of about")
        press(page, to_rate, "ArrowLeft")
        playwright.expect(page.locator(RATING)).to_contain_text("you had given 5")
        while page.get_by_text("All photos are scored").is_hidden():
            press(page, to_rate, "3")
        playwright.expect(page.locator(RATING)).to_contain_text("cannot be read")
        page.context.close()
    read = sources.read_folder(to_rate / "photos", to_rate / "scores.csv")
    assert sorted(read.table.score) == [3] * 12 + [4, 6]
    assert "more/03.jpg" in set(read.table.photo)


def test_keys_pressed_faster_than_the_answer_go_to_the_photo_that_was_seen(chromium, to_rate):
    with served(to_rate, RATE, "") as address:
        page = rating(chromium, address)
        # Of every moment: which picture is shown, and which key is pressed at it.
        seen = page.evaluate(
            """async keys => {
                const root = document.querySelector('.rsrl-rate'), seen = [];
                for (const key of keys) {
                    const image = root.querySelector('img');
                    let url, pixels;
                    do { // another photo may have come while this one was read
                        url = image.src;
                        pixels = await fetch(url).then(got => got.arrayBuffer()).catch(() => 0);
                    } while (url !== image.src);
                    const waits = root.querySelector('.rsrl-waits') !== null;
                    const event = {code: `Digit${key}`, key, bubbles: true, cancelable: true};
                    root.dispatchEvent(new KeyboardEvent('keydown', event));
                    const digest = await crypto.subtle.digest('SHA-256', pixels);
                    const bytes = Array.from(new Uint8Array(digest));
                    const hash = bytes.map(byte => byte.toString(16).padStart(2, '0')).join('');
                    if (!waits) seen.push([hash, Number(key)]);
                }
                return seen;
            }""",
            list("23456789"),
        )
        playwright.expect(page.locator(".rsrl-waits")).to_have_count(0)
        wait_for(lambda: len(logged(to_rate)) == len(seen))
        page.context.close()
    assert len(seen) >= 2
    view = rating_view(to_rate / "photos", to_rate / "other.csv")
    given = [(hashlib.sha256(view.jpeg(k.photo)).hexdigest(), k.score) for k in logged(to_rate)]
    assert given == [tuple(pair) for pair in seen]


def test_a_photo_is_rated_by_touch_on_a_phone_and_stands_upright(chromium, to_rate):
    with served(to_rate, RATE, "") as address:
        page = rating(chromium, address, size=(390, 844))
        sizes = []
        for number in range(14):
            image = page.locator(f"{RATING} img")
            sizes.append(image.evaluate("image => [image.naturalWidth, image.naturalHeight]"))
            page.get_by_role("button", name=f"Score {3 + number % 5}, given").click()
            wait_for(lambda number=number: len(logged(to_rate)) > number)
            wait_for(lambda: page.locator(".rsrl-waits").count() == 0)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.errors == []
        page.context.close()
    is_first = [key.event == "rated" for key in logged(to_rate)]
    assert sizes.count([80, 120]) == 1 and sum(is_first) >= 12


def test_the_tab_rates_by_keys_and_leaves_the_table_that_was_given_as_it_is(page, folder):
    scores = folder / "photos" / "scores.csv"
    before, log = scores.read_text(), folder / "photos" / "my_scores_ratings.csv"
    count = len(read_log(log))
    page.get_by_role("tab", name="Rate").click()
    page.locator(f"{RATING} img").click()
    page.keyboard.press("4")
    wait_for(lambda: len(read_log(log)) == count + 1)
    # In JupyterLab, two zeros would restart the kernel.
    page.keyboard.press("0")
    page.keyboard.press("0")
    page.keyboard.press("Backspace")
    wait_for(lambda: len(read_log(log)) == count + 2)
    assert page.get_by_text("Restart Kernel?").count() == 0
    assert scores.read_text() == before
    page.get_by_role("tab", name="Highlight regions").click()
