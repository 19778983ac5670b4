"""What must not leave this machine: where its files lie is taken out, and a key is a refusal.

A path says who works where, and means nothing elsewhere; of it the last name stays. A key that was pushed is lost,
and no cleaning is sure to find all of it, so whoever pushes must take it out.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any

import yaml

from antar.core.errors import UserError
from antar.core.hashing import sha256_json
from antar.core.lines import read_line, sealed_line
from antar.core.manifest import Manifest

_WHOLE = re.compile(r"(?:file://)?(?:/[^/\s]+|~|[A-Za-z]:[\\/]|\\\\)[\\/]?\S.*", re.DOTALL)
"""A value that is an absolute path; one that is inside a sentence begins in a folder that such paths begin in."""
_INSIDE = re.compile(
    r"(?<![\w./:-])(?:file://)?(?:~|/(?:home|Users|root|mnt|media|tmp|var|opt|srv|usr|private|Volumes|data|scratch|work|"
    r"workspace|content|kaggle|gpfs|lustre|nfs|net))/[^\s\"'`,;()<>]+"
)
_HAS_FOLDERS = re.compile(r"[\\/]")
_KEYS = {
    "a token of the Hugging Face hub": re.compile(r"\bhf_[A-Za-z0-9]{20,}"),
    "an API key": re.compile(r"\b(?:sk|pk|rk)-[A-Za-z0-9_-]{20,}|\bAIza[\w-]{30,}|\bgsk_[A-Za-z0-9]{20,}"),
    "a token of GitHub": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,})"),
    "a key of a cloud": re.compile(r"\bAKIA[0-9A-Z]{16}\b"),
    "a token of Slack": re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,}"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY"),
}
_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD", re.IGNORECASE)
_PATH_FIELDS = ("labeller", "validator", "predictor", "version")
"""Fields of a record of `interpret/` that name a model, which may be a file; the others are words."""


def without_paths(value: Any) -> Any:
    """`value` (as of JSON) with every absolute path shortened to its last name, behind an ellipsis."""
    if isinstance(value, str):
        return _without_path(value)
    if isinstance(value, Mapping):
        return {_without_path(str(key)): without_paths(one) for key, one in value.items()}
    return [without_paths(one) for one in value] if isinstance(value, list) else value


def is_path(text: str) -> bool:
    """Whether all of `text` is an absolute path of more than one name."""
    return _WHOLE.fullmatch(text) is not None and len(_HAS_FOLDERS.findall(text)) > 1


def _without_path(text: str) -> str:
    if is_path(text) and "\n" not in text:
        return _last(text)
    return _INSIDE.sub(lambda found: _last(found[0]), text)


def _last(path: str) -> str:
    return "…/" + re.split(r"[\\/]", path.rstrip("\\/"))[-1]


def refuse_keys(name: str, data: bytes) -> None:
    """Raises UserError where `data`, the file `name`, holds what looks like a key, or a secret of the environment."""
    text = data.decode("utf-8", "replace")
    found = next((what for what, pattern in _KEYS.items() if pattern.search(text)), None)
    if found is None:
        held = ((key, value) for key, value in os.environ.items() if _SECRET_NAME.search(key))
        found = next((f"what ${key} holds" for key, value in held if len(value) >= 12 and value in text), None)
    if found:
        raise UserError(f"{name}: expected no secrets, found {found}; take it out, and change it if others saw it")


def cleaned(name: str, data: bytes) -> bytes:
    """The file `name` without paths; the same bytes where there was none. Seals are made again."""
    if name.endswith(".json"):
        before = json.loads(data)
        after = without_paths(before)
        return data if after == before else _dump(_resealed(name, after))
    if name.endswith(".yaml"):
        before = yaml.safe_load(data)
        after = without_paths(before)
        return data if after == before else yaml.safe_dump(after, allow_unicode=True, sort_keys=False).encode()
    return b"".join(map(_clean_line, data.splitlines(keepends=True))) if name.endswith(".jsonl") else data


def _clean_line(line: bytes) -> bytes:
    record = read_line(line)
    if record is None:
        return line
    clean = record | {key: without_paths(record[key]) for key in _PATH_FIELDS if key in record}
    return line if clean == record else sealed_line(clean)


def _resealed(name: str, value: Any) -> Any:
    if name.endswith("manifest.json"):
        return Manifest.model_validate(value).sealed().model_dump(mode="json")
    if name.rsplit("/", 1)[-1] == "study.lock.json" and "seal" in value:
        rest = {key: one for key, one in value.items() if key != "seal"}
        return rest | {"seal": sha256_json(rest)}
    return value


def _dump(value: Any) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n").encode()
