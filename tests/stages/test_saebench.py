"""SAEBench's evaluations around SAEBench: which are possible, what a run folder keeps, what becomes of failures.

SAEBench itself is a stand-in here; tests/interop runs the real one (`make test-interop`).
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass, field

import pytest
import yaml

from antar import tables_saebench
from antar.core.errors import UserError
from antar.core.manifest import read_manifest
from antar.criteria.benchmarks import ADVICE
from antar.pipeline import open_study, plan_study, run_study
from antar.report.saebench import saebench_section
from antar.run import load_run
from antar.stages.saebench import run_saebench
from antar.stages.saebench_environment import Environment, Refusal, make_environment, open_environment
from antar.stages.saebench_jobs import META, NEVER, PROBES, Wanted, choose, numbers_of
from antar.stages.saebench_results import current_benchmarks
from micro import MICRO, antar

VERSIONS = {"sae-bench": "0.6.0", "sae-probes": "0.4.2"}


@dataclass(frozen=True)
class StandIn(Environment):
    """Answers as SAEBench does; `answers`: (evaluation, dictionary) → an accuracy, or an error to raise."""

    answers: dict = field(default_factory=dict)
    jobs: list = field(default_factory=list)

    def run(self, job, work, log, online):
        self.jobs.append(job)
        answer = self.answers.get((job["evaluation"], job["dictionary"]), 0.75)
        if isinstance(answer, BaseException):
            raise answer
        if job["evaluation"] == META:
            metrics = {"meta_structure": {"decoder_fraction_variance_explained": answer}}
        else:
            metrics = {"sae": {"sae_top_1_test_accuracy": answer}, "llm": {"llm_test_accuracy": 0.9}}
        result = {"eval_result_metrics": metrics, "eval_result_details": [{}, {}]}
        (work / "result.json").write_text(json.dumps(result), encoding="utf-8")
        return 1.5


def stand_in(folder, **answers):
    return StandIn(folder, VERSIONS, **answers)


def write_study(folder):
    study = yaml.safe_load(MICRO)
    study["models"]["organism"]["shams"] = ["a"]
    study["extract"] |= {"layers": [0], "pooling": "none"}
    study["contrasts"] = {"facets": [], "permutations": 20}
    study["dictionaries"] |= {"sides": ["base", "delta", "joint"], "baselines": ["random"], "seeds": 0}
    study["dictionaries"]["kinds"] = ["topk", "crosscoder"]
    study.pop("truth")
    path = folder / "micro.yaml"
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A token-level run with a crosscoder, a joint dictionary, baselines and a sham."""
    folder = tmp_path_factory.mktemp("saebench")
    run_study(open_study(write_study(folder), folder / "runs"))
    return folder


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "study")


def reasons_of(missing, evaluation):
    return {name: one.reason for one in missing if one.evaluation == evaluation for name in one.dictionaries}


def test_an_evaluation_is_made_where_it_is_possible_and_else_says_why_not(made):
    jobs, missing = choose(load_run(made / "runs/micro"), Wanted())
    chosen = {(job.evaluation, str(job.dictionary)) for job in jobs}
    probed = {name for evaluation, name in chosen if evaluation == PROBES}
    assert probed == {"base.layer00", "base.layer00.random"}
    decoders = {name for evaluation, name in chosen if evaluation == META}
    assert decoders == probed | {"delta.layer00", "delta.layer00.random", "delta:a.layer00", "joint.layer00"}
    why = reasons_of(missing, PROBES)
    assert "no hook of one model gives" in why["delta.layer00"] and why["delta.layer00"] == why["delta:a.layer00"]
    assert "rows of both checkpoints" in why["joint.layer00"]
    assert why["joint.layer00.crosscoder"] == "SAELens has no format for a crosscoder"
    assert "--online fetches it" in reasons_of(missing, "core")["base.layer00"]
    assert "eight data sets are on the hub" in reasons_of(missing, "sparse_probing")["base.layer00"]
    for evaluation, reason in NEVER.items():
        assert set(reasons_of(missing, evaluation).values()) == {reason}
    assert "2605.18229" in NEVER["tpp"] and "2605.18229" in NEVER["scr"]


def test_data_at_hand_makes_more_possible(made, tmp_path):
    run = load_run(made / "runs/micro")
    jobs, _ = choose(run, Wanted(core_texts=tmp_path))
    assert {str(job.dictionary) for job in jobs if job.evaluation == "core"} == {
        "base.layer00",
        "base.layer00.random",
    }
    jobs, _ = choose(run, Wanted(online=True, only=("sparse_probing",), dictionaries=("base.layer00",)))
    assert [job.evaluation for job in jobs] == ["sparse_probing"]
    assert jobs[0].model == run.folder / "organism/base"


