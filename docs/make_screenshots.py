"""The pictures in the README and docs: pages of a run as Chromium shows them (`make screenshots`).

Chromium is taken from PATH; nothing is downloaded. A picture is added by a line in PICTURES. The report is a page of
the server like the others.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from antar.core.errors import UserError


@dataclass(frozen=True)
class Picture:
    """A file, the page that it shows, and the window. `address` may hold {feature}, the strongest of the run's."""

    name: str
    address: str
    width: int = 1400
    height: int = 900
    dark: bool = False


PICTURES = (
    Picture("features", "/features?changed=1"),
    Picture("search-hindi", "/features?text=%E0%A4%AC%E0%A4%BF%E0%A4%B0%E0%A4%AF%E0%A4%BE%E0%A4%A8%E0%A5%80"),
    Picture("feature", "/feature/{feature}", height=1500),
    Picture("feature-narrow", "/feature/{feature}", 400, 860, dark=True),
    Picture("compare", "/compare", height=1080, dark=True),
    Picture("dictionary", "/dictionary/delta.layer02"),
    Picture("criteria", "/criteria", dark=True),
)


def main() -> int:
    """Serve the run of the first argument, and write the pictures into the folder of the second."""
    run, out = map(Path, sys.argv[1:])
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        raise UserError("expected Chromium on PATH, found none; apt-get install chromium fonts-noto-core")
    if not (run / "study.yaml").is_file():
        raise UserError(f"{run}: expected a run folder, found none; `make demo` makes it")
    out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", "from antar.cli import main; main()", "serve", str(run), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            link = next(iter(re.findall(r"http://\S+", server.stderr.readline())))
            with sync_playwright() as running:
                browser = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
                take(browser, link, out)
        finally:
            server.send_signal(signal.SIGINT)
    return 0


def take(browser: Browser, link: str, out: Path) -> None:
    base = link.split("/?")[0]
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
        )
        page = context.new_page()
        answer = page.goto(base + picture.address.format(feature=feature))
        assert answer is not None and answer.status == 200, picture.address
        page.screenshot(path=out / f"{picture.name}.png")
        context.close()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"make screenshots: {error}")
