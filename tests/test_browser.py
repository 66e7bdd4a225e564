"""The explorers of highlights and of crops in a browser, as JupyterLab and Voila show them."""

import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from rsrl_lib import network, rounds
from tests.conftest import ROOT
from tests.test_rounds import RECIPE

papermill = pytest.importorskip("papermill", reason="papermill is not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium is installed (on Debian: apt-get install chromium)"
)

FIGURES = ("photo", "region", "later map", "earlier map", "difference")
MAPS = set(FIGURES) - {"photo"}
HIGHLIGHTS, CROPS = ".rsrl-highlights", ".rsrl-crops"
SECONDS = 60
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
    """A folder with the page as notebook, and a finished run that it shows."""
    folder = tmp_path_factory.mktemp("app")
    photos = Path(coloured[0].table.path[0]).parent
    rounds.repeat(*coloured, folder / "run", RECIPE)
    make_crop_run(coloured, folder / "gap")
    given = {"photos": photos, "scores": photos / "scores.csv", "run": folder / "run"}
    given |= {"gap_run": folder / "gap"}
    papermill.execute_notebook(
        str(ROOT / "notebooks" / "app.ipynb"),
        str(folder / "app.ipynb"),
        {name: str(path) for name, path in given.items()},
        prepare_only=True,
        progress_bar=False,
    )
    return folder


def make_crop_run(coloured, folder):
    """A run of a network with attributes whose map of the high level is nowhere negative."""
    scored, pixels = coloured
    red = pd.DataFrame({"red": (scored.table.score == 2).astype(float)})
    scored = dataclasses.replace(scored, attributes=red.set_index(scored.table.photo))
    kind = {"head": "gap", "levels": "low-high", "cut": 4, "attributes": ("red",)}
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
    with (folder / "log.txt").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", *words, f"--port={port}", "--no-browser"],
            cwd=folder,
            env=os.environ | {name: str(path) for name, path in homes.items()},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_for(lambda: listens(port) or server.poll() is not None)
            assert server.poll() is None, (folder / "log.txt").read_text()
            yield f"http://127.0.0.1:{port}/{path}"
        finally:
            server.terminate()
            server.wait(SECONDS)


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


@pytest.fixture(scope="module", params=["jupyterlab", "voila"])
def page(request, folder, chromium):
    """The explorer, run and shown."""
    lab = ["jupyterlab", "--IdentityProvider.token=secret", "--allow-root", "--ip=127.0.0.1"]
    voila = ["voila", "app.ipynb", "--Voila.ip=127.0.0.1"]
    words = {"jupyterlab": lab, "voila": voila}[request.param]
    path = {"jupyterlab": "lab/tree/app.ipynb?token=secret", "voila": ""}[request.param]
    with served(folder, words, path) as address:
        page = chromium.new_page(viewport={"width": 1500, "height": 1000})
        page.set_default_timeout(SECONDS * 1000)
        page.errors = []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.goto(address)
        if request.param == "jupyterlab":
            # What is run before the kernel is ready gets lost.
            page.get_by_text("| Idle").wait_for()
            page.get_by_role("menuitem", name="Run", exact=True).click()
            page.get_by_text("Run All Cells", exact=True).click()
        page.get_by_role("button", name="00.png").wait_for()
        wait_for(lambda: len(pictures(page)) == len(FIGURES))
        yield page
        page.close()


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


def test_a_broken_photo_is_told_in_a_sentence_and_the_page_goes_on(page, tmp_path):
    before = pictures(page)
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    upload(page, tmp_path / "broken.jpg")
    playwright.expect(page.get_by_role("alert")).to_contain_text("broken.jpg is no whole picture")
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


SHOWN = ("photo", "crop", "good", "level", "attribute")


@pytest.fixture
def crops(page, tmp_path):
    """The tab of crops, showing a photo of one bright spot."""
    page.get_by_role("tab", name="Crops").click()
    spot = np.hypot(*np.mgrid[-1.2:0.8:240j, -1.5:0.5:320j])
    Image.fromarray((255 * np.exp(-8 * spot**2)).astype(np.uint8)).save(tmp_path / "spot.png")
    upload(page, tmp_path / "spot.png")
    playwright.expect(page.locator(CROPS)).to_contain_text("spot.png: your own photo, predicted")
    wait_for(lambda: len(pictures(page, CROPS, SHOWN)) == len(SHOWN))
    playwright.expect(page.locator(CROPS)).to_contain_text("of 320 x 240 px")
    return page


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


def test_nothing_went_wrong_in_the_page_and_voila_shows_no_code(page, request):
    assert page.errors == []
    assert "Traceback" not in page.content()
    code_is_shown = page.locator(".jp-InputArea-editor").count() > 0
    assert code_is_shown == ("jupyterlab" in request.node.name)
