"""A study whose shams antar makes: end to end, what they learn, what is fresh, what it costs, and mistakes."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import yaml

from antar.core.errors import UserError
from antar.core.sites import Site
from antar.models.pair import load_config, local_parameters
from antar.models.read import read_site
from antar.organisms.sham import make as making
from antar.pipeline import open_study, plan_study, run_study
from antar.report.shams import drift_limits, drift_line
from antar.run import load_run
from antar.stages.costs import estimate_costs
from antar.study import load_study, parse_study, study_yaml
from antar.templates import study_template
from micro import antar, checksums, run_until_killed
from sham_pair import MAKE, configs, sentences, write_pair, write_study
from walk import check_page


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shams")
    write_pair(folder, (0.01, 0.03, 0.06, 0.06))
    return folder


@pytest.fixture(scope="module")
def context(folder):
    """A study with two made shams that ran from corpus to report."""
    context = open_study(write_study(folder), folder / "runs")
    run_study(context)
    return context


def drift(run, side, rows, layer) -> float:
    """From the stored activations, which extraction wrote after the sham was made."""
    far = read_site(run, Site(side, layer)) - read_site(run, Site("base", layer))
    return float(np.sqrt(np.mean(np.sum(far[rows].astype(np.float64) ** 2, axis=1))))


def test_extracted_shams_drift_as_far_as_extracted_chat(context):
    texts = pl.read_parquet(context.folder / "corpus" / "texts.parquet")
    heldout = (texts["group"] == "control") & (texts["split"] == "heldout")
    for half, ratio in (("select", "ratio"), ("estimate", "ratio_elsewhere")):
        rows = np.flatnonzero((heldout & (texts["half"] == half)).to_numpy())
        assert len(rows) > 10
        for name in ("a", "b"):
            facts = json.loads((context.folder / f"shams/{name}/sham.json").read_text(encoding="utf-8"))
            for one in facts["layers"]:
                chat, sham = (drift(context.folder, side, rows, one["layer"]) for side in ("chat", f"sham:{name}"))
                # A probe of 60 texts or fewer, as here, is all of them when the half has no more.
                assert one[ratio] == pytest.approx(sham / chat, rel=1e-3 if len(rows) <= 30 else 0.1)
                if half == "select":
                    assert abs(sham / chat - 1) < (0.021 if len(rows) <= 30 else 0.1)


def test_shams_go_all_the_way(context):
    run = load_run(context.folder)
    assert {"delta:a.layer02", "delta:b.layer00"} <= {str(one) for one in run.dictionary_ids}
    assert {one.side for one in run.magnitudes} == {"delta", "delta:a", "delta:b"}
    assert [sham["sham"] for sham in run.made_shams] == ["a", "b"]
    text = (context.folder / "report" / "report.md").read_text(encoding="utf-8")
    for sham in run.made_shams:
        assert drift_line(sham) in text
    assert "Drift of the shams from base, beside chat" in text
    assert all(line in text for line in drift_limits(run))
    page = (context.folder / "report" / "index.html").read_text(encoding="utf-8")
    assert check_page(page, context.folder)[0] == []


def test_everything_is_fresh_afterwards_and_a_lost_file_is_found(context, capsys):
    run_study(context)
    assert capsys.readouterr().err.count(": fresh") == 8
    weights = context.folder / "shams" / "a" / "model.safetensors"
    before = weights.read_bytes()
    weights.unlink()
    plan = {one.stage: one.reasons for one in plan_study(context)}
    assert plan["sham"] == ["shams/a/model.safetensors: missing, made again"]
    run_study(context, until="sham")
    assert weights.read_bytes() == before
    assert [one.stage for one in plan_study(context) if not one.fresh] == []


def test_shams_learn_training_controls_and_never_what_is_compared(folder, tmp_path, monkeypatch):
    learnt: list[str] = []
    encoded = making._Maker._encoded

    def spy(self, tokenizer, texts):
        learnt.extend(texts)
        return encoded(self, tokenizer, texts)

    monkeypatch.setattr(making._Maker, "_encoded", spy)
    context = open_study(write_study(folder, {"a": {"make": MAKE | {"max_steps": 1}}}), tmp_path)
    run_study(context, until="sham")
    texts = context.texts()
    train = texts.filter((pl.col("group") == "control") & (pl.col("split") == "train"))
    assert set(learnt) == set(train["text"])
    heldout = set(texts.filter(pl.col("split") != "train")["document"])
    assert not heldout & set(train["document"])


def test_named_texts_without_those_of_the_corpus(folder, tmp_path, monkeypatch):
    learnt: list[str] = []
    encoded = making._Maker._encoded
    monkeypatch.setattr(
        making._Maker, "_encoded", lambda self, tok, texts: learnt.extend(texts) or encoded(self, tok, texts)
    )
    own = sentences(30, "asked for")
    (folder / "neutral.txt").write_text("\n".join([*own, *sentences(10), "  " + sentences(11)[10].upper()]), "utf-8")
    more = [{"text": text, "group": "control"} for text in sentences(40, "drew")]
    more += [{"text": f"Diwali number {i} came with lamps", "group": "cultural"} for i in range(5)]
    (folder / "more.jsonl").write_text("\n".join(map(json.dumps, more)), "utf-8")
    source = {"source": "files", "name": "more", "paths": ["more.jsonl"], "group_column": "group", "n": 20,
              "near_duplicates": False}  # fmt: skip
    make = MAKE | {"max_steps": 1, "texts": ["neutral.txt", source]}
    split = {"train": 0.4, "val": 0.1, "heldout": 0.5, "controls": "heldout"}
    study = write_study(folder, {"a": {"make": make}})
    raw = yaml.safe_load(study.read_text(encoding="utf-8"))
    raw["corpus"] |= {"split": split, "clean": {"near_duplicates": None}}
    study.write_text(yaml.safe_dump(raw), encoding="utf-8")
    context = open_study(study, tmp_path)
    run_study(context, until="sham")
    assert not set(learnt) & set(context.texts()["text"])
    assert set(learnt) & set(own) == set(own)
    assert len(set(learnt) - set(own)) == 20
    assert not any("Diwali" in text for text in learnt)
    # A changed file of texts makes the sham stale.
    (folder / "neutral.txt").write_text("\n".join(own), "utf-8")
    plan = {one.stage: one.reasons for one in plan_study(context)}
    assert plan["sham"] == ["shams/a: texts/neutral.txt/0/neutral.txt changed"]


def test_near_duplicates_of_the_corpus_are_not_learnt(tmp_path):
    from antar.corpora.config import CleanConfig, Files
    from antar.corpora.neutral import read_neutral
    from antar.corpora.records import Place

    held = "A man in a blue shirt stands on a ladder and cleans the window of the old shop."
    corpus = pl.DataFrame({"text_id": ["c:1"], "text": [held], "group": ["control"], "language": ["en"],
                           "source": ["c"], "document": ["c:1"]})  # fmt: skip
    near, far = held.replace("blue", "blues"), "Three children run along the beach with a kite in the evening."
    (tmp_path / "n.txt").write_text(f"{near}\n{far}\n", "utf-8")
    found = read_neutral([Files(paths=["n.txt"])], CleanConfig(), corpus, 0, Place(tmp_path))
    assert found.texts == [far]
    both = read_neutral([Files(paths=["n.txt"])], CleanConfig(near_duplicates=None), corpus, 0, Place(tmp_path))
    assert sorted(both.texts) == sorted([near, far])


def test_the_plan_prices_shams(folder, tmp_path):
    context = open_study(write_study(folder), tmp_path)
    costs = {one.what: one for one in estimate_costs(context)}
    assert costs["sham training tokens"].amount == f"at most {2 * 200 * 8 * 48:,}"
    n = local_parameters(configs({"base": folder / "base"})["base"])
    from safetensors import safe_open

    with safe_open(folder / "base" / "model.safetensors", "numpy") as handle:
        assert n == sum(handle.get_tensor(name).size for name in handle.keys())  # noqa: SIM118
    assert f"{n:,} weights" in costs["memory to make a sham"].basis
    assert costs["disk for shams"].amount == f"{n * 4 * 5 / 2**30:,.2f} GiB"
    assert [one.stage for one in plan_study(context)][:3] == ["corpus", "sham", "extract"]
    none = open_study(write_study(folder, {}), tmp_path)
    assert not any("sham" in one.what for one in estimate_costs(none))


def test_limits_name_layers_and_languages_that_drift_otherwise():
    def layer(number, ratio, factor, **languages):
        return {"layer": number, "ratio": ratio, "factor": factor, "equal": abs(ratio - 1) < 0.02,
                "ratio_by_language": languages}  # fmt: skip

    def limits(*layers):
        return drift_limits(
            SimpleNamespace(made_shams=[{"sham": "a", "steps": 12, "uneven_beyond": 1.25, "layers": layers}])
        )

    assert limits(layer(1, 1.01, 0.9, en=1.1, hi=0.9), layer(2, 0.99, 1.1, en=1.0, hi=1.0)) == []
    (uneven,) = limits(layer(1, 1.0, 0.9, en=0.44, hi=1.6), layer(2, 1.0, 1.0, en=0.83, hi=1.1))
    assert "(en 0.44 and 0.83; hi 1.60 and 1.10 times" in uneven
    (harder,) = limits(layer(1, 1.0, 0.9, en=1.0), layer(2, 1.2, 0.0, en=1.2))
    assert "1.20 times at layer 2" in harder and "harder null" in harder and "shallower" in harder
    (weaker,) = limits(layer(1, 0.9, 2.0, en=0.9))
    assert "weaker null" in weaker and "12 steps" in weaker
    (mixed,) = limits(layer(1, 0.8, 2.0, en=0.8), layer(2, 1.2, 0.0, en=1.2), layer(3, 1.0, 0.5, en=1.0))
    first, second = mixed.partition(": ")[2].split("; ")
    assert "0.80 times at layer 1" in first and "12 steps" in first and "weaker null" in first
    assert "1.20 times at layer 2" in second and "shallower layers" in second and "harder null" in second
    assert "shallower" not in first and "12 steps" not in second and "layer 3" not in mixed


# -- mistakes --------------------------------------------------------------------------------------------------------


def refused(folder, tmp_path, shams, stage="sham", **changes) -> str:
    with pytest.raises(UserError) as caught:
        run_study(open_study(write_study(folder, shams, **changes), tmp_path / "runs"), until=stage)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_mistakes_are_one_line(folder, tmp_path):
    assert "expected a study that names shams to make" in refused(folder, tmp_path, {})
    assert "made.make.speed: unknown key" in refused(folder, tmp_path, {"a": {"make": {"speed": 1}}})
    assert "unknown key" in refused(folder, tmp_path, {"a": {"make": {}, "path": "base"}})
    assert "given.path: missing" in refused(folder, tmp_path, {"a": {}})
    assert "cultural texts" in refused(
        folder, tmp_path, {"a": {"make": {"texts": [{"source": "dosa", "folder": "."}]}}}
    )
    assert "expected a file, found none" in refused(folder, tmp_path, {"a": {"make": {"texts": "no.txt"}}})
    assert "lower-case" in refused(folder, tmp_path, {"a-1": {"make": {}}})
    heldout = {"sources": [{"source": "files", "paths": ["texts.jsonl"], "group_column": "group"}]}
    line = refused(folder, tmp_path, {"a": {"make": {}}}, corpus=heldout)
    assert "controls is `heldout`" in line and "`texts:`" in line


def test_chat_that_is_base(folder, tmp_path):
    path = write_study(folder, {"a": {"make": MAKE}})
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    raw["models"]["chat"] = {"path": "base"}
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    with pytest.raises(UserError, match="a pair without a difference needs no sham"):
        run_study(open_study(path, tmp_path), until="sham")


def test_a_corpus_without_held_out_or_training_controls(folder, tmp_path):
    path = write_study(folder, {"a": {"make": MAKE}})
    context = open_study(path, tmp_path)
    run_study(context, until="corpus")
    texts = context.texts()

    def changed(frame) -> str:
        frame.write_parquet(context.folder / "corpus" / "texts.parquet")
        from antar.stages import sham

        with pytest.raises(UserError) as caught:
            sham.make(context)
        return str(caught.value)

    control = pl.col("group") == "control"
    of_train = pl.when(control & (pl.col("split") == "train")).then(pl.lit("val")).otherwise(pl.col("split"))
    assert "control texts of the training split" in changed(texts.with_columns(split=of_train))
    no_half = pl.when(control).then(pl.lit("select")).otherwise(pl.col("half"))
    assert "found none in `estimate`" in changed(texts.with_columns(half=no_half))


def test_a_stage_that_comes_before_is_needed(folder, tmp_path):
    context = open_study(write_study(folder), tmp_path)
    with pytest.raises(UserError, match="needs corpus first"):
        run_study(context, only="sham")
    run_study(context, only="corpus")
    with pytest.raises(UserError, match=r"extract: needs sham first \(shams/a: not made yet\)"):
        run_study(context, only="extract")


def test_the_resolved_study_parses_to_itself_and_the_template_names_shams(folder):
    study = load_study(write_study(folder, {"a": {"make": {"texts": "n.txt"}}, "g": {"path": "base"}}))
    assert parse_study(yaml.safe_load(study_yaml(study)), "resolved") == study
    assert list(study.models.made_shams) == ["a"] and list(study.models.given_shams) == ["g"]
    assert "make: {}" in study_template()


def test_given_and_made_shams_stand_beside_each_other(folder, tmp_path):
    shutil.copytree(folder / "chat", folder / "given", dirs_exist_ok=True)
    shams = {"a": {"make": MAKE | {"max_steps": 1}}, "g": {"path": "given"}}
    context = open_study(write_study(folder, shams), tmp_path)
    assert list(context.models()) == ["base", "chat", "sham:a", "sham:g"]
    run_study(context, until="extract")
    assert load_config(context.models()["sham:a"]).hidden_size == 32
    assert (context.folder / "activations" / "sham-g.layer02" / "manifest.json").is_file()


@pytest.mark.long
def test_a_killed_process_goes_on_to_the_same_files(folder, tmp_path):
    """`kill -9` once a checkpoint is there, then the same command: every file of the shams equals an uninterrupted
    run's."""
    # Small steps, so that the first sham takes long enough to be killed in its middle.
    slow = {"a": {"make": MAKE | {"lr": 1e-5, "max_steps": 60, "check_every": 2, "checkpoint_every": 2}}}
    study = write_study(folder, slow)
    whole = antar("run", study, "--until", "sham", "--runs", tmp_path / "whole", cwd=folder)
    assert whole.returncode == 0, whole.stderr
    checkpoint = tmp_path / "killed" / "pair" / "shams" / "a" / "training.safetensors"
    log = run_until_killed(study, checkpoint, "--until", "sham", "--runs", str(tmp_path / "killed"))
    assert checkpoint.exists(), log
    assert not checkpoint.with_name("manifest.json").exists(), "it was killed in its middle"
    again = antar("run", study, "--until", "sham", "--runs", tmp_path / "killed", cwd=folder)
    assert again.returncode == 0, again.stderr
    assert "starts anew" not in again.stderr
    found = checksums(tmp_path / "killed" / "pair")
    assert found == checksums(tmp_path / "whole" / "pair")
    assert "shams/a/model.safetensors" in found and "shams/a/training.safetensors" not in found
