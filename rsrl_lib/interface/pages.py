"""Executed chapters as pages for any browser, and an index of them.

The pages need no server and no network: formulas and figures are pictures within them, and nothing
is fetched. What is given up: controls do not move there.
"""

import base64
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import quote

from rsrl_lib.files import needing

INDEX = "index.html"
PAGES = "pages"
WIDGET = "application/vnd.jupyter.widget-view+json"
PICTURES = ("image/png", "image/jpeg")
THUMBNAIL = (480, 300)
"""Most pixels of a chapter's first figure in the index."""

# The look of JupyterLab, without the scripts that it would fetch from public servers.
LOOK = """{% extends 'lab/index.html.j2' %}
{% block html_head_js %}{% endblock %}
{% block jupyter_widgets %}{% endblock %}
{% block html_head_js_mathjax %}{% endblock %}
{% block html_head_js_mermaidjs %}{% endblock %}
"""

FRAME = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>The chapters</title>
<style>
body {{ max-width: 62rem; margin: 1.5rem auto; padding: 0 1rem; color: #1a1a1a;
  background: white; font: 1rem/1.4 system-ui, sans-serif }}
main {{ display: grid; gap: 1.5rem; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)) }}
a {{ color: #1d3b6f }}
a img {{ display: block; width: 100%; height: 9rem; object-fit: contain;
  border: 1px solid #ccc; background: white }}
h1 {{ font-size: 1.5rem; margin: 0 }}
h2 {{ font-size: 1.1rem; margin: .5rem 0 .2rem }}
p {{ margin: .2rem 0 1rem }}
</style>
</head>
<body>
<h1>The chapters</h1>
<p>Each opens as it was run, with its figures and tables. Its controls do not move here: for these,
open the notebook of the same name in <code>notebooks</code> with JupyterLab.</p>
<main>
{cards}
</main>
</body>
</html>
"""

CARD = """<article>
<a href="{address}">{picture}<h2>{title}</h2></a>
<p>{question}</p>
</article>"""


@dataclass(frozen=True)
class Chapter:
    """What the index tells of a chapter, as plain words; the picture as an address of its data."""

    title: str
    question: str
    picture: str
    address: str


def write_pages(folder: Path) -> Path:
    """Write `folder/notebooks/*.ipynb`, executed, to `folder/pages`, and an index of them.

    Returns the path of the index. Raises `InputError` without JupyterLab.
    """
    with needing("Pages of the chapters", "notebooks"):
        import nbconvert  # noqa: F401
        import nbformat
    pages = folder / PAGES
    pages.mkdir(parents=True, exist_ok=True)
    chapters = []
    for path in sorted((folder / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        address = f"{PAGES}/{quote(path.stem)}.html"
        of_index = chapter(notebook, path.stem, address)
        chapters.append(of_index)
        html = as_page(notebook, of_index.title, path.name)
        (pages / f"{path.stem}.html").write_text(html, encoding="utf-8")
    index = folder / INDEX
    index.write_text(as_index(chapters), encoding="utf-8")
    return index


def chapter(notebook, name: str, address: str) -> Chapter:
    """Title, question and first figure of an executed notebook called `name`.

    The question is that of the title, as in "6. Regions: what do they hold?", or the first one of
    the text below it.
    """
    texts = (cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    heading, _, text = next(texts, "").partition("\n")
    title = plain(heading.removeprefix("#")) or name
    before, colon, after = title.partition(": ")
    if colon and after.endswith("?"):
        title = before
        question = after[0].upper() + after[1:]
    else:
        question = _first_question(text)
    return Chapter(title, question, thumbnail(notebook), address)


def _first_question(text: str) -> str:
    """The first sentence of a Markdown text that asks; nothing where none does."""
    without_items = re.sub(r"^(\d+\.|[-*]) ", "", text, flags=re.M)
    asked = re.search(r"[A-Z][^.?!:\n]*\?", plain(without_items))
    return asked[0] if asked else ""


def plain(text: str) -> str:
    """Markdown as words: without marks, and formulas by their letters."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"\\[!,;]|[$*`]", "", text).strip()


def thumbnail(notebook) -> str:
    """The first picture that a notebook shows, small, as an address of its data; or nothing."""
    for shown in _shown(notebook):
        for kind in PICTURES:
            if kind in shown:
                picture = base64.b64decode(shown[kind])
                return _data("image/jpeg", _small(picture))
    return ""


def _small(picture: bytes) -> bytes:
    """A picture as a JPEG of at most `THUMBNAIL` pixels."""
    from PIL import Image

    image = Image.open(io.BytesIO(picture)).convert("RGB")
    image.thumbnail(THUMBNAIL)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=85)
    return stream.getvalue()


def as_index(chapters: list[Chapter]) -> str:
    """A page of links with a card for each chapter."""
    cards = []
    for of_index in chapters:
        picture = ""
        if of_index.picture:
            picture = f'<img src="{of_index.picture}" alt="">'
        card = CARD.format(
            picture=picture,
            title=escape(of_index.title),
            question=escape(of_index.question),
            address=escape(of_index.address),
        )
        cards.append(card)
    return FRAME.format(cards="\n".join(cards))


def as_page(notebook, title: str, name: str) -> str:
    """An executed notebook as a page that needs nothing beside it; the notebook is changed."""
    from jinja2 import DictLoader
    from nbconvert import HTMLExporter
    from nbformat.v4 import new_markdown_cell

    notebook.metadata.pop("widgets", None)
    notebook.metadata["title"] = title
    _without_progress(notebook)
    for shown in _shown(notebook):
        if shown.pop(WIDGET, None):
            shown["text/html"] = _instead_of_controls(name, shown)
        if "text/markdown" in shown:
            shown["text/markdown"] = with_formulas("".join(shown["text/markdown"]))
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = with_formulas(cell.source)
    notebook.cells.insert(0, new_markdown_cell(f"[All chapters](../{INDEX})"))
    look = DictLoader({"page.html.j2": LOOK})
    exporter = HTMLExporter(extra_loaders=[look], template_file="page.html.j2")
    return exporter.from_notebook_node(notebook)[0]


def _without_progress(notebook) -> None:
    """Leave out the bars of progress, which are widgets too, and over."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [
                output for output in cell.outputs if not _is_progress(output)
            ]


def _is_progress(output) -> bool:
    shown = output.get("data", {})
    text = shown.get("text/plain", "")
    return WIDGET in shown and bool(re.search(r"\d+%\|", text))


def _instead_of_controls(name: str, shown: dict) -> str:
    """Where the controls are, and the picture that stands in for them if there is one."""
    note = (
        f"Here are controls to move. Open notebooks/{name} with JupyterLab to use them."
    )
    kinds = [kind for kind in PICTURES if kind in shown]
    picture = ""
    if kinds:
        kind = kinds[0]
        picture = f'<img alt="" src="data:{kind};base64,{shown[kind]}">'
    return f"<p><em>{escape(note)}</em></p>{picture}"


def _shown(notebook) -> Iterator[dict]:
    """What the cells of a notebook show, each by its kinds, in reading order."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "data" in output:
                yield output["data"]


def with_formulas(text: str) -> str:
    """Markdown with its formulas as pictures, for a browser draws none by itself."""
    return re.sub(r"`[^`]*`|\$(?!\s)[^$\n]+?(?<!\s)\$", _drawn, text)


def _drawn(formula: re.Match) -> str:
    """A formula as a picture; code, and what cannot be drawn, as it stands."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.mathtext import math_to_image

    text = formula[0]
    if text.startswith("`"):
        return text
    picture = io.BytesIO()
    size = FontProperties(size=11)
    try:
        depth = math_to_image(text, picture, prop=size, format="svg")
    except ValueError:
        return text
    address = _data("image/svg+xml", picture.getvalue())
    alt = escape(text.strip("$"))
    return f'<img alt="{alt}" src="{address}" style="vertical-align: -{depth:.1f}pt">'


def _data(kind: str, content: bytes) -> str:
    encoded = base64.b64encode(content).decode()
    return f"data:{kind};base64,{encoded}"
