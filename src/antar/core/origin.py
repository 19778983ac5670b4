"""Where a dictionary that others trained came from, in the words of its source.

An imported dictionary was trained on another model, with another recipe, than the study's: whatever speaks of it (the
report, cards, SAELens's metadata) must say the source's and not the study's. What the source said is kept as JSON, in
the dictionary's `cfg.json` under `about` and in its `metrics.json` under `imported`; it is data, and not trusted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FOLDER_KEY = "imported_from"
"""Under `about`: the last name of the folder that it was read from."""

READ_ON_KEY = "read_on"
"""Under `about`: the checkpoint that it is read on here, where its source names another model."""


@dataclass(frozen=True)
class Origin:
    """folder: the last name of where it was read from, or None; metadata: what its source said, as JSON
    read_on: the checkpoint that it is read on here, where its source names another model"""

    folder: str | None
    metadata: Mapping[str, Any]
    read_on: str | None = None

    @property
    def model(self) -> str | None:
        """The model that it was trained on, as its source calls it; None where it does not say."""
        return _text(self.metadata.get("model_name"))

    @property
    def hook(self) -> str | None:
        return _text(self.metadata.get("hook_name"))

    @property
    def antar(self) -> Mapping[str, Any]:
        """What antar said of it, where antar trained it; empty elsewhere."""
        said = self.metadata.get("antar")
        return said if isinstance(said, Mapping) else {}

    @property
    def line(self) -> str:
        """`imported from theirs (source model a/b, hook blocks.1.hook_resid_post)`."""
        model = f"source model {self.model}" if self.model else "its source names no model"
        hook = f"hook {self.hook}" if self.hook else "no hook named"
        side, layer = self.antar.get("side"), self.antar.get("layer")
        trained = f", trained by antar on {side}, layer {layer}" if side is not None and layer is not None else ""
        return f"imported from {self.folder or 'a folder'} ({model}, {hook}{trained})"


def origin_of(about: Mapping[str, Any]) -> Origin:
    """What `about` (of cfg.json, or `imported` of metrics.json) says; empty where it says nothing."""
    metadata = about.get("metadata")
    return Origin(
        _text(about.get(FOLDER_KEY)), metadata if isinstance(metadata, Mapping) else {}, _text(about.get(READ_ON_KEY))
    )


def _text(value: Any) -> str | None:
    return " ".join(value.split()) or None if isinstance(value, str) else None