def test_text_vectors_are_not_given_single_tokens(finished):
    jobs, missing = choose(load_run(finished), Wanted())
    assert {job.evaluation for job in jobs} == {META}
    assert "trained on text vectors (extract.pooling: mean)" in reasons_of(missing, PROBES)["base.layer00"]


def test_results_are_kept_as_they_are_and_go_beside_criterion_3(folder, capsys):
    run_folder, before = folder / "runs/micro", load_run(folder / "runs/micro").criteria
    bench = stand_in(folder, answers={(META, "delta:a.layer00"): Refusal("it has no such thing")})
    found = run_saebench(run_folder, bench, Wanted(datasets=("119_us_state_TX",)))
    kept = run_folder / "saebench/base.layer00" / f"{PROBES}.json"
    assert json.loads(kept.read_bytes())["eval_result_metrics"]["sae"] == {"sae_top_1_test_accuracy": 0.75}
    facts = read_manifest(kept.with_name(f"{PROBES}.manifest.json")).facts
    assert facts["versions"] == VERSIONS and facts["accuracy of 1 latent"] == 0.75 and facts["seconds"] == 1.5
    job = next(job for job in bench.jobs if job["evaluation"] == PROBES)
    assert job["settings"] == {"dataset_names": ["119_us_state_TX"]}
    assert reasons_of(found.not_run, META)["delta:a.layer00"] == "it has no such thing"
    assert [row.null for row in found.rows if row.dictionary == "base.layer00.random"] == [True, True]

    study = open_study(folder / "micro.yaml", folder / "runs")
    assert {plan.stage for plan in plan_study(study) if not plan.fresh} == {"measure", "report"}
    run_study(study)
    run = load_run(run_folder)
    assert run.criteria["criteria"] == before["criteria"] and run.criteria["headline"] == before["headline"]
    assert before["saebench"] is None and run.benchmarks == found
    page = (run_folder / "report/index.html").read_text(encoding="utf-8")
    assert "2605.18229" in page and "accuracy of 1 latent" in page and "0.750" in page
    capsys.readouterr()
    tables_saebench.show_benchmarks(run_folder)
    told = capsys.readouterr().out
    assert "0.750" in told and ADVICE.split(";")[0][:60] in told and "it has no such thing" in told
    tables = [block for block in saebench_section(run).blocks if hasattr(block, "rows")]
    assert tables[0].rows[0].cells == ["0.750"] and tables[0].rows[1].null


def test_what_is_fresh_is_not_run_again_and_damage_is(folder):
    run_folder, wanted = folder / "runs/micro", Wanted(only=(META,))
    first, again = stand_in(folder), stand_in(folder)
    run_saebench(run_folder, first, wanted)
    run_saebench(run_folder, again, wanted)
    assert len(first.jobs) == 6 and not again.jobs and not (run_folder / "saebench/work").exists()
    (run_folder / "saebench/base.layer00/meta_structure.json").write_text("{")
    run_saebench(run_folder, again, wanted)
    assert [job["dictionary"] for job in again.jobs] == ["base.layer00"]
    newer = StandIn(folder, VERSIONS | {"sae-probes": "0.5.0"})
    found = run_saebench(run_folder, newer, Wanted(only=(META,), dictionaries=("base.layer00",)))
    assert [row.dictionary for row in found.rows] == ["base.layer00"]  # the others are by other versions


def test_an_interrupted_command_goes_on(folder):
    run_folder, wanted = folder / "runs/micro", Wanted(only=(META,))
    with pytest.raises(KeyboardInterrupt):
        run_saebench(run_folder, stand_in(folder, answers={(META, "delta.layer00"): KeyboardInterrupt()}), wanted)
    assert not (run_folder / "saebench/results.json").exists()
    rest = stand_in(folder)
    assert len(run_saebench(run_folder, rest, wanted).rows) == 6
    assert "base.layer00" not in {job["dictionary"] for job in rest.jobs}


def test_numbers_of_another_version_of_a_dictionary_are_dropped(folder, capsys):
    run_folder = folder / "runs/micro"
    run_saebench(run_folder, stand_in(folder), Wanted(only=(META,)))
    path = run_folder / "saebench/results.json"
    told = json.loads(path.read_bytes())
    told["of"]["base.layer00"] = "0" * 64
    path.write_text(json.dumps(told))
    rows = current_benchmarks(load_run(run_folder)).rows
    assert "base.layer00" not in {row.dictionary for row in rows} and len(rows) == 5
    assert "other versions of base.layer00" in capsys.readouterr().err
    path.write_text(path.read_text()[:-20])
    with pytest.raises(UserError, match="found it damaged; run that again"):
        current_benchmarks(load_run(run_folder))


