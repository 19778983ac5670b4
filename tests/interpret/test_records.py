"""Records survive a kill at any byte, damage, other wishes and another order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from antar.core.errors import UserError
from antar.interpret.records import LABELS, RecordFile, read_labels, read_predictions

KEYS = [f"key{i}" for i in range(6)]


def unit(key: str) -> list[dict[str, object]]:
    return [{"feature": f"{key}-{line}", "label": "ईद \u2028 \n"} for line in range(1 + int(key[3:]) % 3)]


def fill(path: Path, keys: list[str] = KEYS, batch: int = 2) -> list[str]:
    """Make what is missing; returns the keys that were made."""
    with RecordFile(path, keys) as file:
        missing = file.missing
        for lo in range(0, len(missing), batch):
            file.add({key: unit(key) for key in missing[lo : lo + batch]})
    return missing


def test_a_file_cut_at_any_byte_is_finished_to_the_same_bytes(tmp_path: Path) -> None:
    whole = tmp_path / "whole.jsonl"
    assert fill(whole) == KEYS
    data = whole.read_bytes()
    assert fill(whole) == []
    assert whole.read_bytes() == data
    path = tmp_path / "cut.jsonl"
    for length in [*range(0, len(data), 13), *(i + d for i, c in enumerate(data) if c == 10 for d in (0, 1))]:
        path.write_bytes(data[:length])
        made = fill(path)
        assert path.read_bytes() == data
        assert made == KEYS[len(KEYS) - len(made) :]


def test_only_what_is_missing_or_changed_is_made_and_the_order_is_restored(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    fill(path, ["key4", "key1", "key9"])
    assert fill(path) == ["key0", "key2", "key3", "key5"]
    fresh = tmp_path / "fresh.jsonl"
    fill(fresh)
    assert path.read_bytes() == fresh.read_bytes()


def test_a_damaged_line_is_made_again_and_so_is_an_edited_unit(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    fill(path)
    data = path.read_bytes()
    lines = data.split(b"\n")
    lines[0] = b"{broken"
    del lines[4]  # the second of key2's three lines
    path.write_bytes(b"\n".join(lines))
    assert fill(path) == ["key0", "key2"]
    assert path.read_bytes() == data


def test_a_line_that_is_still_json_but_not_what_was_written_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    fill(path)
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"key3-0"', b'"key3-1"', 1))
    assert fill(path) == ["key3"]
    assert path.read_bytes() == data


def test_an_error_inside_keeps_what_was_added(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"

    def fail() -> None:
        with RecordFile(path, KEYS) as file:
            file.add({"key0": unit("key0")})
            raise RuntimeError("the worker died")

    with pytest.raises(RuntimeError):
        fail()
    assert fill(path) == KEYS[1:]


def test_units_may_be_empty_but_not_share_a_key(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    with RecordFile(path, ["a", "b"]) as file:
        file.add({"a": [], "b": [{"feature": "b"}]})
        assert file.records("a") == []
        assert [record["feature"] for record in file.records("b")] == ["b"]
    with pytest.raises(ValueError, match="one key"):
        RecordFile(path, ["a", "a"])


def test_reading_passes_over_a_torn_line_and_names_a_damaged_one(tmp_path: Path) -> None:
    path = tmp_path / LABELS
    line = {"feature": "f", "coherent": True, "label": "ईद", "keywords": ["ईद"], "category": None, "evidence": ["t"]}
    path.write_text(json.dumps(line) + "\n" + json.dumps(line)[:20])
    frame = read_labels(tmp_path)
    assert frame.height == 1
    assert frame.row(0, named=True)["keywords"] == ["ईद"]
    path.write_text("{\n" + json.dumps(line) + "\n")
    with pytest.raises(UserError, match="line 1"):
        read_labels(tmp_path)
    with pytest.raises(UserError, match="found no file"):
        read_predictions(tmp_path)
