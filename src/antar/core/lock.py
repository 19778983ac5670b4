"""One antar at a time in a run folder.

The lock is the kernel's (`flock` on `.lock`): it ends with the process that holds it, however that ends, so a dead
run blocks nobody. What the file says (who, where, since when, doing what) is for the person who is told to wait.

On NFS, Linux turns `flock` into a lock of the server's, which also holds between hosts; one of a host that died is
given up by the server (NFSv4: after its lease, about 90 s). Mounts with `nolock` or `local_lock=flock`, and Lustre
without `-o flock`, know locks of one host only, or none: there antar says so and goes on.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import platform
import shlex
import sys
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime
from io import FileIO
from pathlib import Path

from antar.core.errors import UserError
from antar.core.progress import say

LOCK_NAME = ".lock"
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL}
"""What `flock` answers where the file system has none."""


@contextmanager
def only_process(folder: Path) -> Generator[None]:
    """Hold the lock of the run in `folder` while the block runs.

    Raises UserError when another process has it (the line says which), and for a folder that cannot be written.
    """
    try:
        # Not "w": it would wipe what the holder says of itself before we know that there is none.
        handle = (folder / LOCK_NAME).open("a+b", buffering=0)
    except OSError as error:
        raise UserError(
            f"{folder}: expected a run folder that can be written, found: {error.strerror or error}; make it "
            "writable, or name another place with --runs (`antar show` and `antar plan` only read)"
        ) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{folder}: {_holder(handle)} works here; wait for it or stop it") from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            say(f"{folder}: this file system has no locks; see to it that no other antar works here")
        _write_holder(handle)
        yield
        _clear(handle)


def _write_holder(handle: FileIO) -> None:
    program = Path(sys.argv[0]).name
    holder = {
        "pid": os.getpid(),
        "host": platform.node(),
        "since": datetime.now().astimezone().isoformat(sep=" ", timespec="seconds"),
        "command": shlex.join(["antar" if program in ("", "-c") else program, *sys.argv[1:]]),
    }
    with contextlib.suppress(OSError):  # a disk that is full must not keep anybody out
        handle.truncate(0)
        handle.write((json.dumps(holder, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace"))


def _clear(handle: FileIO) -> None:
    with contextlib.suppress(OSError):
        handle.truncate(0)


def _holder(handle: FileIO) -> str:
    """Who has the lock, as far as the file says."""
    try:
        handle.seek(0)
        said = json.loads(handle.read())
        return f"process {said['pid']} on {said['host']} (since {said['since']}: {said['command']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another antar process"
