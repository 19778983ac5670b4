"""What a disk has against being written, told as one line.

A full disk, a quota and a read-only mount are the user's to mend, so they are a `UserError` with the file's name.
Libraries written in Rust (safetensors, polars, tokenizers) report them in words; their error number is read there.
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from antar.core.errors import UserError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE}
_RUST = re.compile(r"\(os error (\d+)\)")


def disk_error(error: BaseException, path: Path | str | None = None) -> UserError | None:
    """The line for a disk that could not be written; None for an error of another kind.

    path: what was being written, where the error itself does not say.
    """
    if isinstance(error, UserError):
        return None
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (said := _RUST.search(str(error))):
        number = int(said.group(1))
    if number not in _FULL | _REFUSED:
        return None
    assert number is not None  # None is in neither set
    where = path or (error.filename if isinstance(error, OSError) else None) or "a file of the run"
    mend = "make room" if number in _FULL else "make it writable"
    return UserError(
        f"{where}: expected a disk that can be written, found: {os.strerror(number)}; {mend} and run the same "
        "command: it goes on from here"
    )
