"""Compiled kernels: lazily imported, cached where there is a place for it, absent without harm."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from antar.core import jit
from antar.core.errors import AntarWarning

KERNELS = """
from antar.core.jit import REASSOCIATE, jit

@jit()
def larger(a, b):
    return a if a > b else b

@jit()
def largest(values_n, out_1):
    best = values_n[0]
    for value in values_n:
        best = larger(best, value)
    out_1[0] = best

@jit(fastmath=REASSOCIATE)
def total(values_n, out_1):
    out_1[0] = 0.0
    for value in values_n:
        out_1[0] += value

@jit()
def share(part, whole, out_1):
    out_1[0] = part / whole
"""
USE = """
import numpy as np, kernels
out = np.zeros(1)
kernels.largest(np.array([1.0, 7.0, 3.0]), out)
assert out[0] == 7
kernels.total(np.array([1.0, np.nan, 3.0]), out)
assert np.isnan(out[0])
print(sum(kernels.largest.stats.cache_hits.values()), kernels.largest._cache.cache_path)
"""


def python(code: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(Path(jit.__file__).parents[2]), str(cwd)])
    env = {**os.environ, "PYTHONPATH": paths, **environment}
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, env=env, capture_output=True, text=True, check=True)


@pytest.fixture
def kernels(tmp_path: Path) -> Path:
    pytest.importorskip("numba")
    (tmp_path / "kernels.py").write_text(KERNELS, encoding="utf-8")
    return tmp_path


def test_importing_antar_imports_no_numba(tmp_path: Path) -> None:
    rooms = "antar, antar.features, antar.dictionaries, antar.pipeline, antar.cli, antar.core.jit"
    done = python(f"import sys, {rooms}; print('numba' in sys.modules)", tmp_path)
    assert done.stdout.split() == ["False"]


def test_kernels_are_compiled_once_and_then_read_from_the_cache(kernels: Path) -> None:
    first, again = (python(USE, kernels).stdout.split() for _ in range(2))
    assert first[0] == "0" and again[0] == "1"
    assert Path(again[1]) == kernels / "__pycache__"


def test_an_edit_of_a_helper_in_another_file_compiles_its_kernels_again(kernels: Path) -> None:
    """Numba's own key is the kernel's file; a stale kernel would go on with the old helper."""
    head = "from antar.core.jit import jit\n"
    caller = f"{head}from helper import more\n\n@jit()\ndef twice(x):\n    return more(x) + more(x)\n"
    (kernels / "caller.py").write_text(caller)
    helper, found = kernels / "helper.py", []
    for step in (1, 2):
        helper.write_text(f"{head}\n@jit()\ndef more(x):\n    return x + {step}\n")
        found.append(python("import caller; print(caller.twice(10))", kernels).stdout.strip())
    assert found == ["22", "24"]


def test_a_folder_that_cannot_be_written_sends_the_cache_to_the_user_or_nowhere(kernels: Path) -> None:
    blocked = kernels / "__pycache__"
    blocked.write_text("a file where the cache's folder would be", encoding="utf-8")
    user = kernels / "user"
    assert str(user) in python(USE, kernels, XDG_CACHE_HOME=str(user), HOME=str(user)).stdout
    nowhere = blocked / "below-a-file"
    uncached = USE.rsplit("\n", 2)[0] + "\nprint(type(kernels.largest._cache).__name__)"
    done = python(uncached, kernels, XDG_CACHE_HOME=str(nowhere), HOME=str(nowhere))
    assert done.stdout.split() == ["NullCache"]


def test_numba_is_reported_absent_where_it_does_not_import(monkeypatch: pytest.MonkeyPatch) -> None:
    jit.have_numba.cache_clear()
    monkeypatch.setattr(jit.importlib.util, "find_spec", lambda _: None)
    assert not jit.have_numba()
    jit.have_numba.cache_clear()
    monkeypatch.setattr(jit.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.warns(AntarWarning, match="does not import"):
        assert not jit.have_numba()
    jit.have_numba.cache_clear()


def test_numba_that_may_not_compile_counts_as_absent(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    done = python("from antar.core.jit import have_numba; print(have_numba())", tmp_path, NUMBA_DISABLE_JIT="1")
    assert done.stdout.split() == ["False"]


def test_division_by_zero_is_that_of_numpy(kernels: Path) -> None:
    code = "import numpy as np, kernels; out = np.zeros(1); kernels.share(1.0, 0.0, out); print(out[0])"
    assert python(code, kernels).stdout.split() == ["inf"]
