"""Exploring a run in Chromium: search, filters, keys, both widths, both schemes, and forty texts that do nothing."""

from __future__ import annotations

import itertools
import re
import urllib.parse

import pytest

from antar.web.text import shown

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def demo(serve, tmp_path_factory):
    from fake_run import write_fake_run

    return serve(write_fake_run(tmp_path_factory.mktemp("runs") / "fake"), links=20)


@pytest.fixture(scope="module")
def attacked(serve, tmp_path_factory):
    from hostile_run import write_hostile_run

    return serve(write_hostile_run(tmp_path_factory.mktemp("runs") / "hostile"), links=2)


def test_forty_hostile_texts_do_nothing(attacked, watched, screenshots):
    """No dialog, no request elsewhere, no console error, no element that appears; every text is there as text."""
    from hostile_run import HOSTILE

    one = watched(attacked)
    one.go("/features?sort=feature")
    names = one.page.eval_on_selector_all("tbody th a", "all => all.map(a => a.getAttribute('href'))")
    said: list[str] = []
    addresses = ["/features?sort=feature", "/features?sort=feature&page=2", "/features?text=script", "/compare",
                 "/dictionaries", "/dictionary/base.layer01", "/criteria", *names[:40:4]]  # fmt: skip
    for address in addresses:
        one.go(address)
        one.page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        one.page.mouse.move(300, 300)
        one.page.wait_for_timeout(100)
        assert one.appeared() == [], address
        tags = one.page.evaluate("[...new Set([...document.querySelectorAll('*')].map(e => e.localName))]")
        assert not set(tags) & {
            "iframe",
            "img",
            "object",
            "embed",
            "video",
            "audio",
            "base",
            "style",
            "marquee",
            "math",
        }
        assert one.page.evaluate("[...document.scripts].every(s => s.src.startsWith(location.origin + '/static/'))")
        assert one.page.evaluate("[...document.querySelectorAll('*')].every(e => [...e.attributes].every("
                                 "a => !a.name.startsWith('on') && a.name !== 'style'))")  # fmt: skip
        leads = one.page.eval_on_selector_all("[href]", "all => all.map(e => e.getAttribute('href'))")
        assert all(re.match(r"/(?!/)|#main$", href) for href in leads)
        said.append(one.page.evaluate("document.body.textContent"))
        one.page.screenshot(path=screenshots / f"hostile-{len(said):02d}.png")
    words = " ".join(" ".join(said).split())
    for text in HOSTILE:
        assert " ".join(shown(text).split()) in words, text


def test_hostile_texts_stay_inside_their_boxes(attacked, watched):
    """Neither a turned line nor a pile of marks covers what stands beside it; no page is wider than its window."""
    one = watched(attacked, 1, viewport={"width": 400, "height": 800})
    for address in ("/features", "/feature/base.layer01/0", "/feature/base.layer01/10", "/criteria", "/compare"):
        one.go(address)
        assert one.wide() <= 0, address
    one.go("/feature/base.layer01/10")
    boxes = one.page.eval_on_selector_all("blockquote", "all => all.map(e => getComputedStyle(e).overflowY)")
    assert boxes and set(boxes) == {"clip"}


