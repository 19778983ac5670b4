"""Which shard is next, and what becomes of failed and lost ones: no engine is needed to know."""

from __future__ import annotations

import gc
import socket
import weakref

import pytest

from antar.core.errors import UserError
from antar.core.progress import ShardBar, collected, progress, say
from antar.engines import InlineEngine, Job, Needs, ShardFailed, open_engine
from antar.engines.queue import GIVE_UP, TRIES, Item, Problem, ShardQueue

BAD = Problem("expected finite numbers, found NaN", True, "here")


def queue_of(*counts: int, done=None) -> ShardQueue:
    told = [] if done is None else done
    jobs = [
        Job(f"job{at}", lambda: lambda _: None, range(n), lambda s, at=at: told.append((at, s)))
        for at, n in enumerate(counts)
    ]
    return ShardQueue(jobs)


def test_two_workers_take_a_side_each_and_stay_with_it():
    queue = queue_of(3, 3)
    first, second = queue.take(), queue.take()
    assert {first.job, second.job} == {0, 1}
    for worker in (first, second):
        queue.finished(worker)
        assert queue.take(worker.job).job == worker.job


def test_four_workers_share_two_equal_jobs_evenly():
    queue = queue_of(8, 8)
    assert sorted(queue.take().job for _ in range(4)) == [0, 0, 1, 1]


def test_a_worker_goes_to_another_job_only_when_its_own_has_nothing_left():
    queue = queue_of(2, 5)
    taken = []
    job = 0
    while (item := queue.take(job)) is not None:
        taken.append(item)
        job = item.job
    assert [item.job for item in taken] == [0, 0, 1, 1, 1, 1, 1]
    assert len(set(taken)) == 7


def test_every_shard_is_told_once_when_it_is_done():
    told = []
    queue = queue_of(2, 1, done=told)
    while (item := queue.take()) is not None:
        queue.finished(item)
    assert sorted(told) == [(0, 0), (0, 1), (1, 0)]
    assert queue.unfinished == 0
    queue.raise_failures()


def test_a_failed_shard_is_not_tried_again_and_the_others_are_made():
    queue = queue_of(4)
    bad = queue.take()
    queue.failed(bad, BAD)
    rest = []
    while (item := queue.take()) is not None:
        rest.append(item)
        queue.finished(item)
    assert bad not in rest and len(rest) == 3
    with pytest.raises(UserError, match=r"^job0, shard 0: expected finite numbers, found NaN$"):
        queue.raise_failures()


def test_after_some_failures_nothing_new_is_started_and_one_error_counts_them():
    queue = queue_of(20)
    for _ in range(GIVE_UP):
        queue.failed(queue.take(), BAD)
    assert queue.take() is None and queue.unfinished == 0
    with pytest.raises(UserError, match=f"and {GIVE_UP - 1} more shards failed"):
        queue.raise_failures()


def test_a_defect_keeps_its_traceback():
    queue = queue_of(1)
    queue.failed(queue.take(), Problem("Traceback …\nZeroDivisionError", False, "node7"))
    with pytest.raises(ShardFailed, match=r"(?s)job0, shard 0, on node7:\nTraceback.*ZeroDivisionError"):
        queue.raise_failures()


def test_a_lost_shard_is_the_next_one_until_it_has_taken_too_many_workers():
    queue = queue_of(3)
    item = queue.take()
    assert item == Item(0, 0)
    for _ in range(TRIES - 1):
        assert queue.lost(item, "node7")
        assert queue.take(0) == item
    assert not queue.lost(item, "node7")
    assert queue.take(0) == Item(0, 1), "the others go on"
    with pytest.raises(UserError, match=f"lost {TRIES} times"):
        queue.raise_failures()


class Weights:
    """Stands for what a task loads."""


def test_inline_lets_go_of_a_jobs_weights_before_it_loads_the_next_ones():
    alive: list[weakref.ref] = []

    def start():
        gc.collect()
        assert not [one for one in alive if one() is not None], "two checkpoints in memory"
        weights = Weights()
        alive.append(weakref.ref(weights))
        return lambda _: weights

    InlineEngine().map([Job("base", start, range(2)), Job("chat", start, range(2)), Job("none", start, [])])
    assert len(alive) == 2, "and loads none for a job without shards"


class Counter:
    def __init__(self):
        self.done, self.out = 0, 0

    def advance(self, n=1):
        self.done += n

    def leave_out(self, n):
        self.out += n

    def note(self, text):
        """Nothing is written beside it."""


@pytest.mark.parametrize("pieces", [[], [3, 4], [7, 3]])
def test_a_bar_counts_a_shard_once_whether_or_not_it_heard_of_its_pieces(pieces):
    bar = Counter()
    shards = ShardBar(bar, [10, 10, 5])
    for piece in pieces:
        shards.advance(piece)
    shards.done(0)
    assert bar.done == 10
    shards.kept(2)
    shards.done(1)
    assert (bar.done, bar.out) == (20, 5)


def test_what_a_worker_says_is_kept_for_the_driver_and_its_bars_are_not_shown(capsys):
    with collected() as said:
        say("one")
        with progress("training", 10) as bar:
            bar.advance(3)
            bar.note("loss 1")
        say("two [x]")
    assert said == ["one", "two [x]"]
    assert capsys.readouterr().err == ""
    say("three")
    assert capsys.readouterr().err == "three\n"


@pytest.mark.parametrize(
    ("name", "address", "told"),
    [("slurm", None, "expected one of inline, ray, found 'slurm'"), ("inline", "10.0.0.1:6379", "--engine ray only")],
)
def test_an_engine_that_there_is_not(name, address, told):
    with pytest.raises(UserError, match=told), open_engine(name, address):
        pass


def test_an_address_where_nobody_answers_is_said_at_once():
    pytest.importorskip("ray", reason="ray is not installed: pip install 'antar[ray]'")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with (
            pytest.raises(
                UserError, match=f"--address {address}: expected the head of a Ray cluster, found no answer"
            ),
            open_engine("ray", address) as engine,
        ):
            engine.room(Needs())


def test_a_ray_that_does_not_start_is_one_line(monkeypatch):
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'antar[ray]'")

    def slow(**_):
        raise Exception("The current node timed out during startup.\nThis could happen because")

    monkeypatch.setattr(ray, "init", slow)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    told = r"^--engine ray: expected Ray to take this process in, found: The current node timed out during startup\. "
    with pytest.raises(UserError, match=told), open_engine("ray") as engine:
        engine.room(Needs())
