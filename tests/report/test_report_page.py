"""The page: it loads nothing, escapes everything, keeps Hindi whole, and says what is missing."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from html.parser import HTMLParser

import polars as pl
import pytest
import yaml

from antar.core.atomic import write_text
from antar.core.manifest import Fingerprint, write_manifest
from antar.report import write_report
from antar.report.figures import Drawn
from antar.report.method import _extraction
from antar.report.page import head_of, render_page, sections_of
from antar.run import load_run

VOID = {"meta", "br", "img", "link", "input", "hr"}
LOADING = {"src", "href", "action", "formaction", "data", "poster", "srcset", "background", "ping", "xlink:href"}


class Page(HTMLParser):
    """Elements, attributes and the text of each `lang`, as a parser sees them, with unclosed elements found."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.open, self.wrong = [], [], [], []
        self.texts, self.languages = [], []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append((tag, dict(attrs).get("lang")))

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        if not self.open or self.open[-1][0] != tag:
            self.wrong.append(tag)
        else:
            self.open.pop()

    def handle_data(self, data):
        lang = next((lang for _, lang in reversed(self.open) if lang), None)
        self.texts.append(data)
        self.languages.append((data, lang))


@pytest.fixture(scope="module")
def parsed(page) -> Page:
    return Page(page)


def undrawn(plot) -> Drawn:
    """Pages without the seconds that figures take."""
    from markupsafe import Markup

    return Drawn(plot.name, plot.alt, plot.caption, Markup("<svg></svg>"))


def page_without_figures(run) -> str:
    return render_page(head_of(run), sections_of(run), undrawn)


def test_nothing_is_loaded(page, parsed):
    for tag, name, value in parsed.attributes:
        if name in LOADING:
            assert value.startswith(("#", "data:image/png;base64,")), (tag, name, value)
        assert not name.startswith("on"), (tag, name)
        assert name != "style", (tag, value)
        for target in re.findall(r"url\(([^)]*)\)", value):
            assert target.startswith("#"), (tag, name, value)
    assert not {"script", "link", "iframe", "object", "embed", "base", "form", "img"} & set(parsed.tags)
    (sheet,) = re.findall(r"<style>(.*?)</style>", page, re.S)
    assert "url(" not in sheet and "@import" not in sheet and "//" not in sheet