def test_search_in_hindi_filter_sort_and_open_a_feature(demo, watched, screenshots):
    one = watched(demo, 0, viewport={"width": 1600, "height": 1000})
    page = one.page
    one.go("/features")
    before = page.locator("[role=status]").inner_text()
    page.get_by_label("words in the label or the examples").fill("दिवाली")  # written with a short vowel
    page.wait_for_url(re.compile(r"text="))
    page.locator("select[name=verdict]").select_option("REVISE")
    page.wait_for_url(re.compile(r"verdict=REVISE"))
    expect(page.locator("[role=status]")).not_to_have_text(before)
    assert set(page.locator("tbody .badge.mild, tbody .badge.good, tbody .badge.bad").all_inner_texts()) == {"REVISE"}
    asked = urllib.parse.parse_qs(urllib.parse.urlsplit(page.url).query)
    assert asked == {"text": ["दिवाली"], "verdict": ["REVISE"]}  # nothing that was not asked
    page.locator("thead a", has_text="fires on").click()
    page.wait_for_url(re.compile(r"sort=firing"))
    rates = [float(t.rstrip("%")) for t in page.locator("td[data-title='fires on']").all_inner_texts()]
    assert rates == sorted(rates, reverse=True) and len(rates) > 3
    page.screenshot(path=screenshots / "features.png", full_page=True)
    shared = page.url
    name = page.locator("tbody th a").first.inner_text()
    page.locator("tbody th a").first.click()
    assert name in page.locator("code").first.inner_text()
    assert page.locator("svg.drawn").count() > 5
    page.screenshot(path=screenshots / "feature.png", full_page=True)
    page.locator("a[rel=next]").click()
    assert name not in page.locator("code").first.inner_text()
    page.get_by_role("link", name="All features of this view").click()
    assert urllib.parse.parse_qs(urllib.parse.urlsplit(page.url).query) == urllib.parse.parse_qs(
        urllib.parse.urlsplit(shared).query
    )


def test_going_back_brings_the_view_before(demo, watched):
    one = watched(demo, 1)
    one.go("/features")
    one.page.get_by_label("layer").select_option("1")
    one.page.wait_for_url(re.compile("layer=1"))
    one.page.get_by_label("layer").select_option("2")
    one.page.wait_for_url(re.compile("layer=2"))
    one.page.go_back()
    one.page.wait_for_url(re.compile("layer=1"))
    one.page.locator("tbody th a").first.wait_for()
    names = one.page.locator("tbody th a").all_inner_texts()
    assert names and all(".layer01/" in name for name in names)
    assert one.page.get_by_label("layer").input_value() == "1"


def test_everything_by_keyboard_alone(demo, watched):
    one = watched(demo, 2)
    page = one.page
    one.go("/features")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "To the content"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.name") == "text"
    page.keyboard.type("lamp /n")  # keys are letters where something is typed
    assert page.evaluate("document.activeElement.value") == "lamp /n"
    page.keyboard.press("Control+A")
    page.keyboard.type("lamp")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("text=lamp"))
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('tbody th a') !== null"):
            break
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"  # the focus is seen
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/feature/"))
    first = page.url
    page.keyboard.press("n")
    page.wait_for_url(lambda url: "/feature/" in url and url != first)
    page.keyboard.press("p")
    page.wait_for_url(first)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1600])
def test_no_page_is_wider_than_its_window_and_words_can_be_read(demo, watched, screenshots, scheme, width):
    link = 3 + 2 * (scheme == "dark") + (width == 400)
    one = watched(demo, link, viewport={"width": width, "height": 900}, color_scheme=scheme)
    for address in ("/features", "/feature/base.layer01/3", "/compare", "/dictionaries", "/dictionary/base.layer01",
                    "/criteria"):  # fmt: skip
        one.go(address)
        assert one.wide() <= 0, address
        pale = one.page.evaluate(CONTRAST)
        assert pale == [], (address, pale[:5])
        name = re.sub(r"\W+", "-", address.strip("/"))
        one.page.screenshot(path=screenshots / f"{name}-{scheme}-{width}.png", full_page=True)


CONTRAST = """() => {
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const paper = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
  const found = [];
  for (const e of document.querySelectorAll('p, td, th, a, small, dt, dd, label, summary, .badge, li, h1, h2, h3')) {
    if (!e.innerText || !e.getClientRects().length || e.closest('.hidden, .skip')) continue;
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(paper(e))];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) found.push([e.localName, e.innerText.slice(0, 40), ratio]);
  }
  return found;
}"""
"""Elements whose words stand out less than WCAG AA asks."""


