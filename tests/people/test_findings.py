"""What a sheet says: each number against a loop over the answers."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.proportion import proportion_confint

from antar.people.adjudicate import Ruling, rule
from antar.people.findings import digest, findings_of
from antar.people.queue import items_for
from antar.tables_people import show_findings, write_findings

V = ("KEEP", "REVISE", "INVALIDATE")


@pytest.fixture(scope="module")
def judged(sheets, tmp_path_factory):
    """asha and ravi answered every item, alike on two of three; what they said."""
    sheet = sheets.draw(tmp_path_factory.mktemp("judged")).path
    rng, said = np.random.default_rng(2), {}
    for item in sheets.keys(sheet):
        truth = rng.integers(3)
        for who in ("asha", "ravi"):
            verdict = V[truth if rng.random() < 0.66 else rng.integers(3)]
            kind, pattern = rng.choice(["cultural", "topical"]), str(rng.integers(1, 6))
            sheets.answer(sheet, who, item, verdict=verdict, kind=str(kind), pattern=pattern)
            said[who, item] = verdict
    return sheet, sheets.keys(sheet), said


def test_agreement_is_on_own_items_alone_and_by_site_language_and_category(judged):
    sheet, keys, said = judged
    found = findings_of(sheet, seed=1, bootstraps=200)
    own = [item for item, key in keys.items() if key["role"] == "own"]
    pairs = [(said["asha", i], said["ravi", i]) for i in own]
    verdict = found.questions["verdict"]
    assert verdict.items == len(own) == 12
    assert verdict.raw.value == pytest.approx(np.mean([a == b for a, b in pairs]))
    assert verdict.kappa.value == pytest.approx(cohen_kappa_score(*zip(*pairs, strict=True), labels=V))
    for split in ("site", "language", "category"):
        values = {key[split] or "not given" for key in keys.values() if key["role"] == "own"}
        assert set(found.split[split]) == values
        for value in values:
            part = [i for i in own if (keys[i][split] or "not given") == value]
            agreed = found.split[split][value]["verdict"]
            assert agreed.items == len(part)
            assert agreed.raw.value == pytest.approx(np.mean([said["asha", i] == said["ravi", i] for i in part]))


def test_each_person_stands_beside_the_validator_wrong_labels_and_their_second_sight(judged):
    sheet, keys, said = judged
    found = findings_of(sheet, seed=1, bootstraps=200)
    assert found.validator_name == "judge"
    for who in ("asha", "ravi"):
        person = found.people[who]
        assert (person.submitted, person.median_seconds) == (len(keys), 20.0)
        with_verdict = [i for i, key in keys.items() if key["role"] == "own" and key["verdict"]]
        assert person.validator.items == len(with_verdict)
        assert person.validator.kappa.value == pytest.approx(
            cohen_kappa_score(
                [said[who, i] for i in with_verdict], [keys[i]["verdict"] for i in with_verdict], labels=V
            )
        )
        wrong = [said[who, i] for i, key in keys.items() if key["role"] == "wrong_label"]
        refused = sum(verdict != "KEEP" for verdict in wrong)
        assert person.wrong_labels == len(wrong) == 6
        assert person.refused.value == pytest.approx(refused / 6)
        assert (person.refused.low, person.refused.high) == pytest.approx(
            proportion_confint(refused, 6, method="wilson")
        )
        again = [(said[who, key["repeats"]], said[who, i]) for i, key in keys.items() if key["role"] == "repeat"]
        assert person.repeats == len(again) == 3
        assert person.repeated["verdict"].raw.value == pytest.approx(np.mean([a == b for a, b in again]))


def test_only_submitted_items_count_and_looking_changes_no_digest(sheet, sheets):
    own = [item for item, key in sheets.keys(sheet).items() if key["role"] == "own"]
    empty = digest(sheet)
    sheets.put(sheet, "asha", own[0], pattern="3", what="x", revealed="yes", verdict="KEEP", seconds="9")
    sheets.answer(sheet, "ravi", own[0])
    found = findings_of(sheet, seed=1, bootstraps=50)
    assert found.questions["verdict"].items == 0
    assert found.people["asha"].submitted == 0
    assert found.people["asha"].median_seconds is None
    assert found.questions["verdict"].alpha.reason == "1 annotators; agreement needs two"
    one = digest(sheet)
    assert one != empty
    sheets.put(sheet, "ravi", own[0], seconds="9")
    items_for(sheet, "ravi")
    assert digest(sheet) == one
    rule(sheet, Ruling("ruling-0001", own[0], "meera", "KEEP", "cultural"))
    assert digest(sheet) != one


def test_the_consensus_is_compared_with_the_validator_apart(judged, tmp_path, capsys):
    sheet, keys, _ = judged
    ruled = [i for i, key in keys.items() if key["role"] == "own" and key["verdict"]][:3]
    for n, item in enumerate(ruled):
        rule(sheet, Ruling(f"ruling-{n:04d}", item, "[bold]meera", keys[item]["verdict"], "other", "a better one"))
    found = findings_of(sheet, seed=1, bootstraps=50)
    assert (found.ruled, found.consensus.items, found.consensus.raw.value) == (3, 3, 1.0)
    write_findings(tmp_path / "a.json", found)
    assert json.loads((tmp_path / "a.json").read_text("utf-8"))["questions"] == json.loads(
        json.dumps(asdict(found)["questions"])
    )
    show_findings(found)
    printed = capsys.readouterr().out
    assert f"{found.questions['verdict'].alpha.value:.2f} [" in printed
    assert "verdict by category" in printed


def test_a_sheet_without_answers_is_one_line(sheet, capsys):
    show_findings(findings_of(sheet, seed=1, bootstraps=5))
    assert capsys.readouterr().out.splitlines() == [
        "No item is answered yet (asha, ravi); `antar serve` prints each person's link."
    ]
