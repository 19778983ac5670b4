"""Rulings stand beside the two originals and never replace them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from antar.core.errors import UserError
from antar.people.adjudicate import Ruling, cases_of, rule
from antar.people.findings import findings_of
from antar.people.store import states_of


@pytest.fixture
def judged(sheet, sheets):
    """asha and ravi differ on the verdict of one item, the kind of one, the pattern of one, and agree on one."""
    own = [item for item, key in sheets.keys(sheet).items() if key["role"] == "own"]
    for who in ("asha", "ravi"):
        other = who == "ravi"
        sheets.answer(sheet, who, own[0], verdict="REVISE" if other else "KEEP")
        sheets.answer(sheet, who, own[1], kind="topical" if other else "cultural")
        sheets.answer(sheet, who, own[2], pattern="2" if other else "4")
        sheets.answer(sheet, who, own[3], pattern="3" if other else "4")
    sheets.answer(sheet, "asha", own[4], verdict="INVALIDATE", kind="other")
    for item, key in sheets.keys(sheet).items():
        if key["role"] != "own":
            sheets.answer(sheet, "asha", item, verdict="KEEP")
            sheets.answer(sheet, "ravi", item, verdict="INVALIDATE", kind="other")
    return sheet, own


def test_cases_are_the_own_items_on_which_two_people_differ(judged):
    sheet, own = judged
    found = {case.item: case for case in cases_of(sheet)}
    assert {item: case.differs for item, case in found.items()} == {
        own[0]: ("verdict",), own[1]: ("kind",), own[2]: ("pattern",)
    }  # fmt: skip
    case = found[own[0]]
    assert {who: state.verdict for who, state in case.answers.items()} == {"asha": "KEEP", "ravi": "REVISE"}
    assert len(case.texts) == 4


def test_a_ruling_changes_no_answer_and_no_agreement_and_a_later_one_replaces_it(judged):
    sheet, own = judged
    before = [states_of(sheet, who) for who in ("asha", "ravi")]
    agreed = findings_of(sheet, seed=1, bootstraps=50)
    first = Ruling("ruling-0001", own[0], "meera", "KEEP", "cultural")
    for ruling in (first, first, replace(first, ruling="ruling-0002", verdict="REVISE", label="oil lamps")):
        rule(sheet, ruling)
    assert [states_of(sheet, who) for who in ("asha", "ravi")] == before
    after = findings_of(sheet, seed=1, bootstraps=50)
    assert after.questions == agreed.questions
    assert (agreed.ruled, after.ruled) == (0, 1)
    *open_cases, ruled = cases_of(sheet)  # those with a ruling stand last
    assert ruled.item == own[0]
    assert ruled.ruling is not None
    assert ruled.ruling.label == "oil lamps"
    assert all(case.ruling is None for case in open_cases)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"verdict": "MAYBE"}, "verdict: expected KEEP"),
        ({"kind": ""}, "kind: expected cultural"),
        ({"verdict": "REVISE"}, "expected a better label"),
        ({"item": "nosuchitem"}, "expected an item of this sheet"),
        ({"adjudicator": " "}, "expected a name"),
        ({"note": "x" * 3000}, "at most 2000"),
        ({"ruling": "x"}, "expected an id"),
    ],
)
def test_a_faulty_ruling_is_one_line(judged, change, said):
    sheet, own = judged
    with pytest.raises(UserError, match=said):
        rule(sheet, replace(Ruling("ruling-0001", own[0], "meera", "KEEP", "cultural"), **change))
    assert all(case.ruling is None for case in cases_of(sheet))


def test_one_id_with_two_contents_is_refused(judged):
    sheet, own = judged
    rule(sheet, Ruling("ruling-0001", own[0], "meera", "KEEP", "cultural"))
    with pytest.raises(UserError, match="found another one"):
        rule(sheet, Ruling("ruling-0001", own[0], "meera", "INVALIDATE", "cultural"))
