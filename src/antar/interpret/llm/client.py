"""Many calls to one model. What the log knows is not asked again; what is asked is in the log before it counts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

from antar.core.progress import progress
from antar.interpret.llm.asking import Asking
from antar.interpret.llm.calls import Call, Outcome
from antar.interpret.llm.endpoint import Abilities
from antar.interpret.llm.log import CallLog
from antar.interpret.llm.round import Job, Round


class Client:
    """Asks one model. Servers are asked once what they can do, and the answer is kept.

    used: the keys of all calls that were asked for, in order
    """

    def __init__(self, asking: Asking) -> None:
        self.asking = asking
        self.abilities: dict[str, Abilities] = {}
        self.used: dict[str, None] = {}

    def ask(self, calls: Sequence[Call], log: CallLog, title: str) -> list[Outcome]:
        """An outcome for each call, in order. Raises UserError when no endpoint can be used; what was answered by
        then is in the log."""
        keys = [self.asking.key(call) for call in calls]
        self.used |= dict.fromkeys(keys)
        missing = {key: Job(key, call) for key, call in zip(keys, calls, strict=True) if key not in log.entries}
        if missing:
            kept = [log.entries[key] for key in set(keys) - set(missing)]
            answered = sum(entry.outcome.answer is not None for entry in kept)
            targets = self.asking.connect()
            with progress(title, len(set(keys)), "calls") as bar:
                bar.advance(len(set(keys)) - len(missing))
                jobs = list(missing.values())
                _in_a_loop(lambda: Round(self.asking, targets, jobs, log, bar, self.abilities, answered).run())
        return [log.entries[key].outcome for key in keys]


def _in_a_loop(work: Callable[[], Any]) -> None:
    """Run a coroutine to its end, also where an event loop is running already (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(work())
        return
    problems: list[BaseException] = []

    def alone() -> None:
        try:
            asyncio.run(work())
        except BaseException as error:  # handed on to the caller's thread
            problems.append(error)

    thread = threading.Thread(target=alone)
    thread.start()
    thread.join()
    if problems:
        raise problems[0]
