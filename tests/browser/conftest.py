"""A real browser on a real server: Chromium from PATH, through Playwright, which downloads none.

Whatever a page tries is watched: dialogs, requests to other hosts, console errors, elements that appear by
themselves. `make test-browser` runs these; without Playwright or Chromium they are skipped, and say so.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="session")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium on PATH: apt-get install chromium fonts-noto-core")
    with playwright.sync_playwright() as running:
        # Chromium's own sandbox refuses to start for root, as whom CI runs.
        flags = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        browser = running.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@dataclass
class Server:
    """`antar serve` in a process of its own. `links` are those that it printed."""

    process: subprocess.Popen
    links: list[str]

    @property
    def base(self) -> str:
        return self.links[0].split("/?")[0]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()


@pytest.fixture(scope="session")
def serve():
    """folder, links, port → a running Server; all are stopped at the end."""
    running: list[Server] = []

    def start(folder: Path, links: int = 1, port: int = 0) -> Server:
        command = [sys.executable, "-c", "from antar.cli import main; main()", "serve", str(folder),
                   "--port", str(port), "--links", str(links)]  # fmt: skip
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        found: list[str] = []
        while len(found) < links:
            line = process.stderr.readline()
            if not line and process.poll() is not None:
                raise AssertionError(f"antar serve ended with {process.returncode}")
            found += re.findall(r"http://\S+", line)
        running.append(Server(process, found))
        return running[-1]

    yield start
    for server in running:
        server.stop()


WATCH = """
window.__appeared = [];
document.addEventListener('DOMContentLoaded', () => {
  new MutationObserver((all) => {
    for (const one of all) for (const node of one.addedNodes)
      if (node.nodeType === 1) window.__appeared.push(node.outerHTML.slice(0, 200));
  }).observe(document.documentElement, {childList: true, subtree: true});
});
"""


@dataclass
class Watched:
    """A page and all that it did which it should not: `sins`. `base` is the only address that it may ask."""

    page: object
    base: str
    sins: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        page = self.page
        page.on("dialog", self._dialog)
        page.on("pageerror", lambda error: self.sins.append(f"error: {error}"))
        page.on("console", lambda m: m.type in ("error", "warning") and self.sins.append(f"{m.type}: {m.text}"))
        page.on("popup", lambda _: self.sins.append("a window opened"))
        page.on("request", self._request)

    def _dialog(self, dialog) -> None:
        self.sins.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _request(self, request) -> None:
        # Extensions aside, a page asks its own server and holds what it has: data: images of its own figures.
        if not request.url.startswith((self.base + "/", "data:image/svg+xml", "blob:")):
            self.sins.append(f"request: {request.url[:200]}")

    def go(self, address: str) -> None:
        """Open a page, and wait until it no longer says that the run is being read; it looks again by itself."""
        self.page.goto(self.base + address)
        self.ready()

    def ready(self) -> None:
        self.page.locator("h1", has_text="Reading the run").wait_for(state="detached", timeout=120_000)

    def appeared(self) -> list[str]:
        return self.page.evaluate("window.__appeared")

    def wide(self) -> int:
        """How many pixels the page is wider than the window."""
        return self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


@pytest.fixture
def watched(chromium):
    """server, context settings → a Watched page with a session. The test fails if the page did anything it should
    not."""
    opened: list[tuple[object, Watched]] = []

    def open_(server: Server, link: int = 0, **settings) -> Watched:
        context = chromium.new_context(**settings)
        context.add_init_script(WATCH)
        watching = Watched(context.new_page(), server.base)
        opened.append((context, watching))
        watching.page.goto(server.links[link])
        if settings.get("java_script_enabled", True):
            watching.ready()
        return watching

    yield open_
    for context, watching in opened:
        context.close()
        assert watching.sins == []


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory) -> Path:
    """Where screenshots are kept: `ANTAR_SCREENSHOTS`, as CI sets it, else a folder of this test run."""
    folder = Path(os.environ.get("ANTAR_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
