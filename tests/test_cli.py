"""The command line as a user meets it: one line and exit code 2 for a mistake; what `show` and `people` say."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from antar.core.errors import UserError
from antar.pipeline import report_file, write_report_of
from antar.stages.people import export_annotations, import_annotations
from micro import MICRO, antar, write_micro
from walk import check_page

pytestmark = pytest.mark.slow


def mistake(done):
    """A user's mistake: exit code 2, one line, no traceback. Returns the line."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("antar: ")]
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert len(lines) == 1, done.stderr
    return lines[0]


def pair_study(finished, tmp_path, **changes):
    """A study of the organism's two checkpoints, given by path, on its own texts as a JSONL file."""
    organism = finished / "organism"
    study = {
        "study": "pair",
        "models": {"base": {"path": str(organism / "base")}, "chat": {"path": str(organism / "chat")}},
        "corpus": {
            "sources": [
                {"source": "files", "name": "all", "paths": [str(organism / "texts.jsonl")], "group_column": "group",
                 "language_column": "language", "document": "document", "near_duplicates": False}
            ],
            "split": {"train": 0.4, "val": 0.1, "heldout": 0.5, "controls": "same"},
        },
        "extract": {"layers": [1], "dtype": "float32", "threads": 1},
        "dictionaries": {"n_latents": 16, "k": 2, "max_epochs": 2, "warmup_steps": 1, "k_aux": 4, "threads": 1},
        "contrasts": {"permutations": 30},
    }  # fmt: skip
    path = tmp_path / "pair.yaml"
    path.write_text(yaml.safe_dump(study | changes), encoding="utf-8")
    return path