def test_the_policy_allows_the_style_sheet_and_nothing_else(page, parsed):
    (policy,) = [value for tag, name, value in parsed.attributes if tag == "meta" and "default-src" in value]
    (sheet,) = re.findall(r"<style>(.*?)</style>", page, re.S)
    digest = base64.b64encode(hashlib.sha256(sheet.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy and "unsafe" not in policy and "script-src" not in policy


def test_every_element_is_closed_and_every_id_is_its_own(parsed):
    assert parsed.wrong == [] and parsed.open == []
    ids = [value for _, name, value in parsed.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    targets = {value[1:] for _, name, value in parsed.attributes if name == "href" and value.startswith("#")}
    labels = {value for _, name, value in parsed.attributes if name == "aria-labelledby"}
    assert targets <= set(ids) and labels <= set(ids)


def test_hostile_texts_are_shown_and_do_nothing(fake, page, parsed):
    shown = "".join(parsed.texts)
    assert "<script>alert('owned')</script>" not in page
    assert "&lt;script&gt;alert(&#39;owned&#39;)&lt;/script&gt;" in page
    assert page.count("</style>") == 1
    for hostile in fake.HOSTILE[:3]:
        assert hostile in shown  # whole, as text
    assert "{{ 7*7 }}" in shown  # not evaluated
    assert "Does &lt;b&gt;nothing&lt;/b&gt;" in page  # the question comes from a file too


def test_characters_that_turn_the_line_around_are_made_visible(page):
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200e\u200f]", page)
    assert "⟨U+202E⟩and back again⟨U+202C⟩" in page


def test_hindi_is_whole_and_marked(fake, page, parsed):
    assert html.escape(fake.LONG_HINDI) in page
    assert "क्षेत्र" in page
    unmarked = [data for data, lang in parsed.languages if re.search("[\u0900-\u0963]", data) and lang != "hi"]
    assert unmarked == []


def test_every_criterion_stands_beside_its_null(fake, page, parsed):
    text = "".join(parsed.texts)
    for criterion in fake.fake_criteria()["criteria"]:
        assert f"{criterion['number']}. {criterion['name']}" in text
        if criterion["null"] is not None:
            assert criterion["null"]["name"] in text
        assert criterion["sentence"] in text
    table = page.split('id="criteria-title"')[1].split("</table>")[0]
    assert table.count("not measured</span>") >= 4  # two values and two nulls, besides the badges


def test_numbers_that_are_missing_are_never_written_as_numbers(page):
    assert not re.search(r">\s*(nan|NaN|None|inf|Infinity)\s*<", page)


def test_tables_have_captions_and_scopes(page):
    tables = re.findall(r"<table.*?</table>", page, re.S)
    assert len(tables) > 12
    for table in tables:
        assert "<caption>" in table
        assert "<th" in table
        assert all("scope=" in head for head in re.findall(r"<th\b[^>]*>", table))
        columns = len(re.findall(r'scope="col"', table))
        for row in re.findall(r"<tr role=\"row\"(?! class=\"remark\")[^>]*>(.*?)</tr>", table, re.S):
            assert len(re.findall(r"<t[hd]\b", row)) == columns


def test_figures_are_files_and_have_words(reported, page):
    folder = reported.folder / "report" / "figures"
    svgs, pdfs = ({path.stem for path in folder.glob(f"*.{kind}")} for kind in ("svg", "pdf"))
    assert svgs == pdfs and len(svgs) >= 10
    drawn = re.findall(r"<svg\b[^>]*>", page)
    assert len(drawn) == len(svgs)
    assert all('role="img"' in one and re.search(r'aria-label="[^"]{20,}"', one) for one in drawn)
    assert all((folder / f"{name}.pdf").read_bytes().startswith(b"%PDF") for name in pdfs)


def test_the_same_run_gives_the_same_bytes(reported, tmp_path):
    def files():
        root = reported.folder / "report"
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    before = files()
    write_report(load_run(reported.folder))
    after = files()
    assert before.keys() == after.keys()
    assert [name for name in before if before[name] != after[name]] == []


def test_a_run_without_truth_sham_or_labels_says_so(make_run):
    page = page_without_figures(make_run(truth=False, sham=False, labels=False))
    assert "Nothing was planted" in page
    assert "This study has no sham" in page and "There is no sham. Any further training" in page
    assert "no labels" in page
    assert Page(page).wrong == []


def test_a_run_that_has_hardly_begun_still_gives_a_page(make_run):
    run = make_run()
    for name in ("criteria.json", "features/contrasts.parquet", "features/geometry.json", "features/magnitudes.json"):
        (run.folder / name).unlink()
    (run.folder / "truth_report.json").unlink()
    for site in (run.folder / "activations").iterdir():
        (site / "00000.safetensors").unlink()
    page = page_without_figures(load_run(run.folder))
    for told in ("criteria have not been measured", "No contrast has been measured", "shift has not been measured"):
        assert told in page


def test_effects_are_chosen_on_one_half_and_shown_on_the_other(make_run):
    run = make_run(labels=False)
    path = run.folder / "features/contrasts.parquet"
    target = (pl.col("feature") == "base.layer01/2") & (pl.col("contrast") == "shift") & (pl.col("null") == "")
    frame = pl.read_parquet(path).with_columns(
        d_av_select=pl.when(target).then(9.0).otherwise(pl.col("d_av_select").clip(-2, 2)),
        d_av=pl.when(target).then(0.111).otherwise(pl.col("d_av")),
        q=pl.when(target).then(0.01).otherwise(pl.col("q")),
    )
    frame.write_parquet(path)
    page = page_without_figures(load_run(run.folder))
    shift = page.split("Shift: features that fire otherwise")[1]
    first = re.search(r'<article class="feature".*?</article>', shift, re.S)[0]
    assert "base.layer01/2" in first and ">0.11<" in first


def test_the_method_says_how_tokens_were_pooled_and_how_far_deltas_are_off(make_run):
    run = make_run()
    assert "the content tokens were averaged in 32-bit floats. " in _extraction(run)
    assert "off by" not in _extraction(run)
    folder = run.folder / "activations" / "precision"
    errors = {"delta.layer06": 0.012, "delta.layer12": 0.081, "delta:a.layer06": None}
    write_manifest(folder / "manifest.json", "p", Fingerprint(), [], {"dtype": "bfloat16", "errors": errors})
    study = run.study | {"extract": run.study["extract"] | {"pooling": "last"}}
    write_text(run.folder / "study.yaml", yaml.safe_dump(study, allow_unicode=True))
    words = _extraction(load_run(run.folder))
    assert "the last content token was taken. " in words
    assert words.endswith(
        "In bfloat16 the deltas are off by 1.2% to 8.1% of their size, measured on texts that were read in float32 "
        "too."
    )
