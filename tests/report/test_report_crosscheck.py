"""The report's cross-check section, and its line on the chat template."""

from __future__ import annotations

from typing import Any

import yaml

from antar.core.atomic import write_json, write_text
from antar.report.blocks import Paragraph, Table
from antar.report.crosscheck import answer, crosscheck_section
from antar.report.page import head_of
from antar.run import Run, load_run
from fake_crosscheck import FOUND


def with_crosscheck(run: Run, found: dict[str, Any]) -> Run:
    write_json(run.folder / "features/crosscheck.json", found)
    return load_run(run.folder)


def cells(table: Table) -> str:
    return " | ".join(str(cell) for row in table.rows for cell in [row.head, *row.cells])


def test_a_study_without_a_crosscheck_says_so_in_one_line(make_run):
    section = crosscheck_section(make_run())
    (line,) = section.blocks
    assert isinstance(line, Paragraph) and "no cross-check source" in line.text


def test_the_section_shows_sets_nulls_masks_and_states(make_run):
    section = crosscheck_section(with_crosscheck(make_run(), FOUND))
    sets, masked, states = [block for block in section.blocks if isinstance(block, Table)]
    assert [(row.head, row.null) for row in sets.rows] == [
        ("base.layer01", False),
        ("base.layer01 @ chat", False),
        ("delta.layer01", False),
        ("delta:a.layer01 (sham a)", True),
    ]
    assert "0.81" in cells(sets) and "[0.750, 0.880]" in cells(sets) and "0.005" in cells(sets)
    assert [row.head for row in masked.rows] == ["base.layer01"] and "[−0.200, −0.0500]" in cells(masked)
    assert "few texts" in cells(states) and "state: <b>goa</b>" in cells(states) and " 17 " in cells(states)
    notes = " ".join(block.text for block in section.blocks if isinstance(block, Paragraph))
    assert "changed 9 of 50 texts in en" in notes and "7 more have no or too few controls" in notes
    assert "At 2 of 3 sets of codes" in notes and "at 1 the interval also lies above 97.5%" in notes


def test_the_answer_without_features():
    assert answer([FOUND["sets"][-1]]).startswith("No feature was chosen")


def test_nothing_enriched_and_nothing_chosen_are_said(make_run):
    run = with_crosscheck(make_run(), FOUND | {"enriched": []})
    texts = [block.text for block in crosscheck_section(run).blocks if isinstance(block, Paragraph)]
    assert any(text.startswith("No chosen feature is enriched") for text in texts)
    empty = {"languages": FOUND["languages"], "sets": [FOUND["sets"][-1]], "features": [], "enriched": []}
    section = crosscheck_section(with_crosscheck(run, empty))
    assert not any(isinstance(block, Table) for block in section.blocks)


def test_the_first_facts_say_whether_the_chat_template_was_on(make_run):
    run = make_run()
    assert head_of(run).reading == "Texts were read bare, without a chat template."
    study = run.study | {"extract": run.study["extract"] | {"chat_template": True}}
    write_text(run.folder / "study.yaml", yaml.safe_dump(study, allow_unicode=True))
    line = head_of(load_run(run.folder)).reading
    assert "single user message into the chat template of Fake & Chat" in line
    study["extract"]["chat_template"] = "both"
    write_text(run.folder / "study.yaml", yaml.safe_dump(study, allow_unicode=True))
    line = head_of(load_run(run.folder)).reading
    assert "read twice by every checkpoint" in line and "template of Fake & Chat, where" in line
