"""The calls that are missing, over any number of endpoints, in one event loop; none lost, none twice.

Each endpoint has workers that take calls from one line. A call that broke goes back to its end. One whose answer
could not be used goes to its front: the server has just read that prompt and may remember it, and the call is soon
done. One that is done is written down before it counts. When every endpoint is gone for too long the round stops with
one line, and what is done stays done.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from antar.core.errors import UserError
from antar.core.progress import Bar
from antar.interpret.llm.asking import Asking, Target, schema_of
from antar.interpret.llm.calls import Call
from antar.interpret.llm.endpoint import Abilities, Endpoint, Reply, Spent
from antar.interpret.llm.faults import BadAnswer, Broken, Busy, Fault, NoEntry, Refused, Unreachable
from antar.interpret.llm.log import CallLog, FailedBy, LogWriter

ANSWERS = 3
"""So many answers that cannot be used, and a call has failed."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.25, 20.0
START_S = 15.0
"""A server that has never answered is waited for this long at most: its address may be wrong. One that says that it
is busy or still loading is there."""
HOPELESS = 20
"""So many calls that failed at the server with none answered, and something is wrong with more than the calls."""


@dataclass
class Job:
    """A call on its way. broken, bad: attempts without an answer, and with one that cannot be used.

    first_try, started: when it was first asked, by the monotonic clock and as Unix time.
    """

    key: str
    call: Call
    spent: Spent = field(default_factory=Spent)
    faults: list[str] = field(default_factory=list)
    broken: int = 0
    bad: int = 0
    first_try: float | None = None
    started: float = 0.0


class Line:
    """The calls that wait, in the order in which they came; those that go `first` before all others."""

    def __init__(self) -> None:
        self._queue: asyncio.PriorityQueue[tuple[bool, int, Job]] = asyncio.PriorityQueue()
        self._count = itertools.count()

    def add(self, job: Job, first: bool = False) -> None:
        # The count decides between equals, so that jobs are never compared.
        self._queue.put_nowait((not first, next(self._count), job))

    async def take(self) -> Job:
        return (await self._queue.get())[2]


