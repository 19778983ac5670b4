"""`features/crosscheck.json` is written where there is a cross-check, and never left from an earlier study."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import yaml

from antar.core.sites import DictionaryId
from antar.core.sparse import SparseCodes
from antar.engines import InlineEngine
from antar.features.contrasts import measure_contrasts
from antar.stages.context import Context
from antar.stages.costs import estimate_costs
from antar.stages.crosscheck import write_crosscheck
from antar.study import parse_study
from antar.templates import study_template

STUDY = """\
study: checked
models: {base: {path: nowhere}, chat: {path: nowhere}}
corpus:
  sources:
    - {source: files, name: own, paths: [none.jsonl], group: cultural, n: 30}
    - {source: files, name: control, paths: [none.csv], n: 30}
    - {source: dosa, folder: dosa, split: crosscheck, masked: true, n: 10}
contrasts: {shift: false, interaction: false, permutations: 40}
crosscheck: {draws: 20, replicates: 100, bins: 2}
"""
ONE = DictionaryId("delta", 0)


def context_in(folder: Path, **changes: object) -> Context:
    return Context(parse_study(yaml.safe_load(STUDY) | changes, "study"), folder, folder, InlineEngine())


def test_the_file_is_written_and_taken_away(tmp_path):
    n, rng = 240, np.random.default_rng(0)
    kind = np.arange(n) % 3  # cultural, control, cross-check
    texts = pl.DataFrame({
        "text_id": [f"t{i}" for i in range(n)], "text": ["a b c"] * n, "source": ["s"] * n, "language": ["en"] * n,
        "group": np.where(kind == 1, "control", "cultural"), "document": [f"d{i}" for i in range(n)],
        "split": np.where(kind == 2, "crosscheck", "heldout"),
        "half": [("select", "estimate")[i // 3 % 2] for i in range(n)],
    })  # fmt: skip
    fires = (kind != 1)[:, None] & (np.arange(2) == 0)
    values = (np.where(fires, 1.0, 0.01) + rng.random((n, 2)) / 10).astype(np.float32)
    codes = {(ONE, "delta"): SparseCodes(np.tile(np.arange(2, dtype=np.int32), (n, 1)), values, 4)}
    context, live = context_in(tmp_path), {ONE: np.array([True, True, False, False])}
    contrasts = measure_contrasts(texts, codes, context.study.contrasts, 1)
    (path,) = write_crosscheck(context, texts, codes, contrasts, live)
    found = json.loads(path.read_text(encoding="utf-8"))
    assert path == tmp_path / "features" / "crosscheck.json"
    assert found["sets"][0]["auroc"] == 1.0 and found["features"][0]["feature"] == "delta.layer00/0"
    again = path.read_bytes()
    write_crosscheck(context, texts, codes, contrasts, live)
    assert path.read_bytes() == again
    without = texts.with_columns(split=pl.lit("heldout"))
    assert write_crosscheck(context, without, codes, contrasts, live) == [] and not path.exists()


def test_the_plan_counts_masked_copies_and_names_the_chat_template(tmp_path):
    costs = {cost.what: cost for cost in estimate_costs(context_in(tmp_path))}
    assert costs["texts"].amount == "80"  # 30 + 30 + twice 10
    assert costs["chat template"].amount == "off"
    on = {cost.what: cost for cost in estimate_costs(context_in(tmp_path, extract={"chat_template": True}))}
    assert on["chat template"].amount == "on"


def test_the_template_of_a_study_lists_the_options():
    text = study_template()
    assert "# crosscheck:" in text and "chat_template: false" in text
