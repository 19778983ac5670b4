"""The Ray engine on this machine: who makes what, what failing and dying workers cost, and whom it refuses."""

from __future__ import annotations

import dataclasses
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import yaml

from antar.core.errors import AntarWarning, UserError
from antar.core.sites import Site
from antar.engines import Job, Needs, ShardFailed, open_engine, queue, ray_engine
from antar.engines.ray_worker import Same
from antar.stages import train

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "stages"))
from stored import STUDY, D, stored_run, stored_texts, write_site
from tasks import Dying, Failing, Meeting, Noting, notes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def engine():
    """On a machine of two cores, and two GPUs as far as Ray is told."""
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'antar[ray]'")
    ray.init(
        num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20,
        runtime_env={"env_vars": {"PYTHONPATH": ":".join(sys.path)}},
    )  # fmt: skip
    with open_engine("ray") as engine:
        yield engine
    assert ray.is_initialized(), "who started Ray ends it"
    ray.shutdown()


def test_two_gpus_make_two_sides_and_a_worker_loads_a_side_once(engine, tmp_path):
    told = []
    jobs = [Job(n, lambda n=n: Noting(tmp_path, n, 0.2).run, range(4), told.append) for n in ("base", "chat")]
    engine.map(jobs, Needs(gpus=1, threads=2, folder=tmp_path.parent))
    made = notes(tmp_path)
    assert sorted(made) == [f"{name}-{shard}" for name in ("base", "chat") for shard in range(4)]
    assert all(len(attempts) == 1 for attempts in made.values()) and len(told) == 8
    for name in ("base", "chat"):
        loaded: dict[str, list[int]] = {}
        for shard in range(4):
            worker, count, *_ = made[f"{name}-{shard}"][0]
            loaded.setdefault(worker, []).append(int(count))
        # A task that was loaded twice by one worker would begin to count again.
        assert all(counts == list(range(1, len(counts) + 1)) for counts in loaded.values()), loaded
    assert {note[2] for (note,) in made.values()} == {"2"}, "threads as asked, though Ray sets one"
    devices = {note[0]: note[3] for (note,) in made.values()}
    assert set(devices.values()) <= {"0", "1"} and len(set(devices.values())) == len(devices), "each its own GPU"


def test_who_asks_for_no_gpu_sees_none_and_shares_of_cores_are_filled(engine, tmp_path):
    needs = Needs(cpus=0.5, gpus=0)
    assert (engine.room(needs).workers, engine.room(needs).gpu) == (4, False)
    engine.map([Job("job", lambda: Meeting(tmp_path, together=4).run, range(4))], needs)
    made = [note for (note,) in notes(tmp_path).values()]
    assert len({note[0] for note in made}) == 4, "four at once on two cores, each waiting for the others"
    assert {note[3] for note in made} == {"none"}


def test_a_failing_shard_is_said_once_and_the_others_are_made(engine, tmp_path, capsys):
    job = Job("texts", lambda: Failing(tmp_path).run, [0, 1, 3, 4, 5])
    with pytest.warns(AntarWarning, match="few texts"), pytest.raises(UserError) as caught:
        engine.map([job], Needs(cpus=1, gpus=0))
    assert str(caught.value) == "texts, shard 1: expected text, found none"
    assert {name: len(attempts) for name, attempts in notes(tmp_path).items()} == {f"job-{s}": 1 for s in job.shards}
    assert capsys.readouterr().err.count("reading") == 1, "a line that every worker says is shown once"


def test_a_defect_comes_with_the_workers_traceback(engine, tmp_path):
    with pytest.warns(AntarWarning), pytest.raises(ShardFailed, match=r"(?s)texts, shard 2, on .*ZeroDivisionError"):
        engine.map([Job("texts", lambda: Failing(tmp_path).run, [2])], Needs(cpus=1, gpus=0))


def test_a_lost_workers_shard_is_made_by_another_and_no_other_is_made_again(engine, tmp_path, capsys):
    engine.map([Job("job", lambda: Dying(tmp_path, always=False).run, range(5))], Needs(cpus=1, gpus=0))
    assert {name: len(attempts) for name, attempts in notes(tmp_path).items()} == {
        f"job-{shard}": 2 if shard == 1 else 1 for shard in range(5)
    }
    assert "job, shard 1: its worker" in capsys.readouterr().err


