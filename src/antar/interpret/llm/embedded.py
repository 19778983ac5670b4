"""A language model from a GGUF file, served by antar itself: llama.cpp's own server from the wheel `xllamacpp`.

llama.cpp is native code. It may crash, it prints, and its threads do not end on demand; so it runs in a child process
(this module, run with `-m`). The child hears its settings and its token on standard input, which then stays open:
when that closes, the child ends, and so it ends with its parent even after `kill -9`. Only the loopback is served,
with a random token, without the web UI. What the child prints goes to a temporary file without a name, and is read
when something failed.
"""

from __future__ import annotations

import http.client
import importlib
import importlib.util
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

from antar.core.errors import UserError
from antar.core.progress import say

if TYPE_CHECKING:
    from antar.interpret.llm.config import LlamaCppWorker

START_SECONDS = 120.0
"""A server that does not answer after so long has failed."""
STOP_SECONDS = 5.0
"""A child that is still there so long after it was told to end is killed."""
MAGIC = b"GGUF"
"""How a GGUF file starts."""
PACKAGE = "package:"
"""How the name of a file inside an installed package starts."""

# llama.cpp's lines: `0.00.007.544 E read: string length 20 exceeds …`, with I, W or E for how grave it is.
_GRAVE = re.compile(r"^[\d.]+ E (?:\w+ +)?(?P<text>.+)$")
_RAISED = re.compile(r"^(?P<text>(?:\w+\.)*\w+(?:Error|Exception|Exit): .+)$")
# Lines that say only that it failed, never why.
_EMPTY = re.compile(r"failed to load model|exiting due to|Failed to init server|failed to initialize the context$")


@dataclass(frozen=True)
class Served:
    """Where the server is, and what it wants to hear."""

    base_url: str
    """`http://127.0.0.1:PORT/v1`."""
    token: str = field(repr=False)
    """Its key, for this run only."""


def find_gguf(gguf: str, folder: Path) -> Path:
    """The file that `gguf` names: relative to `folder` (the study file's), or `package:NAME/FILE` inside an installed
    package, which is looked up and never imported."""
    path = _in_package(gguf) if gguf.startswith(PACKAGE) else folder / Path(gguf).expanduser()
    if not path.is_file():
        raise UserError(f"gguf: expected a file, found none at {path} (a path is relative to the study file)")
    with path.open("rb") as file:
        found = file.read(len(MAGIC))
    if found != MAGIC:
        raise UserError(
            f"gguf: expected a GGUF file, which starts with {MAGIC!r}, found {found!r} at the start of {path}: "
            "convert the weights to GGUF, or fetch the file again (a Git LFS pointer is not the file)"
        )
    return path


def _in_package(gguf: str) -> Path:
    name, _, file = gguf.removeprefix(PACKAGE).partition("/")
    if not name.isidentifier() or not file or Path(file).is_absolute() or ".." in Path(file).parts:
        raise UserError(f"gguf: expected {PACKAGE}NAME/FILE with a file inside the package, found {gguf!r}")
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # something without a spec goes by that name
        spec = None
    folders = list(spec.submodule_search_locations or ()) if spec else []
    if not folders:
        raise UserError(f"gguf: expected an installed package {name}, found none: install it, or give a file's path")
    paths = [Path(folder) / file for folder in folders]
    return next((path for path in paths if path.is_file()), paths[0])


@contextmanager
def serve_gguf(worker: LlamaCppWorker, gguf: Path) -> Generator[Served]:
    """llama.cpp's server for `gguf` while the block runs. It lists the model as `worker.model`."""
    if importlib.util.find_spec("xllamacpp") is None:
        raise UserError(
            f"llama.cpp: expected the package xllamacpp to serve {gguf.name}, found none: "
            "pip install 'antar[llamacpp]'"
        )
    token = secrets.token_urlsafe(32)
    with tempfile.TemporaryFile() as log:
        child = _start(_settings(worker, gguf, token), log)
        try:
            base_url = _wait(child, log, gguf)
            say(f"  llama.cpp: serving {worker.model}")
            try:
                yield Served(base_url=base_url, token=token)
            except Exception as error:
                if child.poll() is None:
                    raise
                raise UserError(f"llama.cpp: the server of {gguf.name} died: {_why(child, log)}") from error
        finally:
            _stop(child)


def _settings(worker: LlamaCppWorker, gguf: Path, token: str) -> dict[str, Any]:
    """What the child hears on its standard input."""
    return {
        "path": str(gguf.resolve()),
        "alias": worker.model,
        "token": token,
        "context": worker.context * worker.concurrency,  # llama.cpp divides it among the calls
        "calls": worker.concurrency,
        "threads": worker.threads or _processors(),
        "gpu_layers": worker.gpu_layers,
    }


