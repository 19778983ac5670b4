"""Numba, where it is: one place that knows the flags of antar's compiled kernels, and what happens without them.

Numba is the optional extra `[fast]`. Importing it takes half a second, so nothing here does before a kernel is
wanted: ask `have_numba()` first, and import the module that holds the kernels only after that, inside the function
that calls them. Each kernel has a twin in plain numpy or torch, which runs where Numba is absent and which the tests
compare with.

Rules for a module of kernels:
- it is imported lazily (`if have_numba(): from antar.x.kernels import f`), since `jit` imports Numba to decorate;
- helpers that a kernel calls are decorated with `jit` too and live in the same folder: Numba's cache on disk looks at
  the kernel's own file alone, so `jit` adds the sources of its folder to the key;
- it takes arrays and scalars and writes into arrays that the caller allocated, so that the caller alone decides on
  memory; at most it returns a scalar. No kernel holds the interpreter's lock, so threads of one process run kernels
  side by side.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from antar.core.errors import AntarWarning

F = TypeVar("F", bound=Callable[..., Any])

REASSOCIATE = frozenset({"nsz", "arcp", "contract", "afn", "reassoc"})
"""LLVM's fast-math flags without `nnan` and `ninf`: sums may be reordered, NaN and infinity stay what they are.

For sums and products only. A selection takes none (`fastmath=False`), so that ties are decided as they are written.
"""


@cache
def have_numba() -> bool:
    """Whether kernels can be compiled here. Imports Numba (half a second, once) where it is installed.

    False also where Numba is told not to compile (`NUMBA_DISABLE_JIT=1`: its kernels would run as interpreted loops)
    and, with a warning, where the installed Numba does not import, as one that is too old for the installed numpy.
    """
    if importlib.util.find_spec("numba") is None:
        return False
    try:
        numba: Any = importlib.import_module("numba")
    except Exception as error:  # an incompatible numpy or llvmlite raises anything from ImportError to SystemError
        warnings.warn(f"Numba is installed but does not import ({error}); the slower code runs", AntarWarning, 2)
        return False
    return not numba.config.DISABLE_JIT


def jit(*, fastmath: bool | frozenset[str] = False) -> Callable[[F], F]:
    """Decorator: compile a kernel with antar's flags, without the interpreter's lock, cached on disk.

    fastmath: False, or `REASSOCIATE` where the order of a sum may change

    The cache lies beside the module (`__pycache__`), or where that is not writable in the user's cache folder, or in
    `NUMBA_CACHE_DIR` where it is set. Where none can be written the kernel is compiled anew in each process. Division
    by zero gives infinity or NaN as in numpy; indices are not checked, and kernels index with unsigned or `intp`
    numbers that their callers have checked.
    """
    numba: Any = importlib.import_module("numba")
    flags: dict[str, Any] = {
        "nogil": True,
        "error_model": "numpy",
        "boundscheck": False,
        "fastmath": set(fastmath) if isinstance(fastmath, frozenset) else fastmath,
    }

    def decorate(function: F) -> F:
        try:
            return _keyed_by_folder(numba.njit(cache=True, **flags)(function), function)
        except RuntimeError:  # no place for the cache: what Numba raises where neither folder can be written
            return numba.njit(cache=False, **flags)(function)

    return decorate


def _keyed_by_folder(kernel: Any, function: Callable[..., Any]) -> Any:
    """The kernel, whose place in Numba's cache now depends on every source file beside its own, for its helpers'."""
    salt = _folder_digest(Path(function.__code__.co_filename).parent)
    stored = getattr(kernel, "_cache", None)  # none where Numba does not compile
    own_key = getattr(stored, "_index_key", None)
    if stored is not None and own_key is not None:
        stored._index_key = lambda signature, codegen: (*own_key(signature, codegen), salt)
    return kernel


@cache
def _folder_digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()
