"""Answers: in their order, twice is once, undone one by one, and none lost when many write at once."""

from __future__ import annotations

import multiprocessing
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from antar.core.errors import UserError
from antar.people import schema
from antar.people.fields import MOST_CHARACTERS, Refused, State
from antar.people.queue import item_for, items_for, progress_of
from antar.people.schema import connect
from antar.people.store import Write, known_annotator, record, record_all, state_of, states_of, undo


@pytest.fixture
def item(sheet) -> str:
    return items_for(sheet, "asha")[0].item


def test_the_label_is_out_of_reach_until_the_blind_answers_are_given_and_then_they_are_closed(sheets, sheet, item):
    def refused(field: str, value: str, why: str) -> None:
        with pytest.raises(Refused, match=why):
            sheets.put(sheet, "asha", item, **{field: value})

    assert item_for(sheet, "asha", item).label is None
    refused("revealed", "yes", "still to answer: pattern")
    refused("verdict", "KEEP", "has not been shown")
    sheets.put(sheet, "asha", item, pattern="2")
    refused("revealed", "yes", "still to answer: what")
    sheets.put(sheet, "asha", item, what="lamps", pattern="3")
    assert item_for(sheet, "asha", item).label is None
    sheets.put(sheet, "asha", item, revealed="yes")
    assert item_for(sheet, "asha", item).label == sheets.keys(sheet)[item]["label"]
    assert item_for(sheet, "ravi", item).label is None
    refused("pattern", "5", "closed")
    refused("what", "lamps!", "closed")
    refused("submitted", "yes", "still to answer: verdict")
    sheets.put(sheet, "asha", item, verdict="REVISE")
    refused("submitted", "yes", "still to answer: label")
    sheets.put(sheet, "asha", item, label="oil lamps")
    refused("submitted", "yes", "still to answer: kind")
    sheets.put(sheet, "asha", item, kind="cultural", submitted="yes")
    refused("verdict", "KEEP", "undo that first")
    assert state_of(sheet, "asha", item) == State("3", "lamps", "yes", "REVISE", "cultural", "oil lamps", "yes", 0.0)
    assert state_of(sheet, "ravi", item) == State()


def test_who_sees_no_pattern_need_not_say_what_it_is(sheets, sheet, item):
    sheets.put(sheet, "asha", item, pattern="1", revealed="yes", verdict="INVALIDATE", kind="other", submitted="yes")
    assert progress_of(sheet, "asha").submitted == {item}


def test_a_write_sent_twice_is_once_and_another_under_its_id_is_refused(sheet, item):
    write = Write("an-id-made-once", "asha", item, "pattern", "3")
    later = Write("another-id-made", "asha", item, "pattern", "4")
    for one in (write, later, write, later, write):
        record(sheet, one)
    assert state_of(sheet, "asha", item).pattern == "4"
    with connect(sheet) as database:
        assert database.execute("SELECT count(*) FROM writes").fetchone() == (2,)
    with pytest.raises(UserError, match="found another answer"):
        record(sheet, replace(write, value="5"))
    for seconds in ("12.5", "7"):
        for _ in range(2):
            record(sheet, Write(f"seconds-{seconds}", "asha", item, "seconds", seconds))
    assert state_of(sheet, "asha", item).seconds == 19.5


def test_writes_together_are_all_or_none(sheet, item):
    good = Write("a-good-write", "asha", item, "pattern", "3")
    with pytest.raises(Refused):
        record_all(sheet, [good, Write("a-bad-write", "asha", item, "verdict", "KEEP")])
    assert states_of(sheet, "asha") == {}
    assert record_all(sheet, [good]) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"value": "6"}, "expected 1, 2, 3, 4, 5 or nothing for pattern, found '6'"),
        ({"field": "nosuch"}, "found 'nosuch'"),
        ({"field": "what", "value": "x" * (MOST_CHARACTERS + 1)}, "expected at most 2000 characters"),
        ({"field": "what", "value": "a\0b"}, "with a NUL among them"),
        ({"field": "seconds", "value": "nan"}, "expected 0 to 3600 seconds"),
        ({"field": "seconds", "value": "4000"}, "expected 0 to 3600 seconds"),
        ({"field": "revealed", "value": ""}, "stays seen"),
        ({"annotator": "eve"}, "expected a person of this sheet, found 'eve'"),
        ({"item": "nosuchitem"}, "expected an item of this sheet, found 'nosuchitem'"),
        ({"write": "short"}, "expected an id of 8 to 64"),
        ({"write": "नमस्ते नमस्ते"}, "expected an id of 8 to 64"),
    ],
)
def test_a_faulty_write_is_one_line_and_keeps_nothing(sheet, item, change, said):
    with pytest.raises(UserError) as error:
        record(sheet, replace(Write("some-write-id", "asha", item, "pattern", "3"), **change))
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    with connect(sheet) as database:
        assert database.execute("SELECT count(*) FROM writes").fetchone() == (0,)