def test_screen_readers_are_told_what_everything_is(demo, watched):
    one = watched(demo, 7)
    for address in ("/features", "/feature/base.layer01/3", "/compare", "/criteria", "/dictionary/base.layer01"):
        one.go(address)
        bare = one.page.evaluate("""() => [
          ...[...document.querySelectorAll('input, select, textarea')]
            .filter(e => e.type !== 'hidden' && !e.labels.length),
          ...[...document.querySelectorAll('svg, meter')].filter(e => !e.getAttribute('aria-label')),
          ...[...document.querySelectorAll('a, button')].filter(e => !e.textContent.trim()),
          ...[...document.querySelectorAll('nav, section')].filter(e => !e.getAttribute('aria-label')
            && !document.getElementById(e.getAttribute('aria-labelledby')))].map(e => e.outerHTML.slice(0, 120))""")
        assert bare == [], address
        levels = one.page.evaluate("[...document.querySelectorAll('h1, h2, h3, h4')].map(e => +e.localName[1])")
        assert levels.count(1) == 1 and levels[0] == 1
        assert all(b - a <= 1 for a, b in itertools.pairwise(levels)), levels
        ids = one.page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
        assert len(ids) == len(set(ids))


def test_a_mark_of_the_scatter_leads_to_its_feature(demo, watched):
    one = watched(demo, 8)
    one.go("/compare")
    mark = one.page.locator("figure svg a").last
    wanted = mark.get_attribute("href")
    mark.locator("circle").click()
    one.page.wait_for_url("**" + wanted)


def test_a_figure_is_saved_as_png_and_svg_and_a_view_as_csv(demo, watched, tmp_path):
    from PIL import Image

    one = watched(demo, 9)
    one.go("/feature/base.layer01/3")
    for words, kind in (("PNG", "png"), ("SVG", "svg"), ("CSV", "csv")):
        with one.page.expect_download() as saving:
            one.page.get_by_role("link", name=words, exact=True).first.click()
        path = tmp_path / f"saved.{kind}"
        saving.value.save_as(path)
        assert path.stat().st_size > 500
    image = Image.open(tmp_path / "saved.png").convert("L")
    assert image.width > 1000 and image.getextrema()[0] < 80 and image.getextrema()[1] > 240  # drawn, on paper


def test_scripts_are_shaped_in_their_own_fonts(demo, watched):
    """Devanagari, Tamil, Bengali and Latin in one text: no boxes, and conjuncts are one glyph, not a row of parts."""
    one = watched(demo, 10)
    one.go("/features")
    widths = one.page.evaluate("""() => {
      const box = document.createElement('span'); document.querySelector('main').append(box);
      const width = (text, lang) => {
        box.lang = lang; box.textContent = text; return box.getBoundingClientRect().width; };
      return [width('क्षि', 'hi'), width('क्\\u200cषि', 'hi'), width('கொ', 'ta'), width('স্ত্রী', 'bn')];
    }""")
    assert 0 < widths[0] < widths[1] and widths[2] > 0 and widths[3] > 0


def test_a_link_works_in_one_browser_only(demo, chromium):
    contexts = [chromium.new_context() for _ in range(2)]
    pages = [context.new_page() for context in contexts]
    assert pages[0].goto(demo.links[11]).status == 200 and "token" not in pages[0].url
    refused = pages[1].goto(demo.links[11])
    assert refused.status == 401 and "has been used" in refused.text()
    for context in contexts:
        context.close()


def test_without_scripts_every_page_works(demo, watched):
    one = watched(demo, 12, java_script_enabled=False)
    one.page.goto(one.base + "/features")
    one.page.get_by_label("words in the label or the examples").fill("मिठाई")
    one.page.get_by_role("button", name="Show").click()
    assert "text=" in one.page.url and one.page.locator("tbody th a").count() > 10
    one.page.locator("tbody th a").first.click()
    assert one.page.locator("blockquote").count() > 3
