"""The explorers as a page in the browser, and the demo whose runs it shows until you name yours."""

import shutil
import tempfile
import warnings
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

from rsrl_lib.files import ROOT, InputError, needing
from rsrl_lib.interface.batch import DEMO_PHOTOS, literal, run_notebooks
from rsrl_lib.interface.given import options_of
from rsrl_lib.interface.pages import INDEX, PAGES, write_pages
from rsrl_lib.sources import FILES, read_photos

DEMO = Path("demo")
PARTS = ("notebooks", "figures", "run", "gap", PAGES, INDEX)
MARK = "made_by_rsrl_demo.txt"
NETWORK = "network_last.safetensors"  # of a run; opening one takes PyTorch, and serving it does not

# An uploaded photo is one message; Voila's own limit of 10 MB would drop the connection.
UPLOADS = 128 * 2**20

# The page answers this machine alone, and by no name that another site may point here; it gives no
# file beside the notebook, takes no template that its address names, and ends what nobody looks at.
# Its kernels are this Python, and nobody on the machine listens to what they say.
PAGE = (
    "--Voila.ip=127.0.0.1",
    "--Voila.tornado_settings="
    f"{{'websocket_max_message_size': {UPLOADS}, 'allow_remote_access': False}}",
    "--VoilaConfiguration.file_allowlist=[]",
    "--VoilaConfiguration.allow_template_override=NO",
    "--VoilaConfiguration.allow_theme_override=NO",
    "--VoilaConfiguration.kernel_spec_manager_class=rsrl_lib.interface.kernels.OwnSpecs",
    "--MappingKernelManager.cull_idle_timeout=600",
    "--MappingKernelManager.cull_interval=60",
    "--KernelManager.transport_encryption=auto",
)


def make_demo(folder: Path, *, timeout: int) -> Path:
    """Execute all notebooks on the embedded photos, into a folder of its own.

    Returns an index of pages to read them by. What an earlier demo made there is replaced. Raises
    `InputError` where the folder holds files and is not a demo's, and as `run_notebooks` does.
    """
    mark = folder / MARK
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is no folder; name another one by --out.")
    if folder.exists() and not mark.exists() and any(folder.iterdir()):
        raise InputError(
            f"{folder} holds files that no rsrl demo has made; move them away, or name another "
            "folder by --out."
        )
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(
        f"rsrl demo made {', '.join(PARTS)} in this folder, and replaces them the next time.\n"
    )
    for part in PARTS:
        _remove(folder / part)
    places = [("run", "run"), ("gap_run", "gap"), ("figures", "figures")]
    parameters = [(name, str(folder / part)) for name, part in places]
    parameters.append(("count", str(DEMO_PHOTOS)))
    run_notebooks((), folder / "notebooks", parameters, timeout=timeout)
    return write_pages(folder)