def test_undo_takes_keys_back_one_by_one_to_the_answers_before_the_label(sheets, sheet):
    first, second = (i.item for i in items_for(sheet, "asha")[:2])
    sheets.put(sheet, "asha", first, pattern="2", what="lamps")
    sheets.put(sheet, "asha", first, pattern="3")
    assert undo(sheet, "undo-0001", "asha") == first
    assert state_of(sheet, "asha", first).pattern == "2"
    assert undo(sheet, "undo-0001", "asha") == first  # sent again: nothing happens
    assert state_of(sheet, "asha", first).pattern == "2"
    sheets.put(sheet, "asha", first, pattern="4", revealed="yes", verdict="KEEP")
    sheets.put(sheet, "asha", first, verdict="INVALIDATE", kind="other")
    sheets.put(sheet, "asha", first, kind="other")  # the same key again changes nothing, so undo passes over it
    sheets.put(sheet, "asha", first, submitted="yes")
    sheets.put(sheet, "ravi", second, pattern="5")  # another person's keys are their own
    steps = [
        ("yes", "INVALIDATE", "other"),
        ("", "INVALIDATE", "other"),
        ("", "INVALIDATE", ""),
        ("", "KEEP", ""),
        ("", "", ""),
    ]
    for i, want in enumerate(steps):
        state = state_of(sheet, "asha", first)
        assert (state.submitted, state.verdict, state.kind) == want
        if i + 1 < len(steps):
            assert undo(sheet, f"undo-{i:04d}-b", "asha") == first
    with pytest.raises(Refused, match="label has been seen"):
        undo(sheet, "undo-last-one", "asha")
    assert state_of(sheet, "asha", first).pattern == "4"
    assert undo(sheet, "undo-of-ravi", "ravi") == second
    assert undo(sheet, "undo-of-ravi-2", "ravi") is None


def test_what_was_answered_before_stays_in_the_log(sheets, sheet, item):
    for text in ("l", "la", "lamps", ""):
        sheets.put(sheet, "asha", item, what=text)
    assert state_of(sheet, "asha", item) == State()
    with connect(sheet) as database:
        rows = database.execute("SELECT value, at FROM writes ORDER BY at").fetchall()
    assert [value for value, _ in rows] == ["l", "la", "lamps", ""]
    assert len({at for _, at in rows}) == 4


def test_a_clock_that_goes_back_does_not_turn_the_order(sheets, sheet, item, monkeypatch):
    sheets.put(sheet, "asha", item, pattern="3")
    monkeypatch.setattr("antar.people.store.time.time_ns", lambda: 10**18)  # 2001
    sheets.put(sheet, "asha", item, pattern="4")
    assert state_of(sheet, "asha", item).pattern == "4"


def test_a_reader_cannot_write_and_a_sheet_that_is_none_is_one_line(sheet, tmp_path):
    with connect(sheet) as database, pytest.raises(sqlite3.OperationalError, match="readonly"):
        database.execute("DELETE FROM items")
    with pytest.raises(UserError, match="found no file"):
        progress_of(tmp_path / "absent.sqlite", "asha")
    (tmp_path / "text.sqlite").write_text("not a database, though long enough to look at")
    with pytest.raises(UserError, match="expected an annotation sheet"):
        progress_of(tmp_path / "text.sqlite", "asha")
    database = sqlite3.connect(sheet)
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(UserError, match="found 99"):
        progress_of(sheet, "asha")
    with pytest.raises(UserError, match="found 99"):
        known_annotator(sheet, "asha")


def test_a_write_waits_for_the_disk(sheet):
    with connect(sheet, write=True) as database:
        assert database.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


def test_a_writer_that_waits_too_long_is_one_line(sheet, item, monkeypatch):
    monkeypatch.setattr("antar.people.schema.WAIT_S", 0.05)
    with connect(sheet, write=True), pytest.raises(UserError, match="found it busy"):
        record(sheet, Write("some-write-id", "asha", item, "pattern", "3"))


N_CLIENTS, N_WRITES = 8, 625


def _client(sheet: Path, client: int, items: list[str]) -> None:
    """One of the clients: a process of its own; every tenth write is sent twice, as after a broken connection.

    Nobody cuts the power here, so nothing waits for the disk."""
    schema.SYNCHRONOUS = "OFF"
    who = ("asha", "ravi")[client % 2]
    for i in range(N_WRITES):
        write = Write(f"client{client}-{i:05d}", who, items[i % len(items)], "what", f"{client}:{i}")
        record(sheet, write)
        if i % 10 == 0:
            record(sheet, write)


@pytest.mark.slow
def test_none_of_5000_concurrent_writes_of_8_clients_is_lost(sheet):
    items = [item.item for item in items_for(sheet, "asha")]
    context = multiprocessing.get_context("spawn")
    clients = [context.Process(target=_client, args=(sheet, i, items)) for i in range(N_CLIENTS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join(300)
    assert [client.exitcode for client in clients] == [0] * N_CLIENTS
    with connect(sheet) as database:
        rows = database.execute("SELECT write, value, at FROM writes ORDER BY at").fetchall()
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert {write for write, _, _ in rows} == {
        f"client{c}-{i:05d}" for c in range(N_CLIENTS) for i in range(N_WRITES)
    }
    assert len({at for _, _, at in rows}) == len(rows) == N_CLIENTS * N_WRITES
    # What stands is the last of each field in the order of the log.
    for who, rest in (("asha", 0), ("ravi", 1)):
        for item, state in states_of(sheet, who).items():
            mine = [v for w, v, _ in rows if int(w[6]) % 2 == rest and items[int(w[8:]) % len(items)] == item]
            assert state.what == mine[-1]