class Round:
    """The missing calls of one `ask`.

    abilities: what servers are known to do, by address; filled in here
    answered:  how many calls of the same `ask` have an answer, from before too
    """

    def __init__(
        self,
        asking: Asking,
        targets: Sequence[Target],
        jobs: Sequence[Job],
        log: CallLog,
        bar: Bar,
        abilities: dict[str, Abilities],
        answered: int = 0,
    ) -> None:
        self.asking, self.log, self.bar, self.abilities = asking, log, bar, abilities
        self.line = Line()
        for job in jobs:
            self.line.add(job)
        self.endpoints = [
            Endpoint(target, asking.model, asking.parameters, asking.timeout_s, abilities.get(target.base_url))
            for target in targets
        ]
        self.kinds = {job.call.answer is None for job in jobs}
        self.left = len(jobs)
        self.trying = self.failed = self.hopeless = self.useless = self.broken = 0
        self.answered = answered
        self.last_answer = time.monotonic()
        self.heard = False
        self.last_said: dict[str, str] = {}
        self.over = asyncio.Event()
        self.problem: BaseException | None = None
        self.tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        async with LogWriter(self.log) as self.writer:
            for endpoint in self.endpoints:
                self._spawn(self._serve(endpoint))
            self._spawn(self._watch())
            try:
                await self.over.wait()
            finally:
                tasks = list(self.tasks)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                for endpoint in self.endpoints:
                    await endpoint.close()
        if self.problem is not None:
            raise self.problem

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._end(task.exception())

    def _end(self, problem: BaseException | None) -> None:
        self.problem = self.problem or problem
        self.over.set()

    def _give_up(self, line: str) -> None:
        kept = f" ({len(self.log):,} finished calls are kept in {self.log.path})" if len(self.log) else ""
        self._end(UserError(line + kept))

    async def _serve(self, endpoint: Endpoint) -> None:
        """One endpoint: what it can do, then its workers. One that is not there yet is waited for."""
        wait = FIRST_WAIT_S
        while True:
            self.trying += 1  # a large model may take long over its first answer; it is there all the same
            try:
                for one_token in sorted(self.kinds):
                    await endpoint.probe(one_token)
                break
            except NoEntry as fault:
                self._no_entry(endpoint, fault)
                return
            except Fault as fault:
                self.last_said[endpoint.target.base_url] = str(fault)
                self.heard = self.heard or isinstance(fault, Busy) or (isinstance(fault, Broken) and fault.loading)
            finally:
                self.trying -= 1
            await asyncio.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT_S)
        self.abilities[endpoint.target.base_url] = endpoint.abilities
        self.heard, self.last_answer = True, time.monotonic()
        for _ in range(endpoint.target.concurrency):
            self._spawn(self._work(endpoint))

    def _no_entry(self, endpoint: Endpoint, fault: NoEntry) -> None:
        """A wrong key or name is the user's to mend; other endpoints are no reason to hide it."""
        self._give_up(
            f"{endpoint.target.base_url}: expected a server of {self.asking.model} that takes the key, "
            f"found {fault}; check base_url, model and key_env in the study file"
        )

    async def _watch(self) -> None:
        """Stop when nobody has answered for longer than the study file's patience."""
        while True:
            patience = self.asking.patience_s if self.heard else min(self.asking.patience_s, START_S)
            silent = time.monotonic() - self.last_answer
            if silent > patience and not self.trying:
                said = "; ".join(f"{url}: {what}" for url, what in self.last_said.items()) or "no answer"
                self._give_up(
                    f"{self.asking.model}: expected an endpoint that answers, found none for {silent:,.0f} s "
                    f"({said}); start the server and run the same command: it goes on from here"
                )
                return
            await asyncio.sleep(min(1.0, max(0.05, patience / 10)))

    async def _work(self, endpoint: Endpoint) -> None:
        while True:
            await endpoint.limit.take()
            try:
                job = await self.line.take()
                if endpoint.limit.down:
                    self.line.add(job)
                else:
                    await self._try(endpoint, job)
            finally:
                await endpoint.limit.give_back()

    def _again(self, job: Job, wait: float = 0.0) -> None:
        """Put a call back into the line, after `wait` seconds; whichever endpoint is free takes it."""
        if wait > 0:
            asyncio.get_running_loop().call_later(wait, self.line.add, job)
        else:
            self.line.add(job)

    async def _try(self, endpoint: Endpoint, job: Job) -> None:
        if job.first_try is None:
            job.first_try, job.started = time.monotonic(), time.time()
        self.trying += 1
        try:
            reply = await endpoint.attempt(job.call, job.spent, again=job.bad > 0)
        except Fault as fault:
            self.last_said[endpoint.target.base_url] = str(fault)
            await self._faulty(endpoint, job, fault)
            return
        finally:
            self.trying -= 1
        endpoint.limit.answered(reply.seconds)
        self.last_answer = time.monotonic()
        await self._finish(job, reply, None, None)

    async def _faulty(self, endpoint: Endpoint, job: Job, fault: Fault) -> None:
        limit = endpoint.limit
        if isinstance(fault, NoEntry):
            self._no_entry(endpoint, fault)
        elif isinstance(fault, Busy):
            limit.busy(fault.wait_s)
            self._again(job)
        elif isinstance(fault, Unreachable):
            await self._out(endpoint)
            self._again(job)
        elif isinstance(fault, BadAnswer):
            # The server did its work; the answer is of no use.
            self.last_answer = time.monotonic()
            job.bad += 1
            job.faults.append(str(fault))
            self.useless += 1
            self._note()
            if job.bad >= ANSWERS:
                await self._finish(job, None, fault, "answer")
            else:
                self.line.add(job, first=True)
        elif isinstance(fault, Refused):
            job.faults.append(str(fault))
            await self._finish(job, None, fault, "server")
        else:
            await self._broken(endpoint, job, fault)

    async def _broken(self, endpoint: Endpoint, job: Job, fault: Fault) -> None:
        job.broken += 1
        job.faults.append(str(fault))
        self.broken += 1
        self._note()
        if endpoint.limit.broken(isinstance(fault, Broken) and fault.timed_out):
            await self._out(endpoint)
        if job.broken >= self.asking.attempts and await self._is_the_calls_fault(endpoint, job):
            await self._finish(job, None, fault, "server")
        else:
            # By key, so that calls that broke together do not all come back together.
            spread = 0.5 + int(job.key[:4], 16) / 2**16
            self._again(job, min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (job.broken - 1)) * spread)

    async def _is_the_calls_fault(self, endpoint: Endpoint, job: Job) -> bool:
        """A call is given up where other calls are answered: else it is the server that fails, and not the call."""
        others = job.first_try is not None and self.last_answer > job.first_try
        if others or job.broken >= 4 * self.asking.attempts:
            return True
        # It may be the last one that is left, and nothing else is being asked.
        if not await endpoint.is_up():
            return False
        self.last_answer = time.monotonic()
        return True

    async def _out(self, endpoint: Endpoint) -> None:
        """Leave an endpoint out, and look for it until it is back."""
        if not endpoint.limit.down:
            await endpoint.limit.set_down(True)
            self._spawn(self._await_return(endpoint))

    async def _await_return(self, endpoint: Endpoint) -> None:
        wait = FIRST_WAIT_S
        while True:
            await asyncio.sleep(wait)
            if await endpoint.is_up():
                await endpoint.limit.set_down(False)
                return
            wait = min(2 * wait, LONGEST_WAIT_S)

    async def _finish(self, job: Job, reply: Reply | None, fault: Fault | None, failed_by: FailedBy | None) -> None:
        # While a slow disk is waited for, no server is silent.
        self.trying += 1
        try:
            await self.writer.append(self._record(job, reply, fault, failed_by))
        finally:
            self.trying -= 1
        if failed_by != "server":
            self.last_answer = time.monotonic()
        if failed_by is None:
            self.answered += 1
        self.failed += failed_by is not None
        self.hopeless = self.hopeless + 1 if failed_by == "server" and not self.answered else 0
        self._note()
        self.bar.advance()
        if self.hopeless >= HOPELESS:
            self._give_up(
                f"{self.asking.model}: expected answers, found that the first {self.hopeless} calls all failed "
                f"({fault}); mend the study file or the server"
            )
        self.left -= 1
        if self.left == 0:
            self.over.set()

    def _note(self) -> None:
        """What went wrong so far. Attempts too: a server that hangs and a model that says nothing of use would look
        the same."""
        counts = {"failed": self.failed, "unusable answers": self.useless, "no answer": self.broken}
        self.bar.note(", ".join(f"{what}: {count:,}" for what, count in counts.items() if count))

    def _record(
        self, job: Job, reply: Reply | None, fault: Fault | None, failed_by: FailedBy | None
    ) -> dict[str, Any]:
        call = job.call
        return {
            "key": job.key,
            "role": call.role,
            "about": call.about,
            "answer": reply.answer if reply else None,
            "score": reply.score if reply else None,
            "failed": str(fault) if fault else None,
            "failed_by": failed_by,
            "model": self.asking.model,
            "revision": self.asking.revision,
            "prompt": call.prompt,
            "prompt_sha256": call.prompt_sha256,
            "parameters": dict(self.asking.parameters),
            "schema": schema_of(call),
            "inputs": dict(call.inputs),
            "reply": reply.facts if reply else None,
            "attempts": [*job.faults, *(["answered"] if reply else [])],
            "usage": vars(job.spent).copy(),
            "seconds": round(reply.seconds, 4) if reply else 0.0,
            "started": round(job.started, 3),
            "finished": round(time.time(), 3),
        }