def test_a_pair_given_by_path_runs_without_a_sham_and_says_so(finished, tmp_path):
    done = antar("run", pair_study(finished, tmp_path), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    criteria = json.loads((tmp_path / "runs/pair/criteria.json").read_text(encoding="utf-8"))
    effect = next(one for one in criteria["criteria"] if one["number"] == 4)
    assert effect["verdict"] == "not measured"
    assert "sham" in criteria["headline"][0]
    assert not (tmp_path / "runs/pair/truth_report.json").exists()


def test_a_layer_that_the_model_lacks(finished, tmp_path):
    line = mistake(antar("run", pair_study(finished, tmp_path, extract={"layers": [7]}), cwd=tmp_path))
    assert "7" in line
    assert not (tmp_path / "runs/pair/corpus").exists(), "found before anything was made"


def test_sides_with_different_tokenizers(finished, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(finished / "organism" / "chat", other)
    tokenizer = json.loads((other / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["model"]["merges"] = tokenizer["model"]["merges"][:5]
    (other / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    models = {"base": {"path": str(finished / "organism" / "base")}, "chat": {"path": str(other)}}
    assert "tokenizer" in mistake(antar("run", pair_study(finished, tmp_path, models=models), cwd=tmp_path))


def test_a_language_without_controls(tmp_path):
    rows = [{"t": f"text number {i}", "g": "cultural", "d": i} for i in range(20)]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    study = yaml.safe_load(MICRO)
    del study["truth"]
    study["models"] = {"base": {"path": "."}, "chat": {"path": "."}}
    study["corpus"]["sources"] = [{"source": "files", "paths": ["x.jsonl"], "text": "t", "group_column": "g"}]
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    assert "control" in mistake(antar("corpus", tmp_path / "x.yaml", cwd=tmp_path))


def test_a_stage_alone_needs_the_earlier_ones_fresh(finished, tmp_path):
    path = write_micro(tmp_path)
    assert "organism" in mistake(antar("train", path, cwd=tmp_path))
    shutil.copytree(finished.parent, tmp_path / "runs", dirs_exist_ok=True)
    path.write_text(MICRO.replace("n_latents: 32", "n_latents: 40"), encoding="utf-8")
    before = (tmp_path / "runs/micro/study.yaml").read_bytes()
    assert "n_latents changed" in mistake(antar("report", path, cwd=tmp_path))
    assert (tmp_path / "runs/micro/study.yaml").read_bytes() == before, "the run still says what made it"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run", "none.yaml"], "no such study file"),
        (["run", "micro.yaml", "--until", "tea"], "expected one of organism, corpus"),
        (["measure", "micro.yaml", "--folds", "1"], "expected 0 or at least 2, found 1"),
        (["measure", "micro.yaml", "--folds", "2"], "needs organism first"),
        (["show", "nowhere"], "expected a run folder"),
        (["export", "nowhere", "--out", "x"], "expected a run folder"),
    ],
)
def test_mistakes_on_the_command_line(tmp_path, arguments, told):
    write_micro(tmp_path)
    assert told in mistake(antar(*arguments, cwd=tmp_path))


def test_show_prints_criteria_and_shares_beside_their_nulls(finished, tmp_path):
    done = antar("show", finished, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the seven criteria" in done.stdout
    assert "planted truth" in done.stdout
    assert "on nulls: " in done.stdout and "same_checkpoint" in done.stdout
    assert "sham:a" in done.stdout


def test_plan_runs_nothing(finished, tmp_path):
    path = write_micro(tmp_path)
    done = antar("plan", path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "organism: not made yet" in done.stdout
    assert not (tmp_path / "runs").exists()


@pytest.mark.long
def test_replicas_by_option_are_planned_trained_and_kept(finished, tmp_path):
    path = write_micro(tmp_path)
    shutil.copytree(finished.parent, tmp_path / "runs")
    run = tmp_path / "runs" / "micro"
    planned = antar("plan", path, "--folds", "2", "--seeds", "1", cwd=tmp_path)
    assert planned.returncode == 0, planned.stderr
    assert "dictionaries/base.layer00.fold0: not made yet" in planned.stdout
    assert "18 of them replicas" in planned.stdout and "2 folds and 1 other seed each" in planned.stdout
    assert not list(run.glob("dictionaries/*fold*")), "a plan runs nothing, and is not remembered"
    assert ".fold" not in antar("plan", path, cwd=tmp_path).stdout
    done = antar("measure", path, "--folds", "2", "--seeds", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "mean cosine over folds" in done.stdout and "random directions in the place of folds" in done.stdout
    assert "split-half reliability" in done.stdout
    assert len(list(run.glob("dictionaries/*fold*/manifest.json"))) == 12
    later = antar("measure", path, cwd=tmp_path)
    assert later.returncode == 0 and "measure: fresh" in later.stderr, later.stderr
    assert "as --folds and --seeds said" in later.stderr


def test_export_writes_the_published_layout(finished, tmp_path):
    done = antar("export", finished, "--out", "sets", "--to", "npz", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    chunks = {path.relative_to(tmp_path / "sets").as_posix() for path in (tmp_path / "sets").rglob("*.npz")}
    assert chunks == {f"organism/{side}/chunk_0000.npz" for side in ("base", "chat", "delta")}
    sets = {
        side: np.load(tmp_path / f"sets/organism/{side}/chunk_0000.npz", allow_pickle=False)
        for side in ("base", "chat", "delta")
    }
    np.testing.assert_array_equal(sets["delta"]["layer_01"], sets["chat"]["layer_01"] - sets["base"]["layer_01"])
    assert set(sets["base"].files) == {"layer_00", "layer_01", "text_id"}


def test_dictionaries_go_out_to_saelens_and_come_back(finished, tmp_path):
    done = antar("export", finished, "--to", "saelens", "--out", "saes", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folders = {path.name for path in (tmp_path / "saes").iterdir()}
    assert folders == {path.parent.name for path in (finished / "dictionaries").glob("*/cfg.json")}
    assert f"wrote {2 * len(folders)} files" in done.stdout
    read = {name: json.loads((tmp_path / "saes" / name / "cfg.json").read_text(encoding="utf-8")) for name in folders}
    base, delta = read["base.layer01"]["metadata"], read["delta-a.layer01"]["metadata"]
    assert base["hook_name"] == "blocks.1.hook_resid_post" and base["model_name"] == "antar-organism-tiny/base"
    assert delta["hook_name"] is None and delta["antar"]["difference"] == "sham:a minus base"
    done = antar("import", "saes/base.layer01", "--to", "back", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    name = "sae_weights.safetensors"
    assert (tmp_path / "back" / name).read_bytes() == (finished / "dictionaries" / "base.layer01" / name).read_bytes()
    again = antar("import", "saes/base.layer01", "--to", "back", cwd=tmp_path)
    assert "new or empty folder" in mistake(again)
    one = antar("export", finished, "--to", "saelens", "--out", "one", "--dictionary", "base.layer00", cwd=tmp_path)
    assert "wrote 2 files" in one.stdout
    wrong = antar("export", finished, "--to", "saelens", "--out", "one", "--dictionary", "base.layer07", cwd=tmp_path)
    assert "not made yet" in mistake(wrong)
    npz = antar("export", finished, "--out", "x", "--dictionary", "base.layer00", cwd=tmp_path)
    assert "--to saelens only" in mistake(npz)
    again = antar("export", finished, "--to", "saelens", "--out", "saes", cwd=tmp_path)
    assert "expected a new or empty folder" in mistake(again)
    inside = antar("export", finished, "--to", "saelens", "--out", finished / "dictionaries", cwd=tmp_path)
    assert "outside the run" in mistake(inside)
    (tmp_path / "taken").write_text("a file where the folder would be")
    for to in ("npz", "saelens"):
        blocked = antar("export", finished, "--to", to, "--out", "taken", cwd=tmp_path)
        assert "expected a folder that can be written" in mistake(blocked)


def test_only_finished_whole_and_current_dictionaries_are_exported(finished, tmp_path):
    def refusal(change) -> str:
        run = tmp_path / "runs" / "micro"
        shutil.rmtree(run.parent, ignore_errors=True)
        shutil.copytree(finished, run)
        change(run)
        line = mistake(antar("export", run, "--to", "saelens", "--out", "saes", cwd=tmp_path))
        assert not (tmp_path / "saes").exists()
        return line

    def edit(path, old, new):
        path.write_text(path.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")

    one = "dictionaries/base.layer01"
    assert "not finished" in refusal(lambda run: (run / one / "manifest.json").unlink())
    weights = lambda run: run / one / "sae_weights.safetensors"  # noqa: E731
    flip = lambda run: weights(run).write_bytes(weights(run).read_bytes()[:-1] + b"\x01")  # noqa: E731
    assert "edited since it was written" in refusal(flip)
    assert "none made yet" in refusal(lambda run: [p.unlink() for p in run.glob("dictionaries/*/cfg.json")])
    assert "before patience changed" in refusal(lambda run: edit(run / "study.yaml", "patience: ", "patience: 1"))


def test_a_run_folder_that_cannot_be_made_is_one_line(finished, tmp_path):
    (tmp_path / "taken").write_text("a file where the folder would be")
    for verb in ("run", "sweep"):
        line = mistake(antar(verb, write_micro(tmp_path), "--runs", "taken", cwd=tmp_path))
        assert "expected a run folder that can be made" in line


def test_two_people_judge_and_the_agreement_is_measured(finished, tmp_path):
    shutil.copytree(finished.parent, tmp_path / "runs")
    run, path = tmp_path / "runs" / "micro", write_micro(tmp_path)

    def annotate(*arguments: str | Path) -> str:
        done = antar("annotate", *arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert " for asha, ravi" in annotate("init", run, "--annotators", "asha,ravi", "--features", "12")
    for who in ("asha", "ravi"):
        for step in ("blind", "label"):
            sheet = tmp_path / f"{who}-{step}.csv"
            by_hand = (who, step) == ("asha", "label")  # one by the command line; a process each takes its time
            if by_hand:
                annotate("export", run, "--annotator", who, "--file", sheet.name)
            else:
                export_annotations(run, sheet, who)
            with sheet.open(encoding="utf-8-sig", newline="") as handle:
                rows = list(csv.DictReader(handle))
            for i, row in enumerate(sorted(rows, key=lambda row: row["item"])):  # alike, and not always the same
                assert bool(row["label"]) == (step == "label")
                row |= {"pattern": "3", "what": "lamps"}
                if step == "label":
                    row |= {"verdict": ("KEEP", "INVALIDATE")[i % 2], "kind": "topical"}
            with sheet.open("w", encoding="utf-8-sig", newline="") as handle:
                writer = csv.DictWriter(handle, rows[0].keys())
                writer.writeheader()
                writer.writerows(rows)
            if by_hand:
                assert "14 items are answered whole" in annotate("import", run, "--file", sheet.name)
            else:
                import_annotations(run, sheet)
    assert "nobody has worked" in mistake(antar("annotate", "init", run, "--annotators", "asha", cwd=tmp_path))
    export_annotations(run, tmp_path / "all.jsonl", None)
    assert "0 new lines" in annotate("merge", run, "all.jsonl")
    assert "verdict by site" in annotate("agreement", run, "--json", "agreement.json")
    found = json.loads((tmp_path / "agreement.json").read_text(encoding="utf-8"))["questions"]["verdict"]
    assert antar("measure", path, cwd=tmp_path).returncode == 0
    criteria = json.loads((run / "criteria.json").read_text(encoding="utf-8"))
    human = next(one for one in criteria["criteria"] if one["number"] == 6)
    assert human["value"] == found["alpha"]["value"] == 1.0
    assert human["ci"] == [found["alpha"]["low"], found["alpha"]["high"]]
    assert human["verdict"] == "fail"  # twelve alike answers are not certain: the lower end decides
    assert 0 < human["ci"][0] < 0.7
    assert human["beside"]["Cohen's κ"] == 1.0
    assert human["beside"]["items judged by two people or more"] == found["items"] == 12
    assert "known-wrong labels not kept by asha" in human["beside"]


def test_a_request_to_stop_in_a_finalizer_is_made_again():
    """Python drops an exception that is raised in `__del__`; the process would go on to its end."""
    code = """
import os, signal, time
from antar import cli
class Dying:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.2)
def app():
    Dying()
    time.sleep(20)
    print("went on")
cli.app = app
cli.main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 128 + signal.SIGTERM
    assert done.stdout == ""
    assert done.stderr == "antar: stopped; what was complete stays, and the same command goes on from here\n"


# -- the report -----------------------------------------------------------------------------------------------------


def test_a_report_of_a_run_folder_as_it_is_in_each_format(finished, tmp_path):
    copy = tmp_path / "sent by mail"
    shutil.copytree(finished, copy, ignore=shutil.ignore_patterns("activations", "codes", "organism"))
    (copy / "criteria.json").unlink()  # and not even whole
    for name in ("index.html", "report.md", "tables.tex"):
        (copy / "report" / name).unlink()
    done = antar("report", copy, "--format", "md", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "".join(done.stdout.split()).endswith("sentbymail/report/report.md")
    page = (copy / "report/index.html").read_text(encoding="utf-8")
    assert "Not known yet" in page and "The criteria have not been measured" in page
    assert not (copy / "report/manifest.json").exists()  # the study's next run makes its own
    with pytest.raises(UserError, match="expected html, md, tex, found 'pdf'"):
        report_file("pdf")
    with pytest.raises(UserError, match=r"found no study\.yaml"):
        write_report_of(tmp_path)


def test_the_report_of_a_finished_study_is_derived_from_its_files(finished):
    page = (finished / "report/index.html").read_text(encoding="utf-8")
    wrong, derived = check_page(page, finished)
    assert wrong == [] and derived > 1000
