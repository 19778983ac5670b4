"""Antar processes by the hundred: one process imports what antar needs, and forks a fresh antar for every command.

Each antar is a process of its own, with its own working folder, output and fate; only the seconds that importing
takes are saved. Nothing is computed before the fork, so no thread pool is lost by it.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


NEEDED = ("antar.pipeline", "antar.tables", "matplotlib.figure", "sklearn.decomposition",
          "transformers.models.qwen2.modeling_qwen2")  # fmt: skip


@dataclass
class Ended:
    """code: as a shell says it, negative for a signal; log: standard output and error; cpu: seconds."""

    code: int
    log: str
    cpu: float = 0.0

    @property
    def lines(self) -> list[str]:
        """What antar itself says at its end."""
        return [line for line in self.log.splitlines() if line.startswith("antar: ")]

    @property
    def stage(self) -> str:
        """The stage that was at work last; "start" before the first, "end" after the last."""
        at = "start"
        for line in self.log.splitlines():
            if line.startswith("  done in"):
                at = "end"
            elif line.split(":")[0] in STAGES and not line.endswith(": fresh"):
                at = line.split(":")[0]
        return at


STAGES = ("organism", "corpus", "extract", "train", "features", "interpret", "measure", "report")


@dataclass
class Nursery:
    """Use it in a `with` block."""

    process: subprocess.Popen[str] = field(init=False)

    def __enter__(self) -> Nursery:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve())], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.ask({"end": True})
        self.process.kill()  # its children are dead, and its own long goodbye is of no use
        self.process.wait()

    def start(self, *arguments: str | Path, cwd: Path, log: Path, **sabotage: Any) -> Victim:
        """sabotage: `kill_at=(stage, number[, among])` or `watch=path`, as the saboteur has them."""
        log.write_bytes(b"")
        order = {"arguments": [str(one) for one in arguments], "cwd": str(cwd), "log": str(log), **sabotage}
        return Victim(self, self.ask(order), log)

    def run(self, *arguments: str | Path, cwd: Path, **sabotage: Any) -> Ended:
        return self.start(*arguments, cwd=cwd, log=cwd / "log", **sabotage).wait()

    def ask(self, order: dict[str, Any]) -> Any:
        """One order, one answer, a line of JSON each."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@dataclass
class Victim:
    nursery: Nursery
    pid: int
    log: Path

    def wait(self) -> Ended:
        code, cpu = self.nursery.ask({"wait": self.pid})
        return Ended(code, self.log.read_text(encoding="utf-8", errors="replace"), cpu)

    @property
    def ended(self) -> bool:
        """A zombie is kept until `wait` is called."""
        return self._stat()[0] == "Z"

    def cpu(self) -> float:
        """Seconds of CPU that it has used."""
        stat = self._stat()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

    def _stat(self) -> list[str]:
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()

    def signal_after(self, number: int, seconds: float, stage: str = "", limit: float = 600) -> bool:
        """Send the signal once it has used `seconds` of CPU (since it began `stage`); False if it ended before."""
        began = 0.0 if not stage else None
        deadline = time.monotonic() + limit
        while not self.ended:
            if began is None and f"\n{stage}: " in "\n" + self.log.read_text(encoding="utf-8", errors="replace"):
                began = self.cpu()
            if (began is not None and self.cpu() - began >= seconds) or time.monotonic() > deadline:
                os.kill(self.pid, number)
                return True
            time.sleep(0.01)
        return False


def _become_antar(order: dict[str, Any]) -> int:
    import saboteur

    from antar.cli import main

    os.chdir(order["cwd"])
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.argv = ["antar", *order["arguments"]]
    run = Path(order["cwd"]) / "runs" / "kill"
    if "kill_at" in order:
        saboteur.kill_at(run, *order["kill_at"])
    if "watch" in order:
        saboteur.watch(run, Path(order["watch"]))
    try:
        main()
    except SystemExit as leaving:
        return int(leaving.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _serve() -> None:
    for needed in NEEDED:
        importlib.import_module(needed)
    born: set[int] = set()
    for line in sys.stdin:
        order = json.loads(line)
        if "end" in order:
            for pid in born:  # of tests that failed before they waited
                os.kill(pid, signal.SIGKILL)
            print("true", flush=True)
            continue
        if "wait" in order:
            _, status, used = os.wait4(order["wait"], 0)
            born.discard(order["wait"])
            print(json.dumps([os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime]), flush=True)
            continue
        if (pid := os.fork()) == 0:
            _be_born(order)
        born.add(pid)
        print(pid, flush=True)


def _be_born(order: dict[str, Any]) -> None:
    code = 1
    try:
        os.close(0)
        code = _become_antar(order)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _serve()
