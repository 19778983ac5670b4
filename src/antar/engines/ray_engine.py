"""The engine for more than one process: a GPU each, many cores, or many machines, by Ray.

The driver hires a pool of workers (`ray_worker.py`), gives each a shard at a time and hears of its end; results are
on shared storage by then. The pool grows while the cluster has room and replaces what is lost, so nodes may come and
go. What Ray itself would retry is switched off: `queue.py` decides.
"""

from __future__ import annotations

import logging
import math
import os
import secrets
import signal
import socket
import time
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from antar.core.errors import AntarWarning, UserError
from antar.core.progress import say
from antar.core.threads import Threads
from antar.engines.base import NO_NEEDS, Job, Needs, Room
from antar.engines.queue import TRIES, Item, ShardQueue
from antar.engines.ray_worker import BEACON, Outcome, Same, Terms, Worker

WAIT_SECONDS = 900.0
"""How long nothing may work before the driver gives up: a cluster that grows on demand takes minutes for a node."""
SPEAK_SECONDS = 60.0
ANSWER_SECONDS = 10.0
OBJECT_STORE_BYTES = 128 * 2**20
"""On an own machine: tasks travel through it, results do not."""

log = logging.getLogger(__name__)


class RayEngine:
    """address: of a cluster (`host:6379`, or `auto` for one that this machine belongs to); None is RAY_ADDRESS, or
    where that is not set all of this machine. Nothing is started before the first shard is to be made."""

    name = "ray"
    local = False

    def __init__(self, address: str | None = None) -> None:
        self._address = address or os.environ.get("RAY_ADDRESS") or "local"
        self._ray: Any = None
        self._own = True
        _import_ray()  # that it is not installed is said before any work is done

    def map(self, jobs: Sequence[Job], needs: Needs = NO_NEEDS) -> None:
        queue = ShardQueue(jobs)
        if not queue.unfinished:
            return
        ray = self._connected()
        with _beacon(needs) as (beacon, secret):
            ask = _Ask.of(ray, needs)
            threads = Threads(needs.threads or Threads.here().torch, Threads.here().blas)
            pool = _Pool(ray, jobs, ask, Terms(Same.here(), threads, ask.gpus > 0, beacon, secret))
            try:
                pool.work_off(queue)
            finally:
                pool.close()
        queue.raise_failures()

    def room(self, needs: Needs) -> Room:
        ray = self._connected()
        ask = _Ask.of(ray, needs)
        return Room(max(1, ask.fitting(ray)), ask.gpus > 0)

    def close(self) -> None:
        if self._ray is not None and self._own:
            self._ray.shutdown()
        self._ray = None

    def _connected(self) -> Any:
        if self._ray is not None:
            return self._ray
        ray = _import_ray()
        if ray.is_initialized():  # by a notebook, say, which keeps it
            self._ray, self._own = ray, False
            return ray
        local = self._address == "local"
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Ray would warn of a change to come; workers that asked for no GPU hide theirs themselves.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        options: dict[str, Any] = {"object_store_memory": OBJECT_STORE_BYTES} if local else {}
        _check_answers(self._address)
        before = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(
                address=self._address,
                include_dashboard=False if local else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
                **options,
            )
        except Exception as error:  # Ray raises bare ones, e.g. when its own processes start too slowly
            reason = " ".join(str(error).split())[:300]
            where = "--engine ray" if local else f"--address {self._address}"
            raise UserError(
                f"{where}: expected Ray to take this process in, found: {reason}; the same command goes on from what "
                "is complete"
            ) from error
        finally:
            signal.signal(signal.SIGTERM, before)  # Ray's handler would end the process without a word
        self._ray, self._own = ray, True
        return ray


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise UserError(
            f"--engine ray: expected the package ray, found none ({error}); pip install 'antar[ray]'"
        ) from error
    return ray


def _check_answers(address: str) -> None:
    """Ray itself tries an address where nobody is for minutes, and says so in its own words."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"--address {address}: expected the head of a Ray cluster, found no answer ({error}); start one with "
            "`ray start --head`, or leave --address out to use this machine"
        ) from error


@contextmanager
def _beacon(needs: Needs) -> Generator[tuple[Any, str]]:
    """A file in the run folder by which workers know it, while the block runs; (None, "") without a folder."""
    if needs.folder is None:
        yield None, ""
        return
    path, secret = needs.folder.resolve() / f"{BEACON}{secrets.token_hex(8)}", secrets.token_hex(16)
    path.write_text(secret, encoding="utf-8")
    try:
        yield path, secret
    finally:
        path.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Ask:
    """What one worker takes of its node, in numbers."""

    cpus: float
    gpus: float

    @classmethod
    def of(cls, ray: Any, needs: Needs) -> _Ask:
        nodes = _living(ray)
        gpus = needs.gpus
        if gpus is None:
            gpus = 1.0 if any(node.get("GPU", 0) for node in nodes) else 0.0
        cpus = needs.cpus
        if cpus is None:
            cpus = 1.0 if gpus else float(needs.threads or Threads.here().torch)
            # Wanted, not asked for: a cluster of smaller machines than this one still works.
            cpus = min(cpus, max((node.get("CPU", 0.0) for node in nodes), default=cpus) or cpus)
        return cls(cpus, gpus)

    def fitting(self, ray: Any) -> int:
        """How many workers the living nodes have room for when they do nothing else."""
        return sum(self._on(node) for node in _living(ray))

    def _on(self, node: dict[str, float]) -> int:
        shares = [(self.cpus, node.get("CPU", 0.0)), (self.gpus, node.get("GPU", 0.0))]
        fits = [math.floor(there / asked + 1e-6) for asked, there in shares if asked]
        return min(fits, default=1)

    def __str__(self) -> str:
        return f"{self.cpus:g} CPUs" + (f" and {self.gpus:g} GPU" if self.gpus else "")


def _living(ray: Any) -> list[dict[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


class _Hand:
    """One worker as the driver knows it. job: whose task it has loaded; item: what it makes now."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.accepted = False
        self.node = "a node that it never came to"
        self.job: int | None = None
        self.item: Item | None = None


