"""Two laptops annotate apart: the union of two logs, whichever way it is made, and nothing lost."""

from __future__ import annotations

import json
import shutil
import time

import pytest

from antar.core.errors import UserError
from antar.people.adjudicate import Ruling, cases_of, rule
from antar.people.merge import Merged, export_log, merge
from antar.people.queue import items_for
from antar.people.schema import SHEET, connect
from antar.people.store import state_of, states_of


@pytest.fixture
def apart(sheet, sheets, tmp_path):
    """A copy of the sheet on another machine. asha has worked on both, on item 0; ravi on the other alone."""
    other = tmp_path / "other" / "people" / SHEET
    other.parent.mkdir(parents=True)
    keys = sheets.keys(sheet)
    items = [item.item for item in items_for(sheet, "asha") if keys[item.item]["role"] == "own"]
    sheets.put(sheet, "asha", items[0], pattern="2", what="before both")
    shutil.copy(sheet, other)
    return sheet, other, items


def log_of(sheet) -> set[tuple]:
    with connect(sheet) as database:
        return {*database.execute("SELECT * FROM writes"), *database.execute("SELECT * FROM rulings")}


def test_a_merge_is_the_union_of_the_logs_in_either_direction_and_twice_is_once(apart, sheets):
    here, there, items = apart
    sheets.answer(here, "asha", items[1], verdict="REVISE")
    sheets.answer(there, "asha", items[2])
    sheets.answer(there, "ravi", items[1], verdict="INVALIDATE", kind="other")
    rule(there, Ruling("ruling-0001", items[1], "meera", "KEEP", "topical"))
    both = log_of(here) | log_of(there)
    merged = merge(here, there.parent.parent)  # a run folder
    assert merged == Merged(new=len(both) - 10, known=2, conflicts=0, people=())
    assert log_of(here) == both
    assert merge(there, here).new == 8
    assert log_of(there) == both
    assert merge(here, there).new == 0
    assert {i for i, s in states_of(here, "asha").items() if s.submitted} == {items[1], items[2]}
    assert state_of(there, "asha", items[1]) == state_of(here, "asha", items[1])
    assert state_of(here, "asha", items[2]).seconds == 20.0


def test_of_two_answers_of_one_person_the_later_stands_and_the_earlier_is_kept(apart, sheets):
    here, there, items = apart
    sheets.answer(here, "asha", items[1], verdict="KEEP")
    time.sleep(0.005)
    sheets.answer(there, "asha", items[1], verdict="INVALIDATE", kind="other")
    assert merge(here, there).conflicts == 2
    assert merge(there, here).conflicts == 0  # settled by now, in the same way
    for sheet in (here, there):
        state = state_of(sheet, "asha", items[1])
        assert (state.verdict, state.kind, state.submitted) == ("INVALIDATE", "other", "yes")
        with connect(sheet) as database:
            kept = database.execute("SELECT value FROM writes WHERE field = 'verdict' ORDER BY at").fetchall()
        assert kept == [("KEEP",), ("INVALIDATE",)]


def test_a_blind_answer_after_the_label_was_seen_elsewhere_does_not_stand(apart, sheets):
    here, there, items = apart
    sheets.put(here, "asha", items[0], pattern="3", revealed="yes")
    time.sleep(0.005)
    sheets.put(there, "asha", items[0], pattern="5", what="what the label said", revealed="yes")
    for one, other in ((here, there), (there, here)):
        merge(one, other)
        state = state_of(one, "asha", items[0])
        assert (state.pattern, state.what) == ("3", "before both")


def test_json_lines_carry_the_whole_log_or_one_persons(apart, sheets, tmp_path):
    here, there, items = apart
    sheets.answer(there, "asha", items[2])
    sheets.answer(there, "ravi", items[2], kind="topical")
    rule(there, Ruling("ruling-0001", items[2], "meera", "KEEP", "topical", note="नोट"))
    path = tmp_path / "ravi.jsonl"
    assert export_log(there, path, "ravi") == 7
    assert merge(here, path).new == 7
    assert states_of(here, "asha").keys() == {items[0]}
    assert export_log(there, tmp_path / "all.jsonl") == 2 + 7 + 7 + 1
    assert "नोट" in (tmp_path / "all.jsonl").read_text("utf-8")
    merge(here, tmp_path / "all.jsonl")
    assert log_of(here) == log_of(there)
    (case,) = cases_of(here)
    assert case.ruling is not None
    with pytest.raises(UserError, match="found 'eve'"):
        export_log(here, path, "eve")


def test_two_machines_may_draw_the_sheet_each_and_have_other_people(sheets, tmp_path):
    here = sheets.draw(tmp_path / "here", annotators=("asha",)).path
    there = sheets.draw(tmp_path / "there", annotators=("ravi",)).path
    item = items_for(there, "ravi")[0].item
    sheets.answer(there, "ravi", item)
    assert merge(here, there) == Merged(new=7, known=0, conflicts=0, people=("ravi",))
    assert state_of(here, "ravi", item).submitted


def test_what_is_not_this_sheet_or_was_edited_is_refused_whole(apart, sheets, tmp_path):
    here, there, items = apart
    before = log_of(here)
    other = sheets.draw(tmp_path / "another", seed=9).path
    sheets.answer(there, "ravi", items[2])
    good = tmp_path / "all.jsonl"
    export_log(there, good)
    lines = good.read_text("utf-8").splitlines()
    new = lines[-1].replace("write-", "writX-")
    edited = [lines[0], lines[1].replace("before both", "x").replace('"2"', '"3"'), *lines[2:]]
    maybe = new.replace('"submitted"', '"verdict"').replace('"yes"', '"MAYBE"')
    faults = {
        "expected answers to this sheet": None,
        "expected JSON lines": "\n".join([*lines, "{"]) + "\n",
        "expected the header and whole lines": "\n".join(lines),
        "expected the header": "\n".join(lines[1:]) + "\n",
        "found other content": "\n".join(edited) + "\n",
        "found other columns": "\n".join([lines[0], '{"write": "x"}']) + "\n",
        "for at, found 'now'": "\n".join([lines[0], json.dumps({**json.loads(new), "at": "now"})]) + "\n",
        "found half of one": "\n".join([*lines, new.replace('"yes"', '"\\ud800"')]) + "\n",
        "for verdict, found 'MAYBE'": "\n".join([*lines, maybe]) + "\n",
        "expected a person of its header": "\n".join([*lines, new.replace("ravi", "eve")]) + "\n",
        "expected an item of this sheet": "\n".join([*lines, new.replace(items[2], "0" * 12)]) + "\n",
    }
    for said, text in faults.items():
        faulty = other
        if text is not None:
            faulty = tmp_path / "faulty.jsonl"
            faulty.write_text(text, encoding="utf-8")
        with pytest.raises(UserError) as error:
            merge(here, faulty)
        assert said in str(error.value)
        assert "\n" not in str(error.value)
        assert log_of(here) == before
    with pytest.raises(UserError, match="found no file"):
        merge(here, tmp_path / "absent.jsonl")
