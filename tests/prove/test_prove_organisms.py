"""The organisms of the battery are counted as they are, made once, and shown as they were counted."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from antar.core.errors import UserError
from antar.criteria import clopper_pearson
from antar.dictionaries.config import preset
from antar.features.config import ContrastConfig
from antar.models.config import ExtractConfig
from antar.organisms.config import TinyConfig, TruthRule
from antar.prove import Battery, OrganismBattery, prove, prove_organisms, write_page
from antar.prove import organisms as module
from antar.prove.organisms import (
    SEEDS,
    TUNING_SEEDS,
    count_organisms,
    count_scores,
    goals_of,
    make_pair,
    seed_block,
    study_of,
    total_of,
)
from antar.prove.page import headline, numbers_of, statistics_section

MICRO = OrganismBattery(
    variants=("anchored", "plain"),
    seeds=(4,),
    organism=TinyConfig(
        vocabulary=700, d_model=32, n_layers=2, d_ff=48, n_heads=2, n_kv_heads=1, base_steps=12, align_steps=4,
        batch=8, probes_per_concept=8, checks_per_concept=1, threads=1,
    ),
    extract=ExtractConfig(layers=(0, 1), max_tokens=32, dtype="float32", threads=1),
    dictionaries=preset("antar", sides=["delta"], n_latents=32, k=4, max_epochs=2, k_aux=8, threads=1),
    contrasts=ContrastConfig(
        shift=False, culture=False, interaction=False, facets=("concept",), nulls=(), facet_permutations=20
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("proof")
    return out, prove_organisms(MICRO, out)


def report_of(out: Path, name: str) -> dict[str, Any]:
    return json.loads((out / "organisms" / name / "truth_report.json").read_text())


# -- the recipe -----------------------------------------------------------------------------------------------------


def test_the_gate_and_the_seeds_are_fresh_and_fixed() -> None:
    full, quick = OrganismBattery(), OrganismBattery.quick()
    assert full.seeds == SEEDS == (106, 107, 108, 109, 110)
    assert not set(SEEDS) & set(TUNING_SEEDS)
    assert full.variants == ("anchored", "kl", "plain")
    assert (quick.variants, quick.seeds) == (("anchored",), (106,))
    rule = TruthRule()
    assert full.rule == rule
    assert (rule.energy_ratio, rule.d, rule.q, rule.purity) == (1.25, 0.8, 0.05, 0.8)


def test_the_study_is_the_demos_with_only_what_the_report_needs() -> None:
    from antar.study import load_study

    demo = load_study(Path(__file__).parents[2] / "studies" / "demo.yaml")
    ours = study_of(OrganismBattery(), "anchored", demo.seed)
    assert ours.models.organism == demo.models.organism
    assert ours.extract == demo.extract and ours.corpus == demo.corpus
    assert demo.truth is not None and ours.truth == demo.truth.model_copy(update={"outliers": 1})
    lean = {"sides": ["delta"], "seeds": 0, "baselines": []}
    assert ours.dictionaries == demo.dictionaries.model_copy(update=lean)
    without = {"shift": False, "culture": False, "interaction": False, "nulls": (), "within": None}
    assert ours.contrasts == demo.contrasts.model_copy(update=without)


# -- counting -------------------------------------------------------------------------------------------------------


def test_the_block_counts_what_the_truth_reports_say(made: tuple[Path, dict[str, Any]]) -> None:
    out, block = made
    assert list(block["variants"]) == ["anchored", "plain"]
    for variant, found in block["variants"].items():
        report = report_of(out, f"{variant}-seed4")
        listed = set(report["listed"])
        for rule, part in (("rule", report), ("energy_alone", report["no_dictionary"]),
                           ("features_alone", report["no_energy_gate"])):  # fmt: skip
            flagged = set(part["flagged"])
            expected = (len(flagged & listed), len(flagged - listed), part["flagged_on_null"],
                        part["flagged_same_checkpoint"])  # fmt: skip
            for counted in (found["by_seed"]["4"][rule], found["totals"][rule]):
                assert tuple(counted[n] for n in ("found", "false", "second_sham", "same_checkpoint")) == expected
        gates = report["thresholds"]["energy_of"]
        largest = max(energy / gates[name] for name, energy in report["energies"]["null"].items())
        assert found["energy_over_threshold"]["largest_on_second_sham"] == pytest.approx(largest, abs=1e-4)
    assert block["gate"]["energy_ratio"] == 1.25
    assert all(goal["met"] is None for goal in block["goals"])  # one seed judges nothing
    assert not any(goal["name"].startswith("plain") for goal in block["goals"])
    assert block["recipe"]["organism"]["align_lr"] == {"anchored": 3e-3, "plain": 5e-4}


SCORES = {
    "flagged": ["holi", "eid", "onam"],
    "flagged_on_null": 1,
    "flagged_same_checkpoint": 0,
    "flagged_on_null_list": ["eid"],
}


def test_counts_and_totals_by_hand() -> None:
    counted = count_scores(SCORES, ["holi", "diwali"], ["holi", "diwali", "eid", "onam", "mama"])
    assert (counted["found"], counted["false"]) == (1, 2)
    assert (counted["missed"], counted["falsely"]) == (["diwali"], ["eid", "onam"])
    assert (counted["changed"], counted["unchanged"]) == (2, 3)
    total = total_of([counted, counted])
    assert (total["found"], total["found_of"], total["false"], total["false_of"]) == (2, 4, 4, 6)
    assert (total["second_sham"], total["second_sham_of"], total["same_checkpoint"]) == (2, 10, 0)
    for name in ("found", "false", "second_sham", "same_checkpoint"):
        assert total[f"{name}_ci"] == list(clopper_pearson(total[name], total[f"{name}_of"]) or ())


def block_with(found: int, false: int, sham: int, same: int, seeds: tuple[int, ...] = SEEDS) -> dict[str, Any]:
    total = {"found": found, "false": false, "second_sham": sham, "same_checkpoint": same}
    of = {"found_of": 30, "false_of": 90, "second_sham_of": 120, "same_checkpoint_of": 120}
    return {"totals": {"rule": total | of}, "by_seed": {str(seed): {} for seed in seeds}}


@pytest.mark.parametrize(
    ("counts", "met"),
    [
        ((27, 1, 1, 0), [True, True, True, True]),
        ((26, 1, 1, 0), [False, True, True, True]),
        ((30, 2, 0, 0), [True, False, True, True]),
        ((30, 0, 2, 0), [True, True, False, True]),
        ((30, 0, 0, 1), [True, True, True, False]),
    ],
)
def test_goals_are_judged_at_their_bounds(counts: tuple[int, int, int, int], met: list[bool]) -> None:
    assert [goal["met"] for goal in goals_of("kl", block_with(*counts), OrganismBattery())] == met


def test_goals_are_judged_on_the_five_seeds_only_and_never_on_plain() -> None:
    full = OrganismBattery()
    assert {goal["met"] for goal in goals_of("kl", block_with(24, 0, 0, 0, SEEDS[:4]), full)} == {None}
    assert {goal["met"] for goal in goals_of("kl", block_with(30, 0, 0, 0, (1, 2, 3, 7, 11)), full)} == {None}
    assert goals_of("plain", block_with(30, 0, 0, 0), full) == []


@pytest.mark.parametrize(
    ("part", "changes"),
    [("rule", {"energy_ratio": 1.0}), ("rule", {"d": 0.5}), ("organism", {"base_steps": 5}),
     ("extract", {"layers": (1, 2)}), ("dictionaries", {"k": 8}), ("contrasts", {"facet_permutations": 20})],
)  # fmt: skip
def test_goals_are_not_judged_under_a_gate_or_recipe_that_was_not_promised(part: str, changes: Any) -> None:
    full = OrganismBattery()
    other = full.model_copy(update={part: getattr(full, part).model_copy(update=changes)})
    assert {goal["met"] for goal in goals_of("kl", block_with(30, 0, 0, 0), other)} == {None}
    same = OrganismBattery.model_validate(full.model_dump())
    labels = same.model_copy(update={"interpret": same.interpret.model_copy(update={"features_per_site": 3})})
    assert {goal["met"] for goal in goals_of("kl", block_with(30, 0, 0, 0), labels)} == {True}


# -- making ---------------------------------------------------------------------------------------------------------


def without_times(block: dict[str, Any]) -> dict[str, Any]:
    return {
        key: without_times(value) if isinstance(value, dict) else value
        for key, value in block.items()
        if key != "seconds"
    }


def test_a_rerun_makes_nothing_and_says_the_same(
    made: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, block = made
    with monkeypatch.context() as patch:
        patch.setattr(module, "run_study", lambda *_, **__: pytest.fail("a finished pair was made again"))
        again = prove_organisms(MICRO, out)
    assert without_times(again) == without_times(block)
    times = [found["seconds"] for found in block["variants"].values()]
    assert [found["seconds"] for found in again["variants"].values()] == times and min(times) > 0


def test_variants_of_one_seed_share_a_base_and_it_is_not_trained_twice(
    made: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out, _ = made
    weights = [out / "organisms" / f"{v}-seed4" / "organism" / "base" / "model.safetensors" for v in MICRO.variants]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    from antar.organisms import tiny

    trained = 0
    real = tiny.train_base

    def counting(*arguments: Any) -> Any:
        nonlocal trained
        trained += 1
        return real(*arguments)

    monkeypatch.setattr(tiny, "train_base", counting)
    monkeypatch.setattr(module, "LAST_STAGE", "organism")
    for variant in MICRO.variants:
        make_pair(MICRO, variant, 4, tmp_path)
    assert trained == 1
    assert (tmp_path / "organisms/plain-seed4/organism/base/model.safetensors").read_bytes() == weights[
        0
    ].read_bytes()


def test_a_pair_that_lost_its_report_is_counted_from_a_new_one(
    made: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    import shutil

    out, block = made
    shutil.copytree(out / "organisms", tmp_path / "organisms")
    folder = tmp_path / "organisms" / "anchored-seed4"
    (folder / "truth_report.json").unlink()
    make_pair(MICRO, "anchored", 4, tmp_path)
    assert without_times(seed_block(folder)) == without_times(block["variants"]["anchored"]["by_seed"]["4"])


def test_what_is_made_can_be_counted_without_making_and_a_gap_is_named(
    made: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, block = made
    monkeypatch.setattr(module, "make_pair", lambda *_: pytest.fail("counting made a pair"))
    assert count_organisms(MICRO, out) == block
    with pytest.raises(UserError, match=r"anchored-seed9: expected a finished pair with truth_report\.json"):
        count_organisms(MICRO.model_copy(update={"seeds": (4, 9)}), out)


# -- proof.json and the page ----------------------------------------------------------------------------------------

TINY = Battery(null_datasets=3, confounded_datasets=1, planted_datasets=2, permutations=20,
               sizes={"1000 a side": (60, 2), "200 a side": (60, 2), "40 a side": (30, 2)})  # fmt: skip


class Text(HTMLParser):
    """The text of a page, and its tags."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.text = ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not any(name.startswith("on") or name in ("src", "style") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_prove_puts_the_organisms_into_the_proof_and_the_page(
    made: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, block = made
    monkeypatch.setattr(Battery, "quick", classmethod(lambda _: TINY))
    monkeypatch.setattr(OrganismBattery, "quick", classmethod(lambda _: MICRO))
    proof = prove(True, out)
    assert json.loads((out / "proof.json").read_text(encoding="utf-8")) == proof
    assert without_times(proof["organisms"]["tiny"]) == without_times(block)
    page = Text((out / "index.html").read_text(encoding="utf-8"))
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    total = block["variants"]["plain"]["totals"]["energy_alone"]
    words = " ".join(page.text.split())
    assert f"plain: energy alone, no dictionary {total['found']} of 6" in words
    assert "null discovery rate" in words and "power d08" in words