class _Pool:
    def __init__(self, ray: Any, jobs: Sequence[Job], ask: _Ask, terms: Terms) -> None:
        self._ray, self._jobs, self._ask, self._terms = ray, jobs, ask, terms
        options = {"num_cpus": ask.cpus, "num_gpus": ask.gpus, "max_restarts": 0, "max_task_retries": 0}
        self._actor = ray.remote(Worker).options(**options)
        self._tasks: dict[int, Any] = {}
        self._hands: list[_Hand] = []
        self._waiting: dict[Any, _Hand] = {}  # what each hand's current call will give
        self._said: set[str] = set()
        self._still_born = 0
        self._last_life = self._last_word = time.monotonic()

    def work_off(self, queue: ShardQueue) -> None:
        """Until no shard runs and none is to be started. Raises UserError for a cluster that cannot work."""
        while queue.unfinished:
            self._hire(queue)
            self._give_work(queue)
            ready, _ = self._ray.wait(list(self._waiting), num_returns=1, timeout=1.0)
            for reference in ready:
                self._heard(self._waiting.pop(reference), reference, queue)
            self._complain_when_idle()

    def close(self) -> None:
        for hand in self._hands:
            self._ray.kill(hand.actor, no_restart=True)
        self._hands, self._waiting = [], {}

    def _hire(self, queue: ShardQueue) -> None:
        # One is asked for even where there is no room: a cluster that grows on demand grows by what it is asked for.
        wanted = min(queue.unfinished, max(1, self._ask.fitting(self._ray)))
        for _ in range(wanted - len(self._hands)):
            hand = _Hand(self._actor.remote())
            self._hands.append(hand)
            self._waiting[hand.actor.accept.remote(self._terms)] = hand

    def _give_work(self, queue: ShardQueue) -> None:
        for hand in self._hands:
            if not hand.accepted or hand.item is not None:
                continue
            item = queue.take(hand.job)
            if item is None:
                return
            hand.item, hand.job = item, item.job
            if item.job not in self._tasks:
                self._tasks[item.job] = self._ray.put(self._jobs[item.job].start())
            log.info("start %s on %s", queue.name(item), hand.node)
            reference = hand.actor.run.remote(item.job, [self._tasks[item.job]], item.shard)
            self._waiting[reference] = hand

    def _heard(self, hand: _Hand, reference: Any, queue: ShardQueue) -> None:
        try:
            heard = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            self._lose(hand, error, queue)
            return
        self._last_life = time.monotonic()
        if hand.accepted:
            self._note_outcome(hand, heard, queue)
        elif heard.problem is not None:
            raise UserError(heard.problem)
        else:
            hand.accepted, hand.node = True, heard.node

    def _note_outcome(self, hand: _Hand, outcome: Outcome, queue: ShardQueue) -> None:
        assert hand.item is not None
        for line in outcome.said:
            if line not in self._said:  # nine workers say a thing once
                say(line)
        for line in outcome.warned:
            if line not in self._said:
                warnings.warn(line, AntarWarning, stacklevel=2)
        self._said |= {*outcome.said, *outcome.warned}
        log.info("end %s on %s: %s", queue.name(hand.item), hand.node, "failed" if outcome.problem else "made")
        if outcome.problem is None:
            queue.finished(hand.item)
        else:
            queue.failed(hand.item, outcome.problem)
        hand.item = None

    def _lose(self, hand: _Hand, error: Exception, queue: ShardQueue) -> None:
        self._hands.remove(hand)
        # It may live behind a broken network: it must not go on beside the one that takes its place.
        self._ray.kill(hand.actor, no_restart=True)
        if not hand.accepted:
            self._still_born += 1
            if self._still_born >= TRIES:
                raise UserError(
                    f"--engine ray: expected workers that start, found {TRIES} that did not, the last because: "
                    f"{_last_line(error)}; install the same antar on every node"
                ) from error
            return
        if hand.item is None:
            return
        log.info("lost %s on %s", queue.name(hand.item), hand.node)
        if queue.lost(hand.item, hand.node):
            say(f"  {queue.name(hand.item)}: its worker on {hand.node} was lost; another makes it")

    def _complain_when_idle(self) -> None:
        now = time.monotonic()
        if any(hand.accepted for hand in self._hands):
            self._last_life = now
            return
        if now - self._last_life > WAIT_SECONDS:
            raise UserError(f"{self._lack()}, for {WAIT_SECONDS / 60:.0f} minutes; ask for less in `engine:`")
        if now - max(self._last_life, self._last_word) > SPEAK_SECONDS:
            self._last_word = now
            say(f"  {self._lack()}; waiting")

    def _lack(self) -> str:
        nodes = _living(self._ray)
        there = ", ".join(f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in nodes[:4])
        return f"--engine ray: expected room for a task of {self._ask}, found nodes of {there or 'nothing'}"


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
