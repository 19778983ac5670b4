"""The log of finished calls: append-only JSON lines, each on the disk before anybody is told of its answer.

One line a finished call, with everything that is needed to make it again and a checksum of its own. A torn last line
is cut off when the log is opened; a damaged line is never taken for an answer: its call is made again. Since calls
are paid for, damaged lines are kept beside the log, in `<name>.damaged`. Lines that wait together are
written together, with one fsync, so that a fast server is not slowed down by the disk.

A call that failed for a reason of the server's (it was down, it refused) is made again by the next run; its line is
taken out then, so that no key stands twice. One whose answers could not be used stays failed: the same question would
have the same answer.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from antar.core.atomic import replacing
from antar.core.errors import UserError
from antar.core.lines import read_line, sealed_line
from antar.core.progress import say
from antar.interpret.llm.calls import Outcome

FailedBy = Literal["server", "answer"]


@dataclass(frozen=True)
class Entry:
    """What the log says of one call.

    prompt_tokens, completion_tokens: of all its attempts that were answered; seconds: of the one that counted
    started, finished: Unix times of its first attempt and of its end
    """

    outcome: Outcome
    failed_by: FailedBy | None
    attempts: int
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    started: float
    finished: float

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Entry:
        usage = record["usage"]
        return cls(
            Outcome(record["answer"], record["failed"], record["score"]),
            record["failed_by"],
            len(record["attempts"]),
            usage["prompt_tokens"],
            usage["completion_tokens"],
            record["seconds"],
            record.get("started", record["finished"] - record["seconds"]),
            record["finished"],
        )


class CallLog:
    """The finished calls of one role. `entries`: key → what came of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, Entry] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._load()

    def _load(self) -> None:
        if not self.path.exists():
            return
        kept: list[bytes] = []
        damaged: list[bytes] = []
        again = 0
        whole, torn = _whole_lines(self.path.read_bytes())
        for line in whole:
            record = _parse(line)
            if record is None or record["key"] in self.entries:
                damaged.append(line)
            elif record["failed_by"] == "server":
                again += 1
            else:
                self.entries[record["key"]] = Entry.of(record)
                kept.append(line)
        if torn:
            say(f"  {self.path.name}: the last line was torn; its call is made again")
        if damaged:
            kept_in = self._aside.name
            say(f"  {self.path.name}: {len(damaged)} damaged lines (kept in {kept_in}); their calls are made again")
        if again:
            say(f"  {self.path.name}: {again} calls had failed at the server and are made again")
        if torn or damaged or again:
            self._keep_aside(damaged)
            with replacing(self.path) as temporary:
                temporary.write_bytes(b"".join(kept))

    @property
    def _aside(self) -> Path:
        return self.path.with_suffix(".damaged")

    def _keep_aside(self, lines: Sequence[bytes]) -> None:
        """Before they leave the log; lines that are there already (a kill came in between) are not written twice."""
        before = self._aside.read_bytes() if self._aside.exists() else b""
        new = [line for line in lines if line not in before]
        if new:
            with replacing(self._aside) as temporary:
                temporary.write_bytes(before + b"".join(new))

    def __len__(self) -> int:
        return len(self.entries)


class LogWriter:
    """Appends to a log from one event loop. Use it in an `async with` block, which ends when all is on the disk."""

    def __init__(self, log: CallLog) -> None:
        self._log = log
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._more = asyncio.Event()
        self._closing = False

    async def __aenter__(self) -> LogWriter:
        self._handle = self._log.path.open("ab")
        self._task = asyncio.create_task(self._write())
        return self

    async def __aexit__(self, *error: object) -> None:
        self._closing = True
        self._more.set()
        try:
            await self._task
        finally:
            self._handle.close()

    async def append(self, record: Mapping[str, Any]) -> Entry:
        """Returns when the record is on the disk."""
        line = sealed_line(record)
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((line, written))
        self._more.set()
        # A cancelled caller does not take back what is being written.
        await asyncio.shield(written)
        entry = Entry.of(record)
        self._log.entries[record["key"]] = entry
        return entry

    async def _write(self) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            batch, self._waiting = self._waiting, []
            if batch:
                problem: UserError | None = None
                try:
                    await asyncio.to_thread(self._flush, b"".join(line for line, _ in batch))
                except OSError as error:  # whoever waits must hear of it
                    problem = UserError(
                        f"{self._log.path}: expected a disk that can be written, found: {error.strerror or error}; "
                        "make room and run the same command: it goes on from here"
                    )
                for _, written in batch:
                    if not written.done():
                        written.set_exception(problem) if problem else written.set_result(None)
            if self._closing and not self._waiting:
                return

    def _flush(self, data: bytes) -> None:
        self._handle.write(data)
        self._handle.flush()
        os.fsync(self._handle.fileno())


def read_calls(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a log, whole lines only, for a reader who changes nothing."""
    if path.exists():
        for line in _whole_lines(path.read_bytes())[0]:
            record = _parse(line)
            if record is not None:
                yield record


def _whole_lines(data: bytes) -> tuple[Sequence[bytes], bytes]:
    *whole, torn = data.split(b"\n")
    return [line + b"\n" for line in whole], torn


def _parse(line: bytes) -> dict[str, Any] | None:
    record = read_line(line)
    if record is None or not isinstance(record.get("key"), str):
        return None
    try:
        Entry.of(record)
    except (KeyError, TypeError):
        return None
    return record
