"""What cards say of dictionaries that others trained: their source's words, and never the study's recipe."""

from __future__ import annotations

from antar.core.origin import Origin
from antar.core.sites import DictionaryId
from antar.run import Run
from antar.share.checkpoints import HUB_NAME

_ANTARS = ("antar-organism-", "antar-sham/")
"""How antar's exports call checkpoints that it made: names that the hub does not know."""


def imported_ids(run: Run) -> list[DictionaryId]:
    return [one for one in run.dictionary_ids if one.is_imported] if run.has("dictionaries") else []


def imported_words(run: Run, one: DictionaryId, origin: Origin) -> str:
    """The first paragraph of its card."""
    place = f", layer {one.layer}" + (f" of {origin.read_on}, by its name another model" if origin.read_on else "")
    return (
        f"A dictionary that was {origin.line} into antar's study {run.study['study']}, and measured there on "
        f"{one.trained_on}{place}. antar did not train it here: by whom, on what and how it was trained is in its "
        "source's metadata, in cfg.json under about, as far as the source says it. "
        "Width, latents and k below are its own."
    )


def source_model(origin: Origin) -> str | None:
    """The model of its source where that has the form of a name on the hub."""
    name = origin.model
    return name if name and HUB_NAME.fullmatch(name) and not name.startswith(_ANTARS) else None
