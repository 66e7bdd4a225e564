"""Pages of executed chapters open by themselves, and the index leads to each of them."""

import base64
import io
import re
import sys
from html.parser import HTMLParser

import pytest
from PIL import Image

from rsrl_lib.interface import app, cli, pages
from tests.conftest import ROOT

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbconvert")


class Addresses(HTMLParser):
    """All that a page links to or takes from elsewhere, and the text that it shows."""

    def __init__(self, page):
        super().__init__()
        self.links, self.taken, self.text = [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name == "href" and tag == "a":
                self.links.append(value)
            elif name in ("src", "href", "data"):
                self.taken.append(value)

    def handle_data(self, data):
        self.text += data


def figure(colour):
    file = io.BytesIO()
    Image.new("RGB", (900, 300), colour).save(file, "PNG")
    return {"image/png": base64.b64encode(file.getvalue()).decode()}


def executed(text, *shown):
    outputs = [nbformat.v4.new_output("display_data", data) for data in shown]
    cells = [nbformat.v4.new_markdown_cell(text)]
    cells.append(nbformat.v4.new_code_cell("show()", outputs=outputs, execution_count=1))
    return nbformat.v4.new_notebook(cells=cells)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "notebooks").mkdir()
    texts = {
        "01_one & all": executed(
            "# 1. Likes & <b>dislikes</b>\n\nText. Not asked.\n\n1. Which *photos* would $K$ drop?",
            {pages.WIDGET: {"model_id": "1"}, "text/plain": "VBox()"},
            figure("red"),
            figure("blue"),
        ),
        "02_two": executed("# 2. Maps: what do they show?\n\nIs that all?\n\n`$HOME` $1$ $\\nope$"),
    }
    for name, notebook in texts.items():
        nbformat.write(notebook, tmp_path / "notebooks" / f"{name}.ipynb")
    return tmp_path


def test_the_index_links_every_chapter_with_its_question_and_first_figure(folder):
    index = pages.write_pages(folder)
    assert index == folder / "index.html"
    page = index.read_text()
    told = Addresses(page)
    assert told.links == ["pages/01_one%20%26%20all.html", "pages/02_two.html"]
    assert all((folder / link.replace("%20%26%20", " & ")).exists() for link in told.links)
    for words in ("1. Likes & <b>dislikes</b>", "Which photos would K drop?", "2. Maps"):
        assert words in told.text
    assert "What do they show?" in told.text and "Is that all?" not in told.text
    [picture] = told.taken
    small = Image.open(io.BytesIO(base64.b64decode(picture.split(",")[1])))
    assert small.size == (480, 160)
    assert small.getpixel((9, 9))[0] > 200 and small.getpixel((9, 9))[2] < 50  # the red one


def test_titles_are_text_and_never_marks_of_the_page(folder):
    page = pages.write_pages(folder).read_text()
    assert "<b>" not in page
    assert "Likes &amp; &lt;b&gt;dislikes&lt;/b&gt;" in page


def test_a_page_takes_nothing_from_elsewhere_and_leads_back(folder):
    pages.write_pages(folder)
    for path in (folder / "pages").iterdir():
        page = path.read_text()
        told = Addresses(page)
        assert [address for address in told.taken if not address.startswith("data:")] == []
        assert "@import" not in page and "<script src" not in page
        assert "../index.html" in told.links


def test_controls_leave_a_word_and_formulas_are_drawn(folder):
    pages.write_pages(folder)
    one = (folder / "pages" / "01_one & all.html").read_text()
    told = Addresses(one)
    assert "Open notebooks/01_one & all.ipynb with JupyterLab" in told.text
    assert "VBox()" not in told.text and pages.WIDGET not in one
    assert re.search(r'<img alt="K" src="data:image/svg\+xml;base64,', one)
    two = Addresses((folder / "pages" / "02_two.html").read_text())
    assert "$HOME" in two.text and "$\\nope$" in two.text and "$1$" not in two.text


def test_formulas_that_a_cell_computes_are_drawn_too(folder):
    shown = {"text/markdown": "- $K$ falls", "text/plain": "<Markdown>"}
    nbformat.write(executed("# 3. Three", shown), folder / "notebooks" / "03.ipynb")
    pages.write_pages(folder)
    page = (folder / "pages" / "03.html").read_text()
    assert '<img alt="K"' in page and "$K$" not in Addresses(page).text


def test_bars_of_progress_leave_nothing(folder):
    bar = {pages.WIDGET: {"model_id": "1"}, "text/plain": "decoding:   0%|          | 0/9 [00:00]"}
    nbformat.write(executed("# 3. Three", bar), folder / "notebooks" / "03.ipynb")
    pages.write_pages(folder)
    page = (folder / "pages" / "03.html").read_text()
    assert "decoding" not in page and "Here are controls" not in page


def test_a_picture_that_stands_in_for_controls_is_shown(folder):
    both = figure("green") | {pages.WIDGET: {"model_id": "1"}}
    nbformat.write(executed("# 3. Three", both), folder / "notebooks" / "03.ipynb")
    pages.write_pages(folder)
    told = Addresses((folder / "pages" / "03.html").read_text())
    assert sum(address.startswith("data:image/png") for address in told.taken) == 1
    assert "Here are controls" in told.text


def test_every_chapter_has_a_title_and_a_question_for_the_index():
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        told = pages.chapter(nbformat.read(path, as_version=4), path.stem, "")
        assert re.match(r"\d+\. [A-Z2]", told.title), path.name
        assert told.question.endswith("?") and "\n" not in told.question, path.name


def test_the_last_line_of_the_demo_names_the_index(monkeypatch, tmp_path, capsys):
    def run_notebooks(_names, out, _parameters, *, timeout):
        out.mkdir(parents=True)
        nbformat.write(executed("# 1. One"), out / "01.ipynb")

    monkeypatch.setattr(app, "run_notebooks", run_notebooks)
    monkeypatch.setattr(sys, "argv", ["rsrl", "demo", "--out", str(tmp_path / "demo")])
    cli.main()
    (tmp_path / "demo" / "pages" / "00_old.html").touch()
    cli.main()
    index = tmp_path / "demo" / "index.html"
    assert str(index) in capsys.readouterr().out.splitlines()[-1]
    assert Addresses(index.read_text()).links == ["pages/01.html"]
    assert [path.name for path in (tmp_path / "demo" / "pages").iterdir()] == ["01.html"]
