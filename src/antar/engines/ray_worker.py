"""What runs on a node of a Ray cluster: one process that makes shards, one after another.

It takes over the driver's threads and no GPU that it did not ask for; refuses to work with other code than the
driver's or without the driver's run folder; and keeps a job's task, with what that has loaded, until it is given a
shard of another job.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import antar
from antar.core.errors import AntarWarning, UserError
from antar.core.hashing import code_version
from antar.core.machine import package_versions
from antar.core.progress import collected
from antar.core.threads import Threads
from antar.engines.base import ShardTask
from antar.engines.queue import Problem

BEACON = ".tmp-seen-"
"""Begins the name of the file by which a worker knows the run folder: swept like any temporary name."""

_DECIDE_BITS = ("torch", "transformers", "tokenizers", "numpy", "scipy")


@dataclass(frozen=True)
class Same:
    """What a worker must have as the driver has it. code: a hash over antar's whole source."""

    version: str
    code: str
    packages: dict[str, str]

    @classmethod
    def here(cls) -> Same:
        found = package_versions()
        # A build's tag after `+` names its devices: a head node without a GPU may drive workers with one.
        packages = {name: found[name].split("+")[0] for name in _DECIDE_BITS if name in found}
        return cls(antar.__version__, code_version("."), packages)

    def difference(self, other: Same) -> str | None:
        """In what a worker is not as the driver (self), in words; None when in nothing."""
        if self.version != other.version:
            return f"expected antar {self.version} as on the driver, found {other.version}"
        if self.code != other.code:
            return f"expected the driver's code of antar {self.version}, found other code of that version"
        for name, version in self.packages.items():
            if other.packages.get(name) != version:
                return f"expected {name} {version} as on the driver, found {other.packages.get(name, 'none')}"
        return None


@dataclass(frozen=True)
class Terms:
    """What the driver tells a new worker. beacon: a file in the run folder that holds `secret`."""

    same: Same
    threads: Threads
    gpu: bool
    beacon: Path | None = None
    secret: str = ""


@dataclass(frozen=True)
class Outcome:
    """What is left to say of a shard: what the task said, warned of, and why it failed, if it did."""

    said: Sequence[str] = ()
    warned: Sequence[str] = ()
    problem: Problem | None = None


@dataclass(frozen=True)
class Accepted:
    """node: where the worker is; problem: why it cannot take the driver's terms, as one line, or None."""

    node: str
    problem: str | None = None


class Worker:
    def __init__(self) -> None:
        self._node = f"{socket.gethostname()} ({_ip_address()})"
        self._terms: Terms | None = None
        self._job: int | None = None
        self._task: ShardTask | None = None

    def accept(self, terms: Terms) -> Accepted:
        """Take over the driver's terms, or say why that cannot be."""
        if problem := self._objection(terms):
            return Accepted(self._node, f"worker on {self._node}: {problem}")
        if not terms.gpu:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        self._terms = terms
        return Accepted(self._node)

    @staticmethod
    def _objection(terms: Terms) -> str | None:
        if difference := terms.same.difference(Same.here()):
            return f"{difference}; install the same on every node"
        if terms.beacon is not None:
            try:
                found = terms.beacon.read_text(encoding="utf-8")
            except OSError:
                found = ""
            if found != terms.secret:
                return (
                    f"expected to see the run folder {terms.beacon.parent}, found another or none; put it with "
                    "--runs on storage that every node mounts under the same path"
                )
        return None

    def run(self, job: int, task: Sequence[Any], shard: int) -> Outcome:
        """Make one shard. task: the reference to the job's task, in a list so that it is fetched only when needed."""
        # Lost memory or a full disk is the shard's failure; what ends the process itself is a lost worker.
        with collected() as said, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", AntarWarning)
            problem = self._problem_of(job, task, shard)
        warned = [str(one.message) for one in caught if issubclass(one.category, AntarWarning)]
        return Outcome(tuple(said), tuple(warned), problem)

    def _problem_of(self, job: int, task: Sequence[Any], shard: int) -> Problem | None:
        try:
            self._loaded(job, task)(shard)
        except UserError as error:
            return Problem(str(error), True, self._node)
        except Exception:
            return Problem(traceback.format_exc(), False, self._node)
        return None

    def _loaded(self, job: int, task: Sequence[Any]) -> ShardTask:
        assert self._terms is not None  # the driver sends its terms first
        if self._job == job and self._task is not None:
            return self._task
        import ray

        self._task = None  # the other job's weights go before this one's come
        _free_memory()
        self._terms.threads.use()
        fetched: ShardTask = ray.get(task[0])
        self._job, self._task = job, fetched
        return fetched


def _ip_address() -> str:
    from ray.util import get_node_ip_address

    return get_node_ip_address()


def _free_memory() -> None:
    gc.collect()
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