def _remove(path: Path) -> None:
    """Delete a folder or file; of a link, the link alone."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def serve(
    run: Path | None,
    gap_run: Path | None,
    *,
    photos: Path | None,
    scores: Path | None,
    source: str,
    options: str,
    port: int,
    browser: bool,
) -> None:
    """Show runs and their photos as a page on this machine, until it is stopped.

    Without a run the demo's are shown, and made first where there are none; without photos, those
    that the runs were made of. `options` are more for the reader of the photos, as YAML. Raises
    `InputError` where a run or the photos cannot be read.
    """
    with needing("rsrl app", "notebooks"):
        import ipykernel  # noqa: F401  (what the page is computed by)
        import voila  # noqa: F401

    given = _photos(photos, scores, source, options)
    run = run or DEMO / "run"
    demo_is_there = _has_round(DEMO / "run") and _has_round(DEMO / "gap")
    if run == DEMO / "run" and not demo_is_there:
        print(f"The runs that the page shows are made first, in {DEMO}.", flush=True)
        make_demo(DEMO, timeout=1800)
    if not gap_run:
        is_of_demo = (run.parent / MARK).exists() and run.name == "run"
        gap_run = run.parent / "gap" if is_of_demo else run
    for folder in (run, gap_run):
        if not _has_round(folder):
            raise InputError(
                f"{folder} holds no run with a finished round; make one with rsrl train."
            )
    given["run"] = str(run.resolve())
    given["gap_run"] = str(gap_run.resolve())
    _launch(lambda folder: write_page(folder, given), port=port, browser=browser)


def serve_rating(
    photos: Path,
    scores: Path,
    *,
    scale: tuple[int, int] | None,
    rater: str | None,
    port: int,
    browser: bool,
) -> None:
    """Show a page on this machine that scores photos, until it is stopped.

    Raises `InputError` as `rating_view` does, before there is a page.
    """
    with needing("rsrl rate", "notebooks"):
        import ipykernel  # noqa: F401  (what the page is computed by)
        import voila  # noqa: F401

        from rsrl_lib.interface.rating import rating_view

    view = rating_view(photos, scores, scale=scale, rater=rater)
    known = {"scale": view.ratings.scale, "rater": view.ratings.rater}
    print(*view.told(), sep="\n", flush=True)
    places = str(photos.resolve()), str(scores.resolve())
    _launch(
        lambda folder: write_rating_page(folder, *places, **known),
        port=port,
        browser=browser,
    )


def write_rating_page(
    folder: Path, photos: str, scores: str, *, scale: tuple[int, int], rater: str
) -> Path:
    """Write the page that scores photos as a notebook, not executed; returns its path."""
    from nbformat import v4, write

    code = f"""from rsrl_lib.interface.rating import rating_view

rating_view({photos!r}, {scores!r}, scale={tuple(scale)}, rater={rater!r}, page=True)"""
    page = folder / "rate.ipynb"
    notebook = v4.new_notebook(cells=[v4.new_code_cell(code)])
    python = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata.kernelspec = python
    notebook.metadata.title = "Score photos"
    write(notebook, page)
    return page


def _launch(write: Callable[[Path], Path], *, port: int, browser: bool) -> None:
    """Show the page that `write` makes in a folder as an application, until it is stopped.

    Raises `InputError` for a port that there cannot be.
    """
    if not 0 < port < 2**16:
        raise InputError(f"--port lies in 1..65535, not {port}; give one such as 8866.")

    from voila.app import Voila

    # Voila has traitlets tell that options of more than a word are written another way by now.
    warnings.filterwarnings("ignore", category=DeprecationWarning, module="traitlets")
    # A configuration of Voila is a program, and none of a folder that rsrl is started in.
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        chdir(folder),
    ):
        page = write(Path(folder))
        words = [str(page), *PAGE, f"--port={port}"]
        if not browser:
            words.append("--no-browser")
        Voila.launch_instance(words)


def _has_round(run: Path) -> bool:
    """Whether a folder holds a run with a finished round."""
    return (run / NETWORK).exists()


def write_page(folder: Path, given: dict[str, object]) -> Path:
    """Write the page as a notebook with these parameters, not executed; returns its path."""
    import papermill

    page = folder / "app.ipynb"
    papermill.execute_notebook(
        literal(ROOT / "notebooks" / "app.ipynb"),
        literal(page),
        given,
        prepare_only=True,
        progress_bar=False,
    )
    return page


def _photos(
    photos: Path | None, scores: Path | None, source: str, options: str
) -> dict[str, object]:
    """Parameters of the page for its photos, read once to say here what is wrong with them.

    Paths are made absolute, since the page has a folder of its own.
    """
    of_reader = options_of(options)
    if photos is None:
        if scores or of_reader or source != "folder":
            raise InputError(
                "Scores, a source or options are of photos; give their folder too."
            )
        return {}
    for name in of_reader.keys() & set(FILES):
        of_reader[name] = str(Path(of_reader[name]).resolve())
    given = {"photos": str(photos.resolve()), "source": source, "options": of_reader}
    if scores:
        given["scores"] = str(scores.resolve())
    try:
        read_photos(source, given["photos"], given.get("scores"), **of_reader)
    except TypeError as error:
        raise InputError(
            f"The options {options} are not those of {source} ({error})."
        ) from error
    return given
