"""From a folder of photos to an answer, as a new user goes it: seconds of each step, and pictures.

    .venv/bin/python benchmarks/whole_way.py PHOTOS PHOTOS/photos.csv OUT

Takes 150 photos of a folder whose scores are known (photos.csv: photo, score), and rates 60 of them
in a browser, by keys, as the table says. Then it trains, reports, ranks the other photos and crops
the best ten. OUT gets the seconds of each step (steps.csv), what each said, and screenshots in
light and dark, on a projector and a phone. Nothing else should run. Needs Debian's chromium.
"""

import argparse
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from playwright.sync_api import sync_playwright

from rsrl_lib.ratings import Ratings, log_of

CHROMIUM = "/usr/bin/chromium"
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PORT = 8911
SCREENS = {
    "light": {"viewport": {"width": 1280, "height": 800}},
    "dark": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark"},
    "projector": {"viewport": {"width": 1920, "height": 1080}},
    "phone": {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2},
}
NETWORK = ["--backbone", "squeezenet1_1", "--weights", "starter"]


def rsrl(*words) -> list[str]:
    return [sys.executable, "-m", "rsrl_lib", *map(str, words)]


def take_photos(source: Path, table: Path, count: int, out: Path) -> pd.Series:
    """Copy so many photos into a folder of their own; returns their scores by their names."""
    known = pd.read_csv(table).sample(count, random_state=0)
    photos = out / "photos"
    photos.mkdir(parents=True)
    for name in known.photo:
        shutil.copy(source / name, photos / Path(name).name)
    names = [Path(name).name for name in known.photo]
    return pd.Series(known.score.to_numpy(), names)


@contextmanager
def rating_page(photos: Path, scores: Path):
    """The page that rates, served; its address."""
    words = rsrl("rate", "--photos", photos, "--scores", scores, "--port", PORT, "--no-browser")
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{PORT}/"
    finally:
        server.terminate()
        server.wait()


def opened(context, address: str):
    """The page once it shows a photo; tried again until the server answers."""
    page = context.new_page()
    for _ in range(120):
        try:
            page.goto(address)
            break
        except Exception:
            time.sleep(0.25)
    page.locator(".rsrl-rate:focus img[alt^=Photo]").wait_for(timeout=60_000)
    return page


def rate(photos: Path, scores: Path, truth: pd.Series, count: int, out: Path) -> dict[str, float]:
    """Rate so many photos by keys; seconds until the first photo, and milliseconds of a key."""
    names = sorted(truth.index)
    taken = []
    begun = time.perf_counter()
    with rating_page(photos, scores) as address, sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = opened(chromium.new_context(**SCREENS["light"]), address)
        first = time.perf_counter() - begun
        while True:
            ratings = Ratings(names, scores)
            rated = {key.photo for key in ratings.done}
            if len(rated) >= count:
                break
            pressed = time.perf_counter()
            size = log_of(scores).stat().st_size if log_of(scores).exists() else 0
            page.keyboard.press(str(truth[ratings.current.photo]))
            while not log_of(scores).exists() or log_of(scores).stat().st_size == size:
                time.sleep(0.002)
            page.locator(".rsrl-waits").wait_for(state="detached")
            taken.append(1000 * (time.perf_counter() - pressed))
        page.screenshot(path=out / "rate_light.png")
        for name, screen in SCREENS.items():
            shown = opened(chromium.new_context(**screen), address)
            shown.screenshot(path=out / f"rate_{name}.png")
        chromium.close()
    return {"first photo (s)": first, "key (ms, median)": pd.Series(taken).median()}


def shoot(page_file: Path, out: Path) -> None:
    """Pictures of a page that needs no server, on every screen."""
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        for name, screen in SCREENS.items():
            page = chromium.new_context(**screen).new_page()
            page.goto(page_file.resolve().as_uri())
            page.screenshot(path=out / f"report_{name}.png", full_page=name != "projector")
        chromium.close()


def run_step(name: str, words: list[str], out: Path, steps: dict[str, float]) -> None:
    """Run a command, keep what it says, and note its seconds."""
    begun = time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True)
    steps[f"{name} (s)"] = time.perf_counter() - begun
    (out / f"{name}.txt").write_text(done.stdout + done.stderr)
    print(f"{name}: {steps[f'{name} (s)']:.1f} s", flush=True)
    if done.returncode:
        sys.exit(f"{' '.join(words)} failed: {done.stderr}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("table", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--rated", type=int, default=60)
    parser.add_argument("train", nargs="*", default=["--tune", "head"])
    given = parser.parse_args()

    out = given.out
    truth = take_photos(given.photos, given.table, given.count, out)
    photos, scores, run = out / "photos", out / "scores.csv", out / "run"
    steps = rate(photos, scores, truth, given.rated, out)
    rated = pd.read_csv(scores)
    others = [photos / name for name in truth.index if name not in set(rated.photo)]

    of_photos = ["--photos", photos, "--scores", scores]
    train = rsrl("train", *of_photos, "--run", run, *NETWORK, *given.train)
    run_step("train", train, out, steps)
    run_step("report", rsrl("report", run), out, steps)
    ranked = out / "ranked.csv"
    assess = rsrl("assess", "--run", run, *others, "--sort", "rank", "--out", ranked)
    run_step("assess", assess, out, steps)
    best = pd.read_csv(ranked).photo.head(10)
    run_step("crop", rsrl("crop", "--run", run, *best, "--out", out / "crops"), out, steps)

    shoot(run / "report.html", out)
    table = pd.DataFrame({"step": steps.keys(), "took": steps.values()}).round(1)
    table.to_csv(out / "steps.csv", index=False)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