HOSTILE = '<script>alert("x")</script>'


def test_the_page_escapes_and_shows_numbers_of_either_layout(tmp_path: Path) -> None:
    total = {"found": 29, "found_of": 30, "found_ci": [0.828, 0.999], "false": 0, "false_of": 90,
             "false_ci": [0.0, 0.04], "second_sham": 1, "second_sham_of": 120, "second_sham_ci": [0.0, 0.05],
             "same_checkpoint": 0, "same_checkpoint_of": 120, "same_checkpoint_ci": [0.0, 0.03]}  # fmt: skip
    proof: dict[str, Any] = {
        "null_discovery_rate": 0.0321, "null_discovery_rate_ci": [0.0214, 0.0459], "null_discovery_rate_n": 907,
        "promised": {"null_discovery_rate": 0.05},
        HOSTILE: {"power_d08": 0.9876, HOSTILE: {"value": 0.1234, "ci": [0.11, 0.13], "n": 8, "promised": 0.06}},
        "organisms": {"tiny": {
            "variants": {HOSTILE: {
                "totals": {"rule": total},
                "by_seed": {"101": {"rule": {"found": 5, "changed": 6, "missed": [HOSTILE]}}},
            }},
            "goals": [{"name": f"kl: {HOSTILE}", "promised": "at least 27", "found": 29, "of": 30, "seeds": 5,
                       "met": False}],
        }},
        "quick": False,
        "machine": {"cpu": HOSTILE},
    }  # fmt: skip
    write_page(proof, tmp_path)
    source = (tmp_path / "index.html").read_text(encoding="utf-8")
    page = Text(source)
    assert "<script" not in source and "script" not in page.tags
    assert page.text.count(HOSTILE) >= 5
    words = " ".join(page.text.split())
    for shown in ("0.0321", "[0.0214, 0.0459]", "907", "0.05", "0.988", "0.123", "[0.110, 0.130]", "0.06",
                  "29 of 30", "[0.828, 0.999]", "1 of 120"):  # fmt: skip
        assert shown in words, shown
    assert re.search(r"Content-Security-Policy\" content=\"default-src &#39;none&#39;", source)
    assert any("missed: kl" in line for line in headline(proof))


def test_every_number_of_the_statistics_is_in_a_table() -> None:
    block = {"a": 1.5, "a_ci": [1.0, 2.0], "a_n": 3, "words": "not a number", "list": [1, 2],
             "deep": {"er": {"b": None, "b_ci": None, "c": True}}}  # fmt: skip
    found = {one.name: one for one in numbers_of(block, {"c": 0.5})}
    assert set(found) == {"a", "deep / er / b", "deep / er / c"}
    assert (found["a"].interval, found["a"].n) == ([1.0, 2.0], 3)
    assert found["deep / er / c"].promised == 0.5
    section = statistics_section({"organisms": {"x": {"y": 1}}, "machine": {"cores": 2}, "seconds": 3.0})
    assert [one.kind for one in section.blocks] == ["paragraph", "paragraph"]
