"""The checkpoints of a run as others name them: hub names where they are ones, never a path of this machine."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from antar.core.sites import DictionaryId
from antar.run import Run
from antar.stages.export import saelens_metadata

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Checkpoint:
    """side; name: what people call it; hub: its name on the hub, or None for one that is not known to be there"""

    side: str
    name: str
    hub: str | None
    revision: str | None

    @property
    def slug(self) -> str:
        """The name as Neuronpedia takes it: lower case letters, digits, `-`, `_`."""
        last = self.hub.rsplit("/", 1)[-1] if self.hub else self.name
        return re.sub(r"[^a-z0-9_-]+", "-", last.lower()).strip("-") or self.side


def checkpoint_of(run: Run, side: str) -> Checkpoint:
    models = run.study["models"]
    called = run.names.get(side, side)
    given = models.get(side)
    if models.get("organism") or not isinstance(given, dict):
        name = called if called != side else f"antar-organism/{side}"
        return Checkpoint(side, name, None, None)
    path = str(given["path"])
    revision = given.get("revision")
    commit = run.lock.get("revisions", {}).get(f"{path}@{revision or 'main'}")
    on_hub = HUB_NAME.fullmatch(path) is not None and not Path(path).exists()
    name = called if called != side else (path if on_hub else Path(path).name)
    return Checkpoint(side, name, path if on_hub else None, (commit or revision) if on_hub else None)


def sides_of(dictionary: DictionaryId) -> tuple[str, ...]:
    """The checkpoints whose activations a dictionary takes."""
    if dictionary.site.difference:
        return dictionary.site.difference
    return ("base", "chat") if dictionary.trained_on == "joint" else (dictionary.trained_on,)


def hook_of(run: Run, dictionary: DictionaryId) -> str | None:
    """TransformerLens's name of where a dictionary reads; None for one that belongs to no single model."""
    return saelens_metadata(run, dictionary)["hook_name"]


def takes(dictionary: DictionaryId) -> str:
    """What a dictionary encodes, in words."""
    if dictionary.site.difference:
        return " minus ".join(dictionary.site.difference)
    if dictionary.trained_on == "joint":
        return "base and chat, both sides' rows" if dictionary.is_joint_rows else "base and chat, side by side"
    return dictionary.trained_on