def test_a_shard_that_kills_every_worker_is_given_up(engine, tmp_path, monkeypatch):
    monkeypatch.setattr(queue, "TRIES", 2)
    with pytest.raises(UserError, match="job, shard 1: its worker was lost 2 times"):
        engine.map([Job("job", lambda: Dying(tmp_path, always=True).run, range(3))], Needs(cpus=1, gpus=0))
    counts = {name: len(attempts) for name, attempts in notes(tmp_path).items()}
    assert counts == {"job-0": 1, "job-1": 2, "job-2": 1}


def test_a_worker_with_other_code_is_refused(engine, tmp_path, monkeypatch):
    other = dataclasses.replace(Same.here(), code="other")
    monkeypatch.setattr(ray_engine.Same, "here", classmethod(lambda _: other))
    with pytest.raises(UserError, match=r"^worker on .*: expected the driver's code of antar .*, found other code"):
        engine.map([Job("job", lambda: Noting(tmp_path).run, [0])], Needs(cpus=1, gpus=0))
    assert not notes(tmp_path)


def test_what_a_worker_must_have_as_the_driver_has_it():
    driver = Same("1.0", "abc", {"torch": "2.13.0", "numpy": "2.4.6"})
    assert driver.difference(driver) is None
    for change, told in (
        ({"version": "1.1"}, "expected antar 1.0 as on the driver, found 1.1"),
        ({"code": "abd"}, "expected the driver's code of antar 1.0, found other code of that version"),
        ({"packages": {"torch": "2.13.0"}}, "expected numpy 2.4.6 as on the driver, found none"),
        ({"packages": {"torch": "2.12.0", "numpy": "2.4.6"}}, "expected torch 2.13.0 as on the driver, found 2.12.0"),
    ):
        assert driver.difference(dataclasses.replace(driver, **change)) == told
    assert "+" not in Same.here().packages["torch"], "a build for CPUs and one for GPUs of one version are the same"


def test_a_worker_that_does_not_see_the_run_folder_is_refused(engine, tmp_path, monkeypatch):
    @contextmanager
    def elsewhere(_):
        yield tmp_path / "not-mounted" / ".tmp-seen-1", "secret"

    monkeypatch.setattr(ray_engine, "_beacon", elsewhere)
    with pytest.raises(UserError, match=r"expected to see the run folder .*not-mounted, found another or none"):
        engine.map([Job("job", lambda: Noting(tmp_path).run, [0])], Needs(cpus=1, gpus=0, folder=tmp_path))
    assert not notes(tmp_path)


def test_a_task_that_no_node_has_room_for(engine, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_engine, "WAIT_SECONDS", 2.0)
    with pytest.raises(UserError, match="expected room for a task of 64 CPUs, found nodes of 2 CPUs and 2 GPUs"):
        engine.map([Job("job", lambda: Noting(tmp_path).run, [0])], Needs(cpus=64, gpus=0))


def test_nothing_to_make_asks_nobody(engine):
    engine.map([Job("job", lambda: pytest.fail("started"), [])], Needs(cpus=64))


def nine(folder: Path, **changes):
    """A study of nine dictionaries: base, chat and delta at three layers."""
    recipe = yaml.safe_load(STUDY)["dictionaries"] | {"sides": ["base", "chat", "delta"], "seeds": 0}
    recipe |= {"folds": 0, "baselines": []}
    study = {
        "models": {"base": {"path": "nowhere"}, "chat": {"path": "nowhere"}},
        "extract": {"layers": [0, 1, 2]},
        "engine": {"train": {"cpus": 0.5}},
        "dictionaries": recipe | changes,
    }
    context = stored_run(folder, **study)
    rng = np.random.default_rng(7)
    for side in ("base", "chat"):
        write_site(folder, Site(side, 2), rng.standard_normal((stored_texts().height, D)).astype(np.float32))
    return context


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("stacked", ["never", pytest.param("always", marks=pytest.mark.long)])
def test_nine_dictionaries_train_as_tasks_on_shares_of_cores_and_equal_inlines(engine, tmp_path, capsys, stacked):
    inline = nine(tmp_path / "inline", stacked=stacked)
    spread = dataclasses.replace(nine(tmp_path / "ray", stacked=stacked), engine=engine)
    train.make(inline)
    train.make(spread)
    mine, theirs = tree(tmp_path / "ray" / "dictionaries"), tree(tmp_path / "inline" / "dictionaries")
    assert sorted(mine) == sorted(theirs) and sum(name.endswith("/manifest.json") for name in mine) == 9
    assert mine == theirs
    capsys.readouterr()
    train.make(spread)
    assert tree(tmp_path / "ray" / "dictionaries") == mine, "and once made, they are kept"
