"""Replicas by command line: numbers are kept for the run folder, trained when missing, and change nothing else."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from antar.core.errors import UserError
from antar.pipeline import open_study, run_study
from antar.stages import features, train
from antar.stages.artifact import NOT_MADE
from antar.stages.context import LOCK_FILE
from antar.stages.costs import estimate_costs
from antar.stages.replicas import Counts, Replicas, wanted_replicas, without_replicas
from micro import MICRO

sys.path.insert(0, str(Path(__file__).parent))
from stored import stored_run


def with_counts(context, folds, seeds):
    said = wanted_replicas(context.study, {}, folds, seeds)
    return replace(context, study=said.applied(context.study), replicas_as_said=said)


def test_more_replicas_make_nothing_of_the_studys_own_stale(tmp_path):
    context = stored_run(tmp_path)
    train.make(context)
    more = with_counts(context, 3, 2)
    states = {artifact.name: artifact.state() for artifact in train.artifacts(more)}
    own = {f"dictionaries/{one}" for one in context.dictionary_ids()}
    assert len(states) == len(own) + 2 * 3 * (3 + 2)  # two layers, three sides
    assert {name for name, state in states.items() if state.fresh} == own
    assert {state.stale for name, state in states.items() if name not in own} == {NOT_MADE}
    wanted = [[one.fingerprint.sha256 for one in features.artifacts(which)] for which in (context, more)]
    assert wanted[0] == wanted[1] != []
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "dictionaries").rglob("*.safetensors")}
    train.make(more)
    assert all(artifact.state().fresh for artifact in train.artifacts(more))
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())
    # Another number of folds cuts the documents elsewhere: its replicas are others. The seeds stay.
    states = {artifact.name: artifact.state() for artifact in train.artifacts(with_counts(context, 2, 2))}
    assert all(state.fresh != (".fold" in name) for name, state in states.items())


def test_costs_count_the_replicas_that_were_said(tmp_path):
    context = with_counts(stored_run(tmp_path), 5, 3)
    (cost,) = [cost for cost in estimate_costs(context) if cost.what == "dictionaries"]
    assert cost.amount == str(6 + 2 + 6 * 8 + 2 * 2 * 3)  # and three baselines of base and delta at two layers
    assert cost.basis.startswith("48 of them replicas") and "5 folds and 3 other seeds each" in cost.basis


@pytest.fixture
def study(tmp_path):
    return stored_run(tmp_path).study


def lock_of(folds, seeds, file_folds=0, file_seeds=0):
    return json.loads(
        json.dumps({"replicas": Replicas(Counts(folds, seeds), Counts(file_folds, file_seeds)).lock_entry()})
    )


def test_the_last_word_counts(study):
    assert wanted_replicas(study, {}) is None
    assert wanted_replicas(study, lock_of(5, 3)).wanted == Counts(5, 3)
    assert wanted_replicas(study, lock_of(5, 3), seeds=1).wanted == Counts(5, 1)  # the other as said before
    assert wanted_replicas(study, lock_of(5, 3), folds=0, seeds=0) is None  # back to what the study file says
    changed = Replicas(Counts(0, 2), Counts.of(study)).applied(study)
    assert wanted_replicas(changed, lock_of(5, 3)) is None, "the study file has been changed since"
    assert Counts.of(without_replicas(changed)) == Counts(0, 0)
    for torn in ({"replicas": None}, {"replicas": []}, {"replicas": {"wanted": {"folds": "x"}, "in_file": None}}):
        assert wanted_replicas(study, torn) is None


@pytest.mark.parametrize(
    ("folds", "seeds", "told"), [(1, None, "expected 0 or at least 2, found 1"), (None, -1, "seeds")]
)
def test_impossible_numbers_are_one_line(study, folds, seeds, told):
    with pytest.raises(UserError, match=told) as caught:
        wanted_replicas(study, {}, folds, seeds)
    assert "\n" not in str(caught.value)


def micro(folder):
    study = yaml.safe_load(MICRO)
    study["extract"]["layers"] = [1]
    study["dictionaries"] |= {"sides": ["base", "chat"], "seeds": 0, "baselines": []}
    study["contrasts"] = {"facets": [], "permutations": 20}
    study.pop("truth")
    path = folder / "micro.yaml"
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    return path


def test_measure_trains_what_is_missing_and_a_later_command_keeps_it(tmp_path, capsys):
    path, runs = micro(tmp_path), tmp_path / "runs"
    asked = lambda: open_study(path, runs, folds=2, seeds=1)  # noqa: E731
    with pytest.raises(UserError, match="needs organism first"):
        run_study(asked(), only="measure", train_replicas=True)
    assert open_study(path, runs).replicas_as_said is None, "a command that could not run is not remembered"

    run_study(open_study(path, runs), until="measure")
    folder = runs / "micro"
    seventh = lambda: json.loads((folder / "criteria.json").read_bytes())["criteria"][6]  # noqa: E731
    assert seventh()["verdict"] == "not measured"
    own = {p: p.read_bytes() for p in folder.glob("dictionaries/*/manifest.json")}
    interpreted = (folder / "interpret/manifest.json").read_bytes()

    run_study(asked(), only="measure", train_replicas=True)
    assert {p.parent.name for p in folder.glob("dictionaries/*/manifest.json")} == {
        f"{side}.layer01{more}" for side in ("base", "chat") for more in ("", ".seed1", ".fold0", ".fold1")
    }
    assert all(path.read_bytes() == then for path, then in own.items())
    assert (folder / "interpret/manifest.json").read_bytes() == interpreted
    found = seventh()
    assert found["value"] is not None and found["null"]["value"] is not None
    assert (found["beside"]["other seeds, for each dictionary"], found["beside"]["folds, for each dictionary"]) == (
        1,
        2,
    )
    assert yaml.safe_load((folder / "study.yaml").read_text())["dictionaries"]["folds"] == 2

    capsys.readouterr()
    later = open_study(path, runs)
    assert Counts.of(later.study) == Counts(2, 1)
    run_study(later, until="measure")
    said = capsys.readouterr().err
    assert "2 folds and 1 other seed, as --folds and --seeds said" in said and "measure: fresh" in said
    assert seventh() == found
    # One that a kill left unfinished is made again by the same command, and by that alone.
    (folder / "dictionaries/base.layer01.fold1/manifest.json").unlink()
    run_study(asked(), only="measure", train_replicas=True)
    assert (folder / "dictionaries/base.layer01.fold1/manifest.json").is_file() and seventh() == found
    # The study file is edited: it has the last word.
    path.write_text(path.read_text().replace("seeds: 0", "seeds: 2"), encoding="utf-8")
    assert Counts.of(open_study(path, runs).study) == Counts(0, 2)
    assert json.loads((folder / LOCK_FILE).read_bytes())["replicas"]["wanted"] == {"folds": 2, "seeds": 1}
