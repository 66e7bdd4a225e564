"""The page of a run in a browser: from the disk, without a network, on a screen and on a phone."""

import shutil
import sys

import pytest

from rsrl_lib import rounds
from rsrl_lib.interface import cli
from tests.test_rounds import altered

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.usefixtures("small_crops"),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]


@pytest.fixture(scope="module")
def pages(coloured, small_crops, tmp_path_factory):
    """A page of one run and of two, in a folder whose name has blanks and a question mark."""
    folder = tmp_path_factory.mktemp("pages") / "my runs?"
    recipe = altered(rounds=2, attributes=())
    for name, changes in {"a": {}, "b": {"tune": "head"}}.items():
        rounds.repeat(*coloured, folder / name, altered(**{**recipe.__dict__, **changes}))
    made = {"one": [folder / "a"], "two": [folder / "a", folder / "b"]}
    for name, runs in made.items():
        words = ["report", *map(str, runs), "--out", str(folder / f"{name}.html")]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["rsrl", *words])
            cli.main()
    return folder


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        words = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=words)
        yield chromium
        chromium.close()


@pytest.mark.parametrize("name", ["one", "two"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (390, 844)])
def test_a_page_opens_from_the_disk_and_nothing_overflows(
    pages, browser, name, scheme, width, height
):
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, offline=True
    )
    page = context.new_page()
    asked, complaints = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto((pages / f"{name}.html").as_uri())
    outside = [url for url in asked if not url.startswith(("file:", "data:"))]
    assert outside == [] and sum(url.startswith("file:") for url in asked) == 1
    assert complaints == []

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    broken = "[...document.images].filter(i => !i.complete || !i.naturalWidth).length"
    assert page.evaluate(broken) == 0
    assert page.evaluate("document.images.length") > 5

    colour = "getComputedStyle(document.querySelector('{}')).{}"
    paper = page.evaluate(colour.format("body", "backgroundColor"))
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
    card = page.evaluate(colour.format(".card", "backgroundColor"))
    assert card == "rgb(255, 255, 255)"  # figures are drawn for white
    context.close()


def test_every_section_can_be_reached_by_the_keyboard(pages, browser):
    page = browser.new_page(viewport={"width": 1920, "height": 1080})
    page.goto((pages / "one.html").as_uri())
    titles = page.locator("section h2").all_inner_texts()
    assert len(titles) == 10
    links = page.locator("nav a")
    assert links.all_inner_texts() == titles
    page.keyboard.press("Tab")
    for number in range(10):
        focused = page.evaluate("document.activeElement.textContent")
        assert focused == titles[number]
        page.keyboard.press("Tab")
    links.nth(8).press("Enter")
    top = page.locator("section").nth(8).bounding_box()["y"]
    assert 0 <= top < 1080
    page.close()
