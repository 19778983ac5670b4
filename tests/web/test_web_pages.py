"""The pages of a run: what is asked is answered, everything is text, and every number stands beside its null."""

from __future__ import annotations

import csv
import html
import io
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

pytest.importorskip("starlette", reason="the web extra is not installed")

from antar.run import load_run
from antar.web.text import shown

ADDRESSES = ("/features", "/features?site=delta%3Aa", "/features?text=script&of=facet", "/feature/base.layer01/0",
             "/feature/base.layer01/3?text=x", "/feature/delta:a.layer01/1", "/compare", "/dictionaries",
             "/dictionary/base.layer01", "/criteria")  # fmt: skip
FIGURES = ("/feature/base.layer01/0/figure/effects.svg", "/feature/base.layer01/0/figure/facet-concept.svg",
           "/feature/base.layer01/0/figure/groups.svg", "/feature/base.layer01/0/figure/languages.svg",
           "/dictionary/base.layer01/figure/loss.svg", "/compare.svg")  # fmt: skip
TABLES = ("/features.csv", "/feature/base.layer01/0/data.csv", "/compare.csv")


HTMX = {"get", "target", "select", "swap", "push-url", "trigger", "headers"}


class Seen(HTMLParser):
    """Every element of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)


ALLOWED = {
    "html", "head", "meta", "title", "link", "script", "body", "a", "header", "p", "b", "span", "nav", "ul", "li",
    "main", "h1", "h2", "h3", "form", "label", "input", "select", "option", "optgroup", "button", "details",
    "summary", "div",
    "table", "thead", "tbody", "tr", "th", "td", "small", "bdi", "code", "dl", "dt", "dd", "section", "figure",
    "figcaption", "ol", "meter", "blockquote", "svg", "line", "rect", "circle", "path", "text", "g",
}  # fmt: skip


def check_is_only_text(page: str) -> Seen:
    seen = Seen(page)
    for tag, attributes in seen.elements:
        assert tag in ALLOWED, tag
        for name, value in attributes.items():
            assert not name.startswith("on") and name not in ("style", "srcdoc", "formaction"), (tag, name)
            assert not name.startswith("hx-") or name.removeprefix("hx-") in HTMX, name
            if name in ("href", "src", "action", "hx-get"):
                assert re.match(r"/(?![/\\])|#", value), (tag, name, value)
        if tag == "script":
            assert attributes["src"].startswith("/static/")
    return seen


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    import importlib.util
    from pathlib import Path

    spec = importlib.util.spec_from_file_location("hostile_run", Path(__file__).parent.parent / "hostile_run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.folder = module.write_hostile_run(tmp_path_factory.mktemp("runs") / "hostile")
    return module


@pytest.fixture(scope="module")
def attacked(hostile, browser_of):
    return browser_of(load_run(hostile.folder))


def features_of(page: str) -> list[str]:
    return re.findall(r'<th scope="row" role="rowheader"><a href="/feature/[^"]+">([^<]+)</a>', page)


def saved(browser, address: str, **what) -> list[dict[str, str]]:
    """The rows of a view that is saved as CSV."""
    return list(csv.DictReader(io.StringIO(browser.get(address, params=what).content.decode("utf-8-sig"))))


# -- hostile texts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ADDRESSES)
def test_hostile_texts_are_only_text(attacked, address):
    answer = attacked.get(address)
    assert answer.status_code == 200
    check_is_only_text(answer.text)


def test_every_hostile_text_is_shown_whole(attacked, hostile):
    """As labels, in the table; as texts and reasons, on the pages of features."""
    table = attacked.get("/features?sort=feature").text + attacked.get("/features?sort=feature&page=2").text
    labels = " ".join(" ".join(Seen(table).words).split())
    pages = [attacked.get(f"/feature/{name}").text for name in features_of(table)[:60:5]]
    words = " ".join(" ".join("".join(check_is_only_text(page).words) for page in pages).split())
    for text in hostile.HOSTILE:
        assert " ".join(shown(text).split()) in words, text
    assert sum(" ".join(shown(text).split()) in labels for text in hostile.HOSTILE if "नम" not in text) >= 25


@pytest.mark.parametrize("address", FIGURES)
def test_a_saved_figure_is_whole_xml_that_runs_nothing(attacked, address):
    answer = attacked.get(address)
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/svg+xml"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "sandbox" in policy and "unsafe" not in policy
    root = ElementTree.fromstring(answer.content)
    tags = {element.tag.rsplit("}", 1)[1] for element in root.iter()}
    assert tags <= {"svg", "style", "rect", "text", "line", "circle", "path", "g", "a", "title"}
    for element in root.iter():
        assert not [name for name in element.attrib if name.startswith("on") or name == "style"]
        assert element.get("href", "/").startswith("/")


@pytest.mark.parametrize("address", TABLES)
def test_a_saved_table_holds_no_formula(attacked, address):
    answer = attacked.get(address)
    assert answer.status_code == 200 and answer.content.startswith(b"\xef\xbb\xbf")
    rows = list(csv.reader(io.StringIO(answer.content.decode("utf-8-sig"))))
    assert len(rows) > 5 and len({len(row) for row in rows}) == 1
    for row in rows[1:]:
        for cell in row:
            assert not re.match(r"[=@+\t\r]|-(?![\d.])", cell), cell


@pytest.mark.parametrize("name", ["text", "site", "layer", "dictionary", "language", "verdict", "sort", "of", "page",
                                  "d_min", "q_max", "culture_min", "changed", "reverse", "nothing"])  # fmt: skip
def test_what_is_asked_is_escaped_and_never_an_error(browser, name):
    for typed in (
        '"><script>alert(1)</script>',
        "²",
        "nan",
        "-1e999",
        "\x00",
        "😀" * 300,
        "' OR 1=1 --",
        "NEAR(",
        "*",
    ):
        for path in ("/features", "/compare", "/matches", "/features.csv", "/feature/base.layer01/0"):
            answer = browser.get(path, params={name: typed})
            assert answer.status_code == 200, (path, typed)
            if "html" in answer.headers["content-type"]:
                check_is_only_text(answer.text)


@pytest.mark.parametrize("path", ["/feature/nothing", "/feature/base.layer01/99999", "/feature/<script>",
                                  "/feature/", "/dictionary/nothing", "/dictionary/..%2f..", "/nowhere",
                                  "/feature/base.layer01/0/figure/x.svg", "/feature/no/figure/effects.svg",
                                  "/dictionary/base.layer01/figure/x.svg"])  # fmt: skip
def test_what_is_not_there_is_said(browser, path):
    answer = browser.get(path)
    assert answer.status_code == 404
    check_is_only_text(answer.text)


# -- the table ----------------------------------------------------------------------------------------------------


def test_pages_hold_every_live_feature_once(run, browser):
    found: list[str] = []
    link, pages = "/features?sort=feature", 0
    while link:
        text = browser.get(link).text
        found += features_of(text)
        following = re.search(r'<a rel="next" data-key="n" href="([^"]+)"', text)
        link, pages = html.unescape(following[1]) if following else None, pages + 1
    assert found == [name for name in run.features.filter("live")["feature"] if ":" not in name] and pages > 1


def test_dead_features_and_those_of_nulls_are_there_when_asked_for(run, browser):
    rows = saved(browser, "/features.csv", dead="1", sort="feature")
    assert [row["feature"] for row in rows] == [name for name in run.features["feature"] if ":" not in name]
    nulls = features_of(browser.get("/features?site=delta:a").text)
    assert nulls and all(name.startswith("delta:a.") for name in nulls)


def test_the_strongest_effect_comes_first_with_its_null(browser):
    page = browser.get("/features").text
    effects = [
        float(d.replace("\u2212", "-")) for d in re.findall(r'data-title="d, strongest"><span><b>([^<]+)</b>', page)
    ]
    nulls = re.findall(r'data-title="95% of nulls">([^<]+)<', page)
    assert len(effects) > 20 and [abs(d) for d in effects] == sorted(map(abs, effects), reverse=True)
    assert len(nulls) == len(effects) and all(re.fullmatch(r"\d\.\d\d", null) for null in nulls)


def test_filters_leave_what_they_say(run, browser):
    def asked(**what) -> list[dict[str, str]]:
        return saved(browser, "/features.csv", **what)

    assert {row["dictionary"] for row in asked(site="delta", layer="1")} == {"delta.layer01"}
    verdicts = dict(run.verdicts.select("feature", "verdict").iter_rows())
    assert {verdicts[row["feature"]] for row in asked(verdict="REVISE")} == {"REVISE"}
    assert all(row["feature"] not in verdicts for row in asked(verdict="none"))
    changed, every = asked(changed="1"), asked()
    assert 0 < len(changed) < len(every)
    for row in every:
        d = {kind: abs(float(row[f"{kind}_d"] or 0)) for kind in ("shift", "interaction", "culture", "facet")}
        q = {kind: float(row[f"{kind}_q"] or 1) for kind in d}
        passes = {kind for kind in d if d[kind] > 0.8 and q[kind] < 0.05}
        delta = row["dictionary"].startswith("delta")
        assert (row["changed"] == "True") == bool(passes & {"shift", "interaction"} or (delta and passes))
        assert (row["cultural"] == "True") == bool(passes & {"culture", "facet"})
    assert all(float(row["firing_rate"]) >= 0.2 for row in asked(firing_min="0,2"))
    assert asked(firing_min="20") == asked(firing_min="20%") == asked(firing_min="0.2")
    assert all(abs(float(row["shift_d"])) >= 1 for row in asked(of="shift", d_min="1"))
    box = asked(culture_min="-0.1", culture_max="0.1")
    assert box and all(-0.1 <= float(row["culture_d"]) <= 0.1 for row in box)


def test_words_are_found_in_labels_and_examples(fake, run, browser):
    def found(text: str) -> set[str]:
        rows = csv.DictReader(
            io.StringIO(browser.get("/features.csv", params={"text": text}).content.decode("utf-8-sig"))
        )
        return {row["feature"] for row in rows}

    live = {name for name in run.features.filter("live")["feature"] if ":" not in name}
    assert found("मिठाई") == found("मिठाइ") == live  # every feature has the long text among its examples
    assert found("दिवाली") == found("दीवाली") == live
    spoken = run.examples.join(run.texts.select("text_id", "text"), on="text_id")
    with_potter = set(spoken.filter(spoken["text"].str.contains("village 98 "))["feature"]) & live
    assert found('"village 98"') == with_potter and 0 < len(with_potter) < len(live)
    assert found("nothing of this kind") == set()


def test_a_view_is_its_address_and_features_keep_it(browser):
    page = browser.get("/features?site=base&sort=feature&changed=1").text
    link = html.unescape(re.search(r'rowheader"><a href="([^"]+)"', page)[1])
    assert "site=base" in link and "changed=1" in link and "sort=feature" in link
    names = features_of(page)
    first = browser.get(link).text
    assert 'rel="prev"' not in first
    following = html.unescape(re.search(r'<a rel="next" data-key="n" href="([^"]+)"', first)[1])
    assert following.startswith(f"/feature/{names[1]}?") and "changed=1" in following
    assert f"1 of {len(names)}" in first
    back = html.unescape(re.search(r'<p><a href="([^"]+)">All features of this view', first)[1])
    assert features_of(browser.get(back).text) == names


# -- a feature ----------------------------------------------------------------------------------------------------


def test_a_feature_page_has_everything_beside_its_null(fake, run, browser):
    page = browser.get("/feature/base.layer01/3").text
    seen = check_is_only_text(page)
    words = " ".join(seen.words)
    for title in ("Effects beside their nulls", "By concept", "How it fires", "Texts that fire it most",
                  "Over its whole range", "Near misses", "Nearest features of this layer"):  # fmt: skip
        assert title in words, title
    assert html.escape(fake.HINDI) in page and 'lang="hi"' in page
    assert "⟨U+202E⟩" in page and "\u202e" not in page
    drawn = [a for tag, a in seen.elements if tag == "svg" and (a["aria-label"] or "").startswith("d ")]
    assert len(drawn) >= 6
    for attributes in drawn:
        assert re.search(r"95% interval .* nulls: .*(shuffled|sham)", attributes["aria-label"])


def test_examples_are_whole_and_stand_in_order(run, browser):
    page = browser.get("/feature/base.layer01/3").text
    top = page[page.index("Texts that fire it most") : page.index("Over its whole range")]
    strengths = [float(s) for s in re.findall(r'<b class="strength">([\d.]+)</b>', top)]
    assert strengths == sorted(strengths, reverse=True) and len(strengths) > 5
    quoted = {html.unescape(text) for text in re.findall(r"<blockquote[^>]*>(.*?)</blockquote>", top, re.S)}
    rows = run.examples.filter(run.examples["feature"] == "base.layer01/3")["row"].to_list()
    assert quoted == {shown(run.texts["text"][row]) for row in rows}


def test_a_bare_run_is_browsed_all_the_same(fake, tmp_path, browser_of):
    client = browser_of(load_run(fake.write_fake_run(tmp_path / "bare", labels=False, contrasts=False)))
    page = client.get("/features").text
    assert len(features_of(page)) == 50 and "no label" in page
    assert "No effect of this feature has been measured" in client.get("/feature/base.layer01/0").text
    assert "No feature of this view" in client.get("/compare").text
    assert client.get("/features?sort=effect&d_min=0").status_code == 200


def test_a_run_without_features_says_what_makes_them(fake, tmp_path, browser_of):
    folder = fake.write_fake_run(tmp_path / "early")
    (folder / "features/features.parquet").unlink()
    answer = browser_of(load_run(folder)).get("/features")
    assert answer.status_code == 404 and "antar run STUDY" in answer.text


def test_the_counterpart_stands_beside_that_of_another_seed(browser):
    page = browser.get("/feature/base.layer01/2").text
    other = page[page.index("On the other side") :]
    assert 'href="/feature/chat.layer01/3"' in other and "another seed" in other and "0.52" in other
    assert "none above chance" in browser.get("/feature/base.layer01/3").text
    assert 'href="/feature/base.layer01/2"' in browser.get("/feature/chat.layer01/3").text
    matches = browser.get("/matches").text
    assert matches.count('rowheader"><a href="/feature/base.layer01/') == 12 and "another seed" in matches


# -- compare, dictionaries, criteria ------------------------------------------------------------------------------


def test_each_mark_of_the_scatter_leads_to_its_feature(run, browser):
    page = browser.get("/compare").text
    seen = check_is_only_text(page)
    marks = [a["href"] for tag, a in seen.elements if tag == "a" and a.get("tabindex") == "-1"]
    rows = saved(browser, "/compare.csv")
    assert sorted(marks) == sorted(f"/feature/{row['feature']}" for row in rows) and len(marks) > 20
    assert browser.get(marks[0]).status_code == 200


def test_crowded_marks_are_gathered_without_losing_one(run, browser, monkeypatch):
    monkeypatch.setattr("antar.web.explore.compare.MOST_POINTS", 5)
    rows = saved(browser, "/compare.csv")
    page = browser.get("/compare").text
    links = [html.unescape(a["href"]) for tag, a in Seen(page).elements if tag == "a" and a.get("tabindex") == "-1"]
    single = [link for link in links if link.startswith("/feature/")]
    held = [len(features_of(browser.get(link).text)) for link in links if link.startswith("/features?")]
    assert held and len(single) + sum(held) == len(rows)


def test_dictionaries_and_criteria_stand_beside_their_nulls(run, browser):
    page = browser.get("/dictionaries").text
    for one in run.dictionary_ids:
        if not one.is_replica:
            assert f'href="/dictionary/{one}"' in page
    assert "FVU of PCA" in page
    one = browser.get("/dictionary/base.layer01").text
    assert "held-out cultural" in one and one.count("<figure>") >= 3
    criteria = browser.get("/criteria").text
    for criterion in run.criteria["criteria"]:
        assert html.escape(criterion["sentence"]) in criteria
    assert criteria.count("threshold") >= 7 and "sham:a, the same counts" in criteria


def test_a_bound_that_is_no_number_is_said(browser):
    page = browser.get("/features", params={"d_min": "<b>abc", "q_max": "0.5"}).text
    assert "Not a number, so it bounds nothing" in page and "&lt;b&gt;abc" in page
    assert "Not a number" not in browser.get("/features", params={"q_max": "0.5"}).text
