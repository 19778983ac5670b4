"""The pictures in the README and docs: pages of a run as Chromium shows them (`make screenshots`).

Chromium is taken from PATH; nothing is downloaded. A picture is added by a line in PICTURES. The report is a page of
the server like the others. The pages of annotation are shown on a copy of the run in a temporary folder, where two
made-up people answer by a rule: the pictures show the pages, and no judgement of anybody.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from antar.core.errors import UserError
from antar.stages.people import init_sheet


@dataclass(frozen=True)
class Picture:
    """A file, the page that it shows, and the window. `address` may hold {feature}, the strongest of the run's.
    `element`: only the first such element of the page."""

    name: str
    address: str
    width: int = 1400
    height: int = 900
    dark: bool = False
    element: str = ""


PICTURES = (
    Picture("../report", "/report", 1500, 1150),
    Picture("report-narrow", "/report", 400, 860, dark=True),
    Picture("report-criteria", "/report", 1200, element="#criteria .scroll"),
    Picture("report-card", "/report", 1200, element="#changed > article.feature:has(blockquote:lang(hi))"),
    Picture("features", "/features?changed=1"),
    Picture("search-hindi", "/features?text=%E0%A4%AC%E0%A4%BF%E0%A4%B0%E0%A4%AF%E0%A4%BE%E0%A4%A8%E0%A5%80"),
    Picture("feature", "/feature/{feature}", height=1500),
    Picture("feature-narrow", "/feature/{feature}", 400, 860, dark=True),
    Picture("compare", "/compare", height=1080, dark=True),
    Picture("dictionary", "/dictionary/delta.layer02"),
    Picture("criteria", "/criteria", dark=True),
)


ANNOTATORS = ("asha", "ravi")
FEATURES = 40


def main() -> int:
    """Serve the run of the first argument, and write the pictures into the folder of the second."""
    run, out = map(Path, sys.argv[1:])
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        raise UserError("expected Chromium on PATH, found none; apt-get install chromium fonts-noto-core")
    if not (run / "study.yaml").is_file():
        raise UserError(f"{run}: expected a run folder, found none; `make demo` makes it")
    out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as running, tempfile.TemporaryDirectory() as folder:
        browser = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        with served(run) as links:
            take(browser, links[""], out)
        copy = Path(folder) / run.name
        shutil.copytree(run, copy, ignore=shutil.ignore_patterns("activations", "codes", "organism", "people"))
        init_sheet(copy, list(ANNOTATORS), str(FEATURES))
        with served(copy) as links:
            take_annotating(browser, links, out)
    return 0


@contextmanager
def served(run: Path) -> Generator[dict[str, str]]:
    """`antar serve`: its links by the annotator, "" for the owner's."""
    command = [sys.executable, "-c", "from antar.cli import main; main()", "serve", str(run), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            assert server.stdout is not None
            links: dict[str, str] = {}
            wanted = 1 + (len(ANNOTATORS) if (run / "people").is_dir() else 0)
            for line in server.stdout:
                if found := re.search(r"(?:annotate as (\w+), blind|open)\S* (http\S+)", line):
                    links[found[1] or ""] = found[2]
                if len(links) == wanted:
                    break
            yield links
        finally:
            server.send_signal(signal.SIGINT)


def take(browser: Browser, link: str, out: Path) -> None:
    base = _base(link)
    first = browser.new_context()
    page = first.new_page()
    page.goto(link)
    page.locator("h1", has_text="Reading the run").wait_for(state="detached", timeout=300_000)
    feature = page.locator("tbody th a").first.inner_text()
    state = first.storage_state()
    for picture in PICTURES:
        context = browser.new_context(
            storage_state=state,
            viewport={"width": picture.width, "height": picture.height},
            color_scheme="dark" if picture.dark else "light",
            reduced_motion="reduce",
        )
        page = context.new_page()
        answer = page.goto(base + picture.address.format(feature=feature))
        assert answer is not None and answer.status == 200, picture.address
        shown = page.locator(picture.element).first if picture.element else page
        shown.screenshot(path=out / f"{picture.name}.png")
        context.close()


# -- annotation -----------------------------------------------------------------------------------------------------


def take_annotating(browser: Browser, links: dict[str, str], out: Path) -> None:
    """An item before and after its label is shown, a disagreement, the agreement."""
    people = {name: _window(browser, links[name]) for name in ANNOTATORS}
    owner = _window(browser, links[""])
    for name, page in people.items():
        page.goto(_base(links[name]) + "/annotate/mine/next")
        done = 0
        while "/item/" in page.url:
            _answer(page, name, done, out)
            done += 1
    base = _base(links[""])
    owner.goto(base + "/annotate/agreement")
    owner.screenshot(path=out / "agreement.png")
    owner.goto(base + "/annotate/adjudicate")
    case = owner.locator("a[href*='/annotate/adjudicate/']").first
    if case.count():
        case.click()
        owner.wait_for_load_state()
    owner.screenshot(path=out / "adjudicate.png")


def _base(link: str) -> str:
    return "http://" + urlsplit(link).netloc


def _window(browser: Browser, link: str) -> Page:
    context: BrowserContext = browser.new_context(viewport={"width": 1200, "height": 900}, reduced_motion="reduce")
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(link)
    return page


def _answer(page: Page, who: str, number: int, out: Path) -> None:
    """Answers by the digits of the item's id, which is nobody's opinion: alike but for a fifth of the items."""
    before, keys = page.url, page.keyboard
    digits = zlib.crc32(before.rsplit("/", 1)[1].encode())
    holds = (digits % 3 != 0) != (who == ANNOTATORS[1] and digits % 5 == 1)
    pictured = number == 2 and who == ANNOTATORS[0]
    if pictured:
        page.screenshot(path=out / "annotate-blind.png")
    page.locator("body").click(position={"x": 2, "y": 2})  # keys are for the page, and not for a field
    keys.press("4" if holds else "2")
    keys.type("words that stand together")
    keys.press("Enter")
    page.wait_for_selector("#proposed")
    if pictured:
        page.screenshot(path=out / "annotate-label.png")
    keys.press("k" if holds else "i")
    keys.press("c" if holds else "t")
    keys.press("Enter")
    page.wait_for_url(lambda url: url != before)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"make screenshots: {error}")
