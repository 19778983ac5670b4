"""JSON lines that carry a checksum of themselves, so that a flipped byte inside a line is a damaged line.

The checksum is the last field, `sum`: the first 16 hex digits of the SHA-256 of the line without it. Lines without
one, from before there was one, are read as they are.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

_SUM = re.compile(rb', "sum": "([0-9a-f]{16})"\}\s*$')


def sealed_line(record: Mapping[str, Any]) -> bytes:
    """`record` (not empty) as one line with its checksum and its newline."""
    body = json.dumps(record, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace")
    return body[:-1] + b', "sum": "' + _checksum(body) + b'"}\n'


def read_line(line: bytes) -> dict[str, Any] | None:
    """The object in `line`, without its checksum; None for a line that is damaged or is none."""
    if found := _SUM.search(line):
        line = line[: found.start()] + b"}"
        if _checksum(line) != found.group(1):
            return None
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest()[:16].encode()