def test_a_number_that_is_not_there_is_not_invented():
    nan = {"meta_structure": {"decoder_fraction_variance_explained": float("nan")}}
    for result in ({}, {"eval_result_metrics": {"meta_structure": []}}, {"eval_result_metrics": nan}):
        assert numbers_of(META, result) == {"decoder variance that a meta-SAE explains": None}


def test_a_result_that_cannot_be_read_is_a_line_and_the_others_go_on(folder):
    class Torn(StandIn):
        def run(self, job, work, log, online):
            seconds = super().run(job, work, log, online)
            if job["dictionary"] == "delta.layer00":
                (work / "result.json").write_text("{")
            return seconds

    asked = Wanted(only=(META,), dictionaries=("base.layer00", "delta.layer00"))
    found = run_saebench(folder / "runs/micro", Torn(folder, VERSIONS), asked)
    assert [row.dictionary for row in found.rows] == ["base.layer00"]
    assert "left no result that can be read" in reasons_of(found.not_run, META)["delta.layer00"]
    assert not list((folder / "runs/micro/saebench/delta.layer00").glob("*.json"))


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"only": ("tpp",)}, "--only: tpp is not run: the published audit"),
        ({"only": ("everything",)}, "--only: expected one of meta_structure, "),
        ({"dictionaries": ("base.layer09",)}, "--dictionary: expected one of base.layer00, "),
        ({"core_texts": "absent"}, "--core-texts: expected a folder of texts"),
    ],
)
def test_what_is_asked_wrongly_is_one_line(made, tmp_path, wanted, told):
    if "core_texts" in wanted:
        wanted = {"core_texts": tmp_path / "absent"}
    with pytest.raises(UserError, match=told):
        run_saebench(made / "runs/micro", stand_in(tmp_path), Wanted(**wanted))


def test_without_its_environment_a_line_says_how_to_make_it(made, tmp_path):
    done = antar("saebench", made / "runs/micro", "--environment", tmp_path / "none", cwd=tmp_path)
    assert (
        done.returncode == 2
        and "`antar saebench --setup` makes it" in done.stderr
        and "\n" not in done.stderr.strip()
    )
    done = antar("saebench", cwd=tmp_path)
    assert done.returncode == 2 and "expected a run folder (or --setup" in done.stderr
    done = antar("saebench", made / "runs/micro", "--setup", "--environment", made, cwd=tmp_path)
    assert done.returncode == 2 and "expected a new or empty folder" in done.stderr


def test_an_environment_that_is_half_made_is_none(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").symlink_to(sys.executable)
    with pytest.raises(UserError, match="found none that is whole"):
        open_environment(tmp_path)
    (tmp_path / "antar-saebench.json").write_text("{}")
    assert open_environment(tmp_path).folder == tmp_path
    with pytest.raises(UserError, match="expected a new or empty folder"):
        make_environment(tmp_path)


def test_a_job_that_fails_tells_its_last_line_and_where_the_rest_is(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").symlink_to(sys.executable)
    job = {
        "evaluation": META,
        "dictionary": "base.layer00",
        "out": "x",
        "threads": None,
        "settings": {},
        "device": "cpu",
    }
    (tmp_path / "work").mkdir()
    with pytest.raises(UserError, match=r"failed: ModuleNotFoundError: No module named 'sae_bench.*a\.log\)"):
        Environment(tmp_path, {}).run(job, tmp_path / "work", tmp_path / "logs/a.log", online=False)


def test_a_data_set_that_is_not_there_is_refused_before_anything_is_run(folder, tmp_path):
    python = tmp_path / "sb/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho a warning of some package\necho \'["42_temp_sense", "126_art_type_book"]\'\n')
    python.chmod(0o755)
    bench = stand_in(tmp_path / "sb")
    with pytest.raises(UserError, match=r"--dataset: expected one of the 2 of sae-probes .*42_temp.*, found nope"):
        run_saebench(folder / "runs/micro", bench, Wanted(datasets=("42_temp_sense", "nope")))
    assert not bench.jobs and not (folder / "runs/micro/saebench").exists()
    run_saebench(folder / "runs/micro", bench, Wanted(datasets=("42_temp_sense",), only=(PROBES,)))
    assert bench.jobs, "one that is there is run"
    python.write_text("#!/bin/sh\nexit 1\n")
    assert bench.data_sets() is None and stand_in(tmp_path / "none").data_sets() is None