def _processors() -> int:
    """Those that this process may use: fewer than the machine has, e.g. inside a Slurm job."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start(settings: dict[str, Any], log: IO[bytes]) -> subprocess.Popen[bytes]:
    """The child, with its settings. -P: files in the working directory are not modules."""
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "antar.interpret.llm.embedded"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env=_environment(),
    )
    assert child.stdin is not None
    with suppress(BrokenPipeError):  # it died at once: `_wait` says why
        child.stdin.write(json.dumps(settings).encode() + b"\n")
        child.stdin.flush()
    return child


def _environment() -> dict[str, str]:
    """This process's, with its import path: what it can import, its child can."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path if entry)}


def _wait(child: subprocess.Popen[bytes], log: IO[bytes], gguf: Path) -> str:
    """The server's address, as soon as it is healthy. A timer ends a child that needs too long, and so every wait."""
    assert child.stdout is not None
    until = time.monotonic() + START_SECONDS
    timer = threading.Timer(START_SECONDS, child.kill)
    timer.daemon = True
    timer.start()
    try:
        address = child.stdout.readline().decode().strip()
        while address and child.poll() is None and time.monotonic() < until:
            if _healthy(address):
                return f"{address}/v1"
            time.sleep(0.05)
    finally:
        timer.cancel()
    if time.monotonic() >= until:
        raise UserError(
            f"llama.cpp: expected an answer within {START_SECONDS:.0f} s, found none while {gguf} was loaded: "
            "take a smaller model, or a server of your own (worker.kind: llm)"
        )
    with suppress(subprocess.TimeoutExpired):
        child.wait(STOP_SECONDS)
    raise UserError(f"llama.cpp: expected a server for {gguf}, found that it died at the start: {_why(child, log)}")


def _healthy(address: str) -> bool:
    """Asked directly: a proxy has no business on the loopback."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _why(child: subprocess.Popen[bytes], log: IO[bytes]) -> str:
    """The last line of the log that says why, and the signal where one ended the child."""
    log.seek(0)
    line = last_meaningful(log.read().decode(errors="replace"))
    code = child.poll()
    if code is None or code >= 0:
        return line
    name = signal.Signals(-code).name if -code in {one.value for one in signal.Signals} else str(-code)
    return f"{line} (ended by {name})"


def last_meaningful(text: str) -> str:
    """Of llama.cpp's errors and Python's exceptions the last that says why; else the last that says anything."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    found = [match["text"] for line in lines if (match := _GRAVE.match(line) or _RAISED.match(line))]
    telling = [line for line in found if not _EMPTY.search(line)]
    return (telling or found or lines or ["it said nothing"])[-1]


def _stop(child: subprocess.Popen[bytes]) -> None:
    """End the child by one more line and the end of its input, or by force. The line, because a process that this one
    forked may keep the input open."""
    assert child.stdin is not None
    assert child.stdout is not None
    with suppress(OSError):
        child.stdin.write(b"\n")
        child.stdin.flush()
    with suppress(OSError):
        child.stdin.close()
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    finally:
        child.stdout.close()


# ------------------------------------------------------------------------------------------------- in the child


def _serve() -> None:
    """What the child does: load, say where it serves, and end when its standard input does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: it still ends the calls it has made
    parent = os.getppid()
    told = os.dup(1)
    os.dup2(2, 1)  # what llama.cpp prints goes to the log, and only the address to the parent
    settings: dict[str, Any] = json.loads(sys.stdin.buffer.readline())
    # Beside the end of the input: a process that the parent forked may hold the other end of the pipe.
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    server = _server(settings)
    os.write(told, f"{server.listening_address}\n".encode())
    os.close(told)
    sys.stdin.buffer.readline()
    os._exit(0)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)


def _server(settings: dict[str, Any]) -> Any:
    """llama.cpp's server, loaded and listening."""
    xllamacpp: Any = importlib.import_module("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = settings["path"]
    params.model_alias = {settings["alias"]}
    params.hostnames = ["127.0.0.1"]
    params.port = 0  # a free one
    params.api_keys = [settings["token"]]
    params.n_ctx, params.n_parallel = settings["context"], settings["calls"]
    # A call that was given up is let go between two batches: 2,048 tokens, llama.cpp's own number, keep a small
    # machine busy for seconds with what nobody waits for. So many are computed at once in any case.
    params.n_batch = params.n_ubatch
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings["threads"]
    params.n_gpu_layers = settings["gpu_layers"]
    params.fit_params = False  # what was asked for, or an error: never a smaller context in silence
    # A prompt whose start is remembered from another call has slightly other logits, and so another answer now and
    # then: it would depend on which calls came before. `extra_body: {cache_prompt: true}` is faster, and in the key.
    params.cache_prompt = False
    params.cache_ram_mib = 0  # no store of old prompts in memory: up to 8 GiB otherwise
    params.cache_idle_slots = False  # it needs that store
    params.verbosity = 2  # warnings and errors: a line per call would fill the log
    params.ui = params.endpoint_slots = params.endpoint_props = params.endpoint_metrics = False
    return xllamacpp.Server(params)


if __name__ == "__main__":
    _serve()
