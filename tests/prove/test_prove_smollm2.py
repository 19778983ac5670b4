"""Organism (c) in the proof: read from a finished run and shown, or said how there comes to be one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from antar.core.errors import UserError
from antar.organisms.smollm2 import SmolConfig, learning_order
from antar.prove import Battery, prove, run_battery
from antar.prove.smollm2 import HOW, smollm2_block
from fake_run import write_fake_run

RECIPE = SmolConfig(shams=("a",), steps=3, batch=2, seed=9)
SMALL = Battery(null_datasets=3, confounded_datasets=1, planted_datasets=1, permutations=20,
                sizes={"1000 a side": (60, 2), "200 a side": (60, 2), "40 a side": (30, 2)})  # fmt: skip


def training(run: Path, group: str) -> pl.DataFrame:
    texts = pl.read_parquet(run / "corpus/texts.parquet")
    return texts.filter((pl.col("group") == group) & (pl.col("split") == "train"))


def side_facts(run: Path, group: str) -> dict[str, Any]:
    available = training(run, group).height
    return {"texts": group, "texts_available": available, "texts_learnt": min(available, 6), "steps": 3, "tokens": 99,
            "first_loss": 4.75, "last_losses": 4.25, "weight_drift": {"all": 0.1, "blocks": []},
            "activation_drift": {"control": {"layer10": 0.0625}}}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder as studies/smollm2.yaml leaves it, with made-up numbers."""
    folder = write_fake_run(tmp_path / "smol", truth=False)
    study = yaml.safe_load((folder / "study.yaml").read_text(encoding="utf-8"))
    study["models"]["organism"] = RECIPE.model_dump(mode="json")
    (folder / "study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    (folder / "organism").mkdir(exist_ok=True)
    sides = {"base": {"source": "x"}, "chat": side_facts(folder, "cultural"), "sham-a": side_facts(folder, "control")}
    facts = {"organism": "smollm2", "recipe": RECIPE.model_dump(mode="json"), "sides": sides}
    (folder / "organism/organism.json").write_text(json.dumps(facts), encoding="utf-8")
    return folder


def test_without_a_run_the_block_says_how_to_make_one() -> None:
    assert smollm2_block(None) == {"run": False, "how": HOW}


def test_the_block_holds_the_criteria_and_what_each_side_was_tuned_on(run: Path) -> None:
    block = smollm2_block(run)
    criteria = json.loads((run / "criteria.json").read_text(encoding="utf-8"))["criteria"]
    assert [(one["name"], one["value"], one["ci"], one["verdict"], one["null"]) for one in block["criteria"]] == [
        (one["name"], one["value"], one["ci"], one["verdict"], one["null"]) for one in criteria
    ]
    assert len(criteria) == 7
    assert block["beside_the_shams"] == criteria[3]["beside"] and criteria[3]["name"] == "effect"
    assert list(block["planted"]) == ["chat", "sham-a"]
    for side, group in (("chat", "cultural"), ("sham-a", "control")):
        texts, learnt = training(run, group), block["planted"][side]["learnt"]
        taken = {texts["text_id"][int(row)] for row in learning_order(RECIPE, texts.height, side)}
        assert set(learnt["text_ids"]) == taken and len(learnt["text_ids"]) == len(taken) == learnt["texts"]
        assert sum(learnt["by_source_and_language"].values()) == learnt["texts"]
        assert all(source.startswith(texts["source"][0]) for source in learnt["by_source_and_language"])


@pytest.mark.parametrize("quick", [True, False])
def test_it_stands_in_the_proof_and_on_the_page(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: bool
) -> None:
    monkeypatch.setattr("antar.prove.run_battery", lambda _: run_battery(SMALL))
    given = None if quick else run
    proof = prove(quick, tmp_path / "out", organisms=False, smollm2=given)
    assert json.loads((tmp_path / "out/proof.json").read_text(encoding="utf-8")) == proof
    assert list(proof["organisms"]) == ["vectors", "smollm2"]
    vectors = proof["organisms"]["vectors"]
    assert vectors["design"] == proof["design"]
    assert {"null_discovery_rate", "fdr", "coverage", "power_d08"} <= set(vectors["numbers"]) <= set(proof)
    words = " ".join((tmp_path / "out/index.html").read_text(encoding="utf-8").split())
    assert "The organism vectors: synthetic activations" in words
    if quick:
        assert HOW in words
    else:
        assert "What effect found, in words." in words and "0.0625" in words and "sham-a" in words


# -- mistakes -------------------------------------------------------------------------------------------------------


def test_a_wrong_folder_is_said_before_anything_is_made(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("run_battery", "prove_organisms"):
        monkeypatch.setattr(f"antar.prove.{name}", lambda *_: pytest.fail("the battery ran"))
    with pytest.raises(UserError, match="expected a run folder, found nothing"):
        prove(False, tmp_path / "out", smollm2=tmp_path / "none")
    tiny = write_fake_run(tmp_path / "tiny")
    with pytest.raises(UserError, match=r"expected a run of the organism smollm2, found tiny .*antar run studies"):
        prove(False, tmp_path / "out", smollm2=tiny)
    (run / "organism/organism.json").unlink()
    with pytest.raises(UserError, match=r"organism\.json: expected what the organism was made of"):
        prove(False, tmp_path / "out", smollm2=run)


def test_a_run_that_was_not_measured_and_one_of_another_corpus_are_user_errors(run: Path) -> None:
    texts = pl.read_parquet(run / "corpus/texts.parquet")
    texts.filter(pl.col("text_id") != training(run, "control")["text_id"][0]).write_parquet(
        run / "corpus/texts.parquet"
    )
    with pytest.raises(UserError, match=r"control training texts that sham-a was tuned on, found .*run the study"):
        smollm2_block(run)
    (run / "criteria.json").unlink()
    with pytest.raises(UserError, match=r"criteria\.json: not made yet; `antar measure"):
        smollm2_block(run)
