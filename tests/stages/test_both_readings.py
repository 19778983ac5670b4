"""A study that reads its texts bare and in the chat template, from corpus to report, on a tiny pair."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from transformers import AutoTokenizer

from antar.core.errors import UserError
from antar.core.shards import read_rows
from antar.core.sites import Site
from antar.models import read_site
from antar.pipeline import open_study, plan_study, run_study
from antar.run import load_run
from antar.stages.costs import estimate_costs
from antar.stages.sham import _neutral_texts
from antar.study import parse_study
from antar.templates import study_template
from sham_pair import write_pair, write_study
from walk import check_page

TEMPLATE = "{% for m in messages %}be kind\nuser: {{ m['content'] }}\nanswer:{% endfor %}<eos>"
CONTRASTS = {"permutations": 30, "facet_permutations": 20, "facets": ["reading"], "within": "reading"}
EXTRACT = {"layers": [0, 2], "max_tokens": 64, "dtype": "float32", "threads": 1, "texts_per_shard": 100}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("both")
    sides = write_pair(folder)
    tokenizer = AutoTokenizer.from_pretrained(sides["chat"])
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(sides["chat"])
    return folder


def study_of(folder, name, chat_template):
    extract = EXTRACT | {"chat_template": chat_template}
    contrasts = CONTRASTS if name == "both" else {"permutations": 30}
    return open_study(write_study(folder, {}, study=name, extract=extract, contrasts=contrasts), folder / "runs")


@pytest.fixture(scope="module")
def context(folder):
    context = study_of(folder, "both", "both")
    run_study(context)
    return context


@pytest.mark.parametrize(("name", "chat_template", "reading"), [("off", False, "bare"), ("on", True, "chat")])
def test_each_reading_has_the_vectors_of_a_study_of_its_own(folder, context, name, chat_template, reading):
    alone = study_of(folder, name, chat_template)
    run_study(alone, until="extract")
    texts, own = context.texts(), alone.texts()
    rows = np.flatnonzero((texts["reading"] == reading).to_numpy())
    assert texts[rows]["reading_of"].to_list() == own["text_id"].to_list()
    assert (
        texts[rows]
        .select("document", "split", "half", "group")
        .equals(own.select("document", "split", "half", "group"))
    )
    for side in ("base", "chat"):
        site = Site(side, 2)
        found, expected = read_site(context.folder, site)[rows], read_site(alone.folder, site)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    ids = read_rows(context.folder / "activations" / "tokens", ["ids"])["ids"]
    assert len(ids) > 2 * len(read_rows(alone.folder / "activations" / "tokens", ["ids"])["ids"]) * 0.6


def test_a_document_is_in_one_split_and_half_and_the_run_is_fresh(context):
    texts = context.texts()
    assert texts.height == 2 * texts["reading_of"].n_unique()
    for name in ("split", "half"):
        assert texts.group_by("document").agg(pl.col(name).n_unique())[name].max() == 1
    assert all(plan.fresh for plan in plan_study(context))
    facts = context.manifest("corpus").facts
    assert facts["readings"] == ["bare", "chat"] and facts["n_texts"] == texts.height


def test_a_corpus_that_was_read_once_is_stale(folder, context):
    changed = study_of(folder, "both", True)
    corpus = next(plan for plan in plan_study(changed) if plan.stage == "corpus")
    assert not corpus.fresh and any("readings" in reason for reason in corpus.reasons)


def test_examples_and_predictions_hold_a_text_once(context):
    run = load_run(context.folder)
    text_of = dict(context.texts().select("text_id", "reading_of").iter_rows())
    named = run.examples.with_columns(text=pl.col("text_id").replace_strict(text_of))
    assert named.height > 0 and not named.select("feature", "pool", "text").is_duplicated().any()
    assert set(context.texts()["reading"].gather(run.examples["row"])) == {"bare", "chat"}
    asked = run.predictions
    if asked.height:
        named = asked.with_columns(text=pl.col("text_id").replace_strict(text_of))
        keys = ["feature", "text"] + (["wrong_label"] if "wrong_label" in asked.columns else [])
        assert not named.select(keys).is_duplicated().any()


def test_contrasts_have_the_facet_and_the_report_says_both(context):
    run = load_run(context.folder)
    facet = run.contrasts.filter(pl.col("contrast") == "facet")
    assert set(facet["facet"]) == {"reading"} and set(facet["value"]) == {"bare", "chat"}
    assert run.contrasts.filter(pl.col("contrast") == "culture")["d_within"].drop_nulls().len() > 0
    page = (context.folder / "report" / "index.html").read_text(encoding="utf-8")
    assert "Every text was read twice by every checkpoint" in page and "reading_of" not in page
    text = (context.folder / "report" / "report.md").read_text(encoding="utf-8")
    assert f"{context.texts().height // 2} texts from" in text and "each read twice" in text
    assert check_page(page, context.folder)[0] == []
    assert json.loads((context.folder / "criteria.json").read_bytes())


def test_a_sham_learns_each_text_once(context):
    class Made:
        texts = None

    learnt = _neutral_texts(context, "a", Made(), context.texts())  # pyright: ignore[reportArgumentType]
    assert learnt and len(set(learnt)) == len(learnt)


def test_the_plan_counts_both(folder, context, tmp_path):
    def costs(one):
        return {cost.what: cost for cost in estimate_costs(one)}

    both = costs(context)
    assert both["chat template"].amount == "both" and both["texts"].amount == f"{context.texts().height:,}"
    assert "counted twice" in both["texts"].basis
    # The same folder, before the corpus is made anew.
    assert costs(study_of(folder, "both", True))["texts"].amount == f"{context.texts().height // 2:,}"
    raw = {"study": "s", "models": {"base": {"path": "x"}, "chat": {"path": "x"}},
           "corpus": {"sources": [{"source": "files", "paths": ["a.jsonl"], "n": 30}]}}  # fmt: skip
    for value, amount in (("both", "60"), (True, "30")):
        study = parse_study(raw | {"extract": {"chat_template": value}}, "s")
        assert costs(type(context)(study, tmp_path, tmp_path, context.engine))["texts"].amount == amount


def test_other_words_are_refused_and_the_template_of_a_study_names_both():
    raw = {
        "study": "s",
        "models": {"base": {"path": "x"}, "chat": {"path": "x"}},
        "corpus": {"sources": [{"source": "files", "paths": ["a.jsonl"]}]},
        "extract": {"chat_template": "twice"},
    }
    with pytest.raises(UserError, match=r"extract\.chat_template.*'both', found 'twice'"):
        parse_study(raw, "s")
    assert "`both` reads every text twice" in " ".join(study_template().replace("#", "").split())
