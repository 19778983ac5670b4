"""A token-level study with every text read twice, whole through the command line, and on Ray as inline."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from transformers import AutoTokenizer

import antar as package

sys.path.insert(0, str(Path(__file__).parent.parent))
from micro import antar, checksums
from sham_pair import write_pair, write_study

pytestmark = pytest.mark.long

TEMPLATE = "{% for m in messages %}be kind\nuser: {{ m['content'] }}\nanswer:{% endfor %}<eos>"
EXTRACT = {
    "layers": [0, 2], "max_tokens": 64, "dtype": "float32", "threads": 1, "texts_per_shard": 100,
    "pooling": "none", "chat_template": "both", "outliers": True,
}  # fmt: skip
CONTRASTS = {"permutations": 30, "facet_permutations": 20, "facets": ["reading"], "within": "reading"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens")
    tokenizer = AutoTokenizer.from_pretrained(write_pair(folder)["chat"])
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder / "chat")
    write_study(folder, {}, extract=EXTRACT, contrasts=CONTRASTS)
    return folder


@pytest.fixture(scope="module")
def inline(folder):
    return made(folder, "runs")


def made(folder: Path, runs: str, *how: str) -> Path:
    done = antar("run", "pair.yaml", "--runs", runs, *how, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / runs / "pair"


def test_it_ends_in_a_report_and_a_rerun_finds_all_fresh(inline):
    run = package.load_run(inline)
    assert run.texts["reading"].value_counts().sort("reading")["count"].n_unique() == 1, (
        "each text bare and in template"
    )
    site = run.tokens("delta", 2)
    assert site.n_texts == run.texts.height and site.n_rows > 3 * site.n_texts
    assert set(run.manifest("activations/tokens").facts["outlier_thresholds"]) == {"0", "2"}
    assert len(run.criteria["criteria"]) == 7
    assert run.contrasts["contrast"].n_unique() >= 3
    page = (inline / "report" / "index.html").read_text(encoding="utf-8")
    assert "chat template" in page
    before = checksums(inline)
    again = antar("run", "pair.yaml", cwd=inline.parent.parent)
    assert again.returncode == 0 and again.stderr.count("fresh") >= 5, again.stderr
    assert checksums(inline) == before


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed: pip install 'antar[ray]'")
def test_on_ray_it_is_the_same_to_the_bit(inline, folder):
    assert checksums(made(folder, "on-ray", "--engine", "ray")) == checksums(inline)
