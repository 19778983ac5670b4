"""The page's order, its twin in Markdown and the tables in LaTeX: the same blocks, escaped for where they go."""

from __future__ import annotations

import re

import pytest

from antar.report import sources
from antar.report.answer import lead
from antar.report.blocks import Badge, Column, Row, Section, Table, Tallies, Value
from antar.report.markdown import render_markdown
from antar.report.page import FORMATS, SECTIONS, Head, head_of, sections_of
from antar.report.tex import escape, render_tables
from antar.report.words import Cited, Words, counted, joined, listed, parts_of, told
from antar.run import load_run

MAIN = ["answer", "criteria", "figures", "changed", "dropped", "limits", "reproduce"]
HEAD = Head("s", "", {"base": "b", "chat": "c"})


def test_the_page_opens_with_the_answer_and_keeps_its_order(page):
    slugs = re.findall(r'<section id="([^"]+)"', page)
    assert slugs[: len(MAIN)] == MAIN and len(slugs) == len(SECTIONS)
    first = page.split('<section id="answer"')[1].split("</section>")[0]
    assert first.index("Yes: more features differ") < first.index("<table") < first.index("without any change?")
    for null in ("sham a", "shuffled groups"):
        assert null in first.split("</table>")[0]
    # The contents link to every section, and the appendix stands last.
    assert re.findall(r'<li><a href="#([^"]+)">', page.split("<nav")[1].split("</nav>")[0]) == slugs
    assert page.index('id="appendix"') < page.index('<section id="method"')


def test_the_answers_counts_are_of_the_change_alone(reported):
    (tallies,) = [one for one in sections_of(reported)[0].blocks if isinstance(one, Tallies)]
    assert tallies.nulls == ["sham a", "shuffled groups"]
    assert [str(one.value) for one in tallies.items] == [
        "7",
        "8",
        "8",
    ]  # of base's shift; of delta's culture, concept
    assert all(value == "0" for one in tallies.items for _, value, _ in one.beside)


@pytest.mark.parametrize(
    ("value", "null", "above", "verdict", "said"),
    [(0.2, 0.1, 6, "pass", "Yes:"), (0.2, 0.1, 2, "fail", "Not shown:"), (0.1, 0.2, 6, "fail", "Something changed"),
     (0.1, 0.2, 2, "fail", "No:"), (0.2, None, None, "not measured", "cannot say"),
     (0.2, 0.1, None, "not measured", "was not measured")],
)  # fmt: skip
def test_the_lead_says_what_criterion_4_found(fake, make_run, value, null, above, verdict, said):
    run = make_run()
    criteria = fake.fake_criteria()
    criteria["criteria"][3] |= {
        "value": value, "verdict": verdict, "null": null and {"name": "sham:a", "value": null, "ci": [0, null]},
        "beside": {"layers and languages with a sham": 6 if above is not None else None,
                   "of them, where the cultural shift stands above every sham's": above},
    }  # fmt: skip
    run.__dict__["criteria"] = criteria
    assert said in lead(run)


def test_cards_have_texts_in_both_languages_and_nulls_beside_effects(page):
    card = re.search(r'<article class="feature".*?</article>', page, re.S)[0]
    english, hindi = card.split("Strongest texts, ")[1:]
    assert english.startswith("English") and hindi.startswith("Hindi") and 'lang="hi"' in hindi
    assert "95% of |d| on the nulls" in card and "sham a" in card and "fires on" in card and "<meter" in card


def test_a_run_without_shams_or_labels_says_so_where_they_would_stand(make_run):
    run = load_run(make_run(sham=False, labels=False, truth=False).folder)
    text = render_markdown(head_of(run), sections_of(run))
    answer = text.split("## The seven criteria")[0]
    assert "it has no sham" in answer and "There is no sham" in answer and "this run was not labelled" in answer
    assert "No sham stands beside the effects" in text and "No feature has been labelled" in text


def test_the_report_of_a_run_with_nothing_measured(make_run):
    run = make_run(contrasts=False, labels=False)
    (run.folder / "criteria.json").unlink()
    run = load_run(run.folder)
    text = render_markdown(head_of(run), sections_of(run))
    assert "Not known yet" in text and "no feature can be named" in text
    assert "has measured none of the tables" in render_tables(head_of(run), sections_of(run))


# -- Markdown -----------------------------------------------------------------------------------------------------


