"""What language models will cost: counted from the study file, and from the calls that a run has made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from antar.pipeline import open_study
from antar.stages.label_costs import label_costs

STUDY = Path(__file__).parents[2] / "studies/rq1.yaml"


@pytest.fixture
def served(tmp_path: Path) -> Path:
    text = STUDY.read_text(encoding="utf-8")
    text = text.replace("base_url: null", "base_url: http://127.0.0.1:9/v1, prices: {input: 1, output: 2}")
    path = tmp_path / "rq1.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def record(model: str, finished: float) -> dict[str, Any]:
    """A line of a log: a call of one second."""
    return {
        "key": str(finished), "model": model, "answer": {}, "score": None, "failed": None, "failed_by": None,
        "attempts": ["answered"], "usage": {"prompt_tokens": 1000, "completion_tokens": 100}, "seconds": 1.0,
        "started": finished - 1.0, "finished": float(finished),
    }  # fmt: skip


def test_without_an_endpoint_nothing_is_asked(tmp_path: Path) -> None:
    ((what, amount, basis),) = label_costs(open_study(STUDY, tmp_path))
    assert (what, amount) == ("LLM calls", "0 now; 8,000 with an endpoint")
    assert "Qwen1.5-32B-Chat and Qwen/Qwen3-30B-A3B" in basis


def test_each_role_is_counted_at_the_published_size(served: Path, tmp_path: Path) -> None:
    found = {what: (amount, basis) for what, amount, basis in label_costs(open_study(served, tmp_path / "runs"))}
    calls = {"label": "3,600", "validate": "4,400", "predict": "288,000", "saebench": "3,600"}
    for role, count in calls.items():
        amount, basis = found[f"LLM calls: {role}"]
        assert f"at most {count} calls" in amount
        assert "USD" in amount
        assert "not measured yet" in basis


def test_tokens_speed_and_money_come_from_calls_that_were_made(served: Path, tmp_path: Path) -> None:
    folder = tmp_path / "runs/rq1/interpret/calls"
    folder.mkdir(parents=True)
    records = [record("Qwen/Qwen1.5-32B-Chat", i) for i in range(11)]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "label.jsonl").write_text(lines + '{"torn', encoding="utf-8")
    what, amount, basis = label_costs(open_study(served, tmp_path / "runs"))[0]
    assert what == "LLM calls: label"
    # 3,600 calls at one a second, 1,000 tokens read and 100 written each, 1 and 2 USD a million.
    assert amount == "at most 3,600 calls, 4.0 M tokens, 1.0 h at 1 calls/s, 4.32 USD"
    assert "measured on 11 calls" in basis


def test_calls_of_another_model_measure_nothing(served: Path, tmp_path: Path) -> None:
    folder = tmp_path / "runs/rq1/interpret/calls"
    folder.mkdir(parents=True)
    (folder / "label.jsonl").write_text("".join(json.dumps(record("a/other", i)) + "\n" for i in range(5)), "utf-8")
    _, _, basis = label_costs(open_study(served, tmp_path / "runs"))[0]
    assert "not measured yet" in basis


def test_what_lies_between_two_runs_is_no_time(served: Path, tmp_path: Path) -> None:
    folder = tmp_path / "runs/rq1/interpret/calls"
    folder.mkdir(parents=True)
    records = [record("Qwen/Qwen1.5-32B-Chat", i) for i in (0, 0.5, 1, 40, 40.5, 41)]
    (folder / "label.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records), "utf-8")
    _, amount, _ = label_costs(open_study(served, tmp_path / "runs"))[0]
    # Six calls in twice two seconds.
    assert "40 min at 1.5 calls/s" in amount
