"""Every number on the page comes from the run's files: a reader of its own (`derive.py`) derives each of them anew.

The page of a run is walked whole, with language models or keywords, without shams, labels, contrasts or a planted
truth; and it is shown that the walk finds a number that was altered, one whose source is gone, and one whose file has
changed since.
"""

from __future__ import annotations

import json
import re
import shutil

import polars as pl
import pytest
import yaml
from markupsafe import Markup

from antar.core.atomic import write_json, write_text
from antar.criteria.benchmarks import BenchmarkRow, Benchmarks, NotRun
from antar.report.figures import Drawn
from antar.report.markdown import render_markdown
from antar.report.page import head_of, render_page, sections_of
from antar.report.tex import render_tables
from antar.run import load_run
from derive import Files
from fake_crosscheck import FOUND
from walk import Said, agrees, check_page


def page_of(run) -> str:
    draw = lambda plot: Drawn(plot.name, plot.alt, plot.caption, Markup("<svg></svg>"))  # noqa: E731
    return render_page(head_of(run), sections_of(run), draw)


VARIANTS = {
    "keywords": {},
    "language models": {"llm": True},
    "no sham": {"sham": False},
    "no labels": {"labels": False},
    "no truth": {"truth": False},
    "no contrasts": {"contrasts": False},
}


@pytest.mark.parametrize("parts", VARIANTS.values(), ids=VARIANTS)
def test_every_number_comes_from_the_runs_files(make_run, parts):
    run = make_run(**parts)
    wrong, derived = check_page(page_of(run), run.folder)
    assert wrong == []
    assert derived > (300 if "contrasts" in parts else 1500)


def test_so_do_those_of_a_cross_check_and_of_a_study_with_defaults(make_run):
    run = make_run()
    write_json(run.folder / "features/crosscheck.json", FOUND)
    study = {key: value for key, value in run.study.items() if key != "criteria"}
    write_text(run.folder / "study.yaml", yaml.safe_dump(study, allow_unicode=True))
    run = load_run(run.folder)
    page = page_of(run)
    assert "0.75" in page and "few texts" in page
    assert check_page(page, run.folder)[0] == []


def test_an_altered_number_is_found(make_run):
    run = make_run()
    page = page_of(run)
    for before in re.findall(r'<span data-from="[^"]*#count">\d+</span>', page)[:2]:
        digits = re.search(r">(\d+)<", before)[1]
        after = before.replace(f">{digits}<", f">{int(digits) + 1}<")
        (found,) = set(check_page(page.replace(before, after, 1), run.folder)[0])
        assert repr(str(int(digits) + 1)) in found


def test_the_last_digit_of_each_kind_of_number_matters(make_run):
    run = make_run()
    files, said = Files(run.folder), Said(page_of(run))
    kinds = {"percent": r"\d+\.\d%", "fixed": r"−?\d\.\d\d", "plain": r"\d\.\d{3}", "count": r"\d\d"}
    for pattern in kinds.values():
        source, text = next((s, t) for s, t in said.cited if re.fullmatch(pattern, t))
        last = re.search(r"\d(?=%?$)", text)
        other = text[: last.start()] + str((int(last[0]) + 5) % 10) + text[last.end() :]
        value = files.derive(source)
        assert agrees(text, value) and not agrees(other, value), (source, text, other)


def test_a_number_without_a_source_is_found(make_run):
    run = make_run()
    page = page_of(run)
    bare = re.sub(r'<span data-from="[^"]*">(\d+)</span>', r"\1", page, count=1)
    assert bare != page
    assert any("without a source" in one for one in check_page(bare, run.folder)[0])
    assert any(
        "without a source" in one
        for one in check_page(page.replace("</main>", "<p>It is 12% better.</p></main>"), run.folder)[0]
    )


def test_a_file_that_has_changed_since_is_found(make_run):
    run = make_run()
    page = page_of(run)
    copy = run.folder.parent / "copy"
    shutil.copytree(run.folder, copy)
    path = copy / "features/contrasts.parquet"
    pl.read_parquet(path).with_columns(pl.col("q") * 0.1).write_parquet(path)
    wrong = check_page(page, copy)[0]
    assert any("contrasts.parquet?" in one for one in wrong) and any("#sha256" in one for one in wrong)


def test_a_text_that_was_altered_is_found(make_run, fake):
    run = make_run()
    page = page_of(run)
    assert page.count(fake.HINDI) > 1
    wrong = check_page(page.replace(fake.HINDI, fake.HINDI[:-1], 1), run.folder)[0]
    assert any("texts.parquet" in one and fake.HINDI[:20] in one for one in wrong)


def test_markdown_and_latex_say_the_same_numbers(make_run):
    """They are made of the same blocks: every number that the page derives is in the Markdown, as often."""
    run = make_run(llm=True)
    sections = sections_of(run)
    markdown = render_markdown(head_of(run), sections).replace("\\", "")
    said = [text for source, text in Said(page_of(run)).cited if re.fullmatch(r"[−+]?[\d.,]+%?", text)]
    counted = {text: said.count(text) for text in said}
    short = [
        text
        for text, times in counted.items()
        if len(re.findall(rf"(?<![\d.,]){re.escape(text)}(?![\d%])", markdown)) < times
    ]
    assert short == [] and len(counted) > 100
    tables = render_tables(head_of(run), sections)
    for number in re.findall(r"(?<![\w.])\d+\.\d+(?!\w)", tables.split("\\begin", 1)[1]):
        assert number in markdown


def test_so_do_those_of_saebench(make_run):
    run = make_run()
    criteria = json.loads((run.folder / "criteria.json").read_text(encoding="utf-8"))
    row = {"evaluation": "meta_structure", "file": "saebench/base.layer06/meta_structure.json"}
    bench = Benchmarks(
        versions={"sae-bench": "0.6.0", "sae-probes": "0.4.2"},
        rows=[
            BenchmarkRow(
                dictionary="base.layer06", null=False, numbers={"variance explained": 0.4321, "n": 96}, **row
            ),
            BenchmarkRow(dictionary="random.layer06", null=True, numbers={"variance explained": None}, **row),
        ],
        not_run=[
            NotRun(evaluation="ravel", dictionaries=["base.layer06"], reason="no architecture of its 2"),
            NotRun(evaluation="core", dictionaries=[f"base.layer{n:02d}" for n in range(5)], reason="no data"),
        ],
    )
    write_json(run.folder / "criteria.json", {**criteria, "saebench": bench.model_dump(mode="json")})
    run = load_run(run.folder)
    page = page_of(run)
    assert "0.432" in page and "5 dictionaries" in re.sub("<[^>]+>", "", page)
    assert check_page(page, run.folder)[0] == []
    altered = page.replace(">0.432<", ">0.433<")
    assert altered != page and check_page(altered, run.folder)[0] != []