def test_markdown_takes_no_markup_from_data(fake, reported):
    text = (reported.folder / "report" / FORMATS["md"]).read_text(encoding="utf-8")
    assert not re.search(r"(?<!\\)<\w", text) and r"\<script\>alert" in text
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", text)
    assert text.startswith(r"# Does \<b\>nothing") and "](figures/effects-shift.svg)" in text
    assert f"> {fake.HINDI}" in text


def test_markdown_tables_are_whole(reported):
    text = (reported.folder / "report" / FORMATS["md"]).read_text(encoding="utf-8")
    lines = text.splitlines()
    bars = [len(re.findall(r"(?<!\\)\|", line)) for line in lines]
    heads = [i for i, line in enumerate(lines) if re.fullmatch(r"\|[|:-]+", line)]
    assert len(heads) > 20
    for i in heads:
        row = i - 1
        while row < len(lines) and lines[row].startswith("|"):
            assert bars[row] == bars[i], lines[row]
            row += 1


# -- LaTeX --------------------------------------------------------------------------------------------------------


def test_latex_is_escaped_and_keeps_its_scripts():
    assert escape(r"50% of {a}_b & c\d $x$ #1 ^~") == (
        r"50\% of \{a\}\_b \& c\textbackslash{}d \$x\$ \#1 \textasciicircum{}\textasciitilde{}"
    )
    assert escape("−0.5 ≥ 2×10⁻⁶") == r"$-$0.5 $\geq$ 2$\times$10$^{-}$$^{6}$"
    assert escape("दीवाली, दीये") == "दीवाली, दीये"
    assert escape("a\u202eb") == "a⟨U+202E⟩b"


def test_latex_tables_have_as_many_cells_as_columns(reported):
    text = (reported.folder / "report" / FORMATS["tex"]).read_text(encoding="utf-8")
    assert "XeLaTeX" in text and text.count(r"\begin{table}") == text.count(r"\end{table}") >= 4
    for caption in (
        "How many features changed",
        "Each criterion",
        "The largest changes",
        "How many effects are large",
    ):
        assert caption in text
    for kinds, body in re.findall(r"\\begin\{tabular\}\{@\{\}(.*?)@\{\}\}(.*?)\\end\{tabular\}", text, re.S):
        columns = len(re.findall(r"[lr]|p\{[^}]*\}", kinds))
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert rows and all(len(re.findall(r"(?<!\\)&", row)) == columns - 1 for row in rows)
    plain = re.sub(r"\\[{}]", "", text)
    assert plain.count("{") == plain.count("}")
    assert "दीवाली" in text


def test_latex_takes_no_command_from_data():
    columns = [Column("a"), Column("b")]
    rows = [Row("x & y", [Value("1", "% gone")]), Row("$", [Badge("a_b")])]
    text = render_tables(HEAD, [Section("criteria", "", [Table(r"\input{/etc/passwd}", columns, rows)])])
    assert r"\input" not in text and r"x \& y & 1 \% gone \\" in text and r"\$ & a\_b \\" in text


# -- words --------------------------------------------------------------------------------------------------------


def test_words_keep_their_sources_however_they_are_put_together():
    number = Cited("3", "criteria.json#/x")
    for made in (told("{} texts", number), number + " texts", joined([number, "texts"]), counted(number, "text")):
        assert made == "3 texts" and number in parts_of(made) and isinstance(made, Words)
    assert parts_of("a " + number)[1].source == "criteria.json#/x"
    assert listed([number, number, "b"]) == "3, 3 and b" and len(parts_of(listed([number, number]))) == 3
    assert told("{}", "{} {0}") == "{} {0}"  # what is put in is never a template
    for template, parts in (("{}", ()), ("a", ("b",)), ("{x}", ("b",))):
        with pytest.raises(ValueError, match="expected"):
            told(template, *parts)


def test_sources_quote_what_is_in_them():
    rows = sources.CONTRASTS.where("|d_av|>0.8", value="a & b#?=c", facet=None, few=True)
    assert rows.get("count") == (
        "features/contrasts.parquet?|d_av|>0.8&value=a%20%26%20b%23%3F%3Dc&!facet&few=true#count"
    )
    assert sources.at("x.json", "a/b~c", 0) == "x.json#/a~1b~0c/0"
    assert sources.interval(None, "x") == "" and sources.interval([1.0, None], "x") == ""
