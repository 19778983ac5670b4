"""The section on labels: who made them, what they predict beside a bad label, and how good the judge is."""

from __future__ import annotations

import html
import re

import pytest

from antar.report.blocks import Facts, Folded, Paragraph, Table
from antar.report.book import FeatureBook
from antar.report.figures import Drawn
from antar.report.labels import labels_section
from antar.report.method import limits
from antar.report.page import SECTIONS, head_of, render_page
from antar.run import load_run


@pytest.fixture(scope="module")
def run(fake, tmp_path_factory):
    return load_run(fake.write_fake_run(tmp_path_factory.mktemp("runs") / "llm", llm=True))


@pytest.fixture(scope="module")
def section(run):
    return labels_section(run)


@pytest.fixture(scope="module")
def rendered(run) -> str:
    from markupsafe import Markup

    def undrawn(plot) -> Drawn:
        return Drawn(plot.name, plot.alt, plot.caption, Markup("<svg></svg>"))

    return render_page(head_of(run), [one(run) for one in SECTIONS], undrawn)


def table(section, start: str) -> Table:
    (found,) = [one for one in section.blocks if isinstance(one, Table) and one.caption.startswith(start)]
    return found


def texts(section) -> str:
    return " ".join(one.text for one in section.blocks if isinstance(one, Paragraph))


def cells(found: Table) -> dict[str, list[str]]:
    return {row.head: [getattr(cell, "text", cell) for cell in row.cells] for row in found.rows}


def test_the_readers_hand_out_what_only_models_have(run, make_run):
    assert set(run.labels["labeller"]) == {"Qwen/Qwen1.5-32B-Chat", "keywords"}
    assert set(run.keyword_labels["labeller"]) == {"keywords"} and run.keyword_labels.height == run.labels.height
    assert set(run.controls["kind"]) == {"wrong_label", "right_word"}
    assert set(run.saebench["n"]) == {14}
    plain = make_run()
    assert plain.keyword_labels.is_empty() and plain.controls.is_empty() and plain.saebench.is_empty()


def test_it_stands_in_the_appendix_behind_the_features_that_changed(section):
    names = [one.__name__ for one in SECTIONS]
    assert section.appendix and names.index("changed_section") < names.index("labels_section")
    assert names.index("saebench_section") == names.index("labels_section") + 1


def test_it_says_who_did_what_and_counts_failures(section):
    said = texts(section)
    assert "Qwen/Qwen1.5-32B-Chat labelled" in said and "are of one family" in said
    (counts,) = [dict(one.items) for one in section.blocks if isinstance(one, Facts)]
    # Eight dictionaries of ten asked features; the other eighty have keyword labels and are not counted.
    assert counts["features labelled"] == "80"
    assert (counts["found coherent"], counts["incoherent"], counts["labels that failed"]) == ("64", "8", "8")
    assert sum(int(counts[f"verdict {name}"]) for name in ("KEEP", "REVISE", "INVALIDATE", "failed")) == 64


def test_every_score_stands_beside_its_null(fake, section):
    found = table(section, "Does the label alone")
    rows = cells(found)
    assert list(rows) == [
        fake.JUDGE,
        "on English texts",
        "on Hindi texts",
        "with another feature's label",
        "keywords",
        "keywords of another feature",
    ]
    values = {name: row[0] for name, row in rows.items()}
    assert (values[fake.JUDGE], values["keywords"], values["with another feature's label"]) == (
        "0.83",
        "0.67",
        "0.50",
    )
    assert all(row.null for row in found.rows if "another" in row.head or row.head == "keywords")
    assert rows[fake.JUDGE][3] == "1"  # the failed call
    assert "always saying no has 0.714" in found.note and "50% fire one of the nearest" in found.note


def test_the_judge_is_measured_on_labels_whose_truth_is_known(section):
    found = table(section, "Can the validator be trusted")
    (kept, refused) = found.rows
    assert (kept.cells[0].text, refused.cells[0].text) == ("0.85", "0.20")
    assert kept.cells[0].detail and refused.cells[0].detail
    assert "unmarked" in found.note and "keeps everything has 1 and 0" in found.note


def test_calls_failures_and_money_are_told(section):
    found = table(section, "What was asked")
    rows = cells(found)
    assert set(rows) == {"labels", "verdicts", "predictions"}
    assert rows["labels"][1:3] == ["80", "3"]
    assert rows["labels"][-1] == "0.00420 USD"  # a first look costs little, and not nothing
    assert rows["verdicts"][-1] == "no prices given"
    assert "the answer was cut off (1)" in found.rows[0].remark and not found.rows[2].remark


def test_the_features_that_a_model_labelled_are_shown_with_reasons(section):
    (folded,) = [one for one in section.blocks if isinstance(one, Folded)]
    (found,) = folded.blocks
    assert len(found.rows) == 30
    assert {row.cells[1] for row in found.rows} == {"KEEP", "REVISE", "INVALIDATE", "failed"}
    first = found.rows[0].cells
    assert list(first[3:5]) == ["festival", "en"] and first[2] == "balanced accuracy 0.74 <on> 20 texts"


def test_what_models_wrote_is_text_and_nothing_else(rendered):
    for hostile in ("<script>alert(3)", "<img src=x onerror=alert(4)>", "<b>bold</b>", "<i>qwen</i>"):
        assert hostile not in rendered
        assert html.escape(hostile, quote=False) in rendered
    assert not re.search(r">\s*(nan|NaN|None|inf)\s*<", rendered)


def test_keywords_alone_say_that_no_model_read_anything(make_run):
    run = make_run()
    section = labels_section(run)
    assert "No language model read anything" in texts(section)
    assert next(one.caption for one in section.blocks if isinstance(one, Table)).startswith("Does the label alone")
    assert not any(isinstance(one, Table) and one.caption.startswith(("Can", "What")) for one in section.blocks)
    assert any(one.startswith("No language model read the labels") for one in limits(run))


def test_labelling_that_has_not_ended_is_not_called_absent(make_run):
    run = make_run(llm=True)
    (run.folder / "interpret/manifest.json").unlink()
    assert "not finished" in texts(labels_section(run))
    (run.folder / "interpret/labels.jsonl").unlink()
    assert "No feature has been labelled" in texts(labels_section(run))


def test_a_failed_call_is_not_an_incoherent_feature(run):
    book = FeatureBook(run)
    failed = run.labels.filter(run.labels["failed"].is_not_null())["feature"][0]
    assert book.label_state(failed).startswith("not labelled: the call failed")
    unjudged = run.verdicts.filter(run.verdicts["failed"].is_not_null())["feature"][0]
    card = book.card(unjudged, "culture")
    assert card.verdict.text == "failed" and "onerror" in card.reason


def test_limits_name_the_model_that_is_missing(run):
    assert not any("No language model" in one for one in limits(run))
