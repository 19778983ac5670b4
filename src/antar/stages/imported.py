"""Dictionaries that others trained: read from the folders that a study file names, and checked.

A folder is SAELens's or one that `antar import` wrote. What it is read from counts for freshness by its files'
sha256, not by its path: the same folder elsewhere is the same dictionary. What it says of itself is held against
where the study file puts it, so that a dictionary of another layer or of another place in the block is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from antar.core.errors import UserError
from antar.core.hashing import sha256_file
from antar.core.progress import say
from antar.core.sites import DictionaryId
from antar.dictionaries import Dictionary, TopK, load_dictionary
from antar.dictionaries.config import ImportedDictionary
from antar.dictionaries.files import CONFIG_FILE, FORMAT, WEIGHTS_FILE
from antar.dictionaries.saelens import SCALER_FILE, as_dictionary, read_saelens
from antar.stages.context import Context

_READ_FROM = (CONFIG_FILE, WEIGHTS_FILE, SCALER_FILE)
_BLOCK = re.compile(r"blocks\.(\d+)\.hook_resid_(pre|post)")
"""TransformerLens's names of the residual stream; what block L gives (`post`) is what block L + 1 takes (`pre`)."""
_MODULE = re.compile(r"(?:[A-Za-z_]+\.)*(?:layers|h|blocks)\.(\d+)")
"""The names of whole blocks in transformers' checkpoints, e.g. `model.layers.6`."""


def entry_of(context: Context, one: DictionaryId) -> ImportedDictionary:
    """What the study file says of the imported dictionary `one`."""
    given = context.study.dictionaries.imported
    return next(each for each in given if (each.side, each.layer, each.kind) == (one.trained_on, one.layer, one.kind))


def imported_ids(context: Context) -> list[DictionaryId]:
    return [one for one in context.dictionary_ids() if one.is_imported]


def source_inputs(context: Context, one: DictionaryId) -> dict[str, str]:
    """File → sha256, of what `one` is read from. Raises UserError where there is no dictionary."""
    folder = _folder(context, one)
    found = {name: folder / name for name in _READ_FROM if (folder / name).is_file()}
    if CONFIG_FILE not in found or WEIGHTS_FILE not in found:
        read_imported(context, one)  # says in one line what is wrong
    return {f"{entry_of(context, one).name}/{name}": sha256_file(path) for name, path in found.items()}


def read_imported(
    context: Context, one: DictionaryId, width: int | None = None
) -> tuple[Dictionary, Mapping[str, Any]]:
    """The dictionary itself, and what its folder says about it. Raises UserError for a folder that is broken, no
    dictionary, of another place than the study file says, or of another width than its activations' `width`.
    """
    entry, folder = entry_of(context, one), _folder(context, one)
    about = _own_words(folder)
    if about is None:
        found = read_saelens(folder)
        dictionary, about = as_dictionary(folder, found, entry.k, "k under dictionaries.imported"), found.about
    else:
        dictionary = load_dictionary(folder)
    if not isinstance(dictionary, TopK) or dictionary.kind == "crosscoder":
        raise UserError(f"{folder}: expected a dictionary of one side's activations, found a {dictionary.kind}")
    if width is not None and dictionary.d_model != width:
        raise UserError(
            f"{folder}: expected a dictionary of width {width}, as the activations of {one.site} have, found "
            f"{dictionary.d_model}; it is of another model: name it on the side that it was trained on"
        )
    _check_place(folder, one, about)
    return dictionary, about


def check_imported(context: Context) -> None:
    """Read every imported dictionary before anything long is run."""
    for one in imported_ids(context):
        read_imported(context, one)
    if imported_ids(context) and context.study.extract.pooling != "none":
        say(
            f"  imported dictionaries read the {context.study.extract.pooling} of each text's tokens here; one that "
            "was trained on single tokens is better read with extract.pooling: none"
        )


def _folder(context: Context, one: DictionaryId) -> Path:
    return context.study_folder / Path(entry_of(context, one).path).expanduser()


def _own_words(folder: Path) -> Mapping[str, Any] | None:
    """What a dictionary of antar's own format says about itself; None for any other folder."""
    try:
        config = json.loads((folder / CONFIG_FILE).read_bytes())
    except (OSError, ValueError):
        return None
    own = isinstance(config, dict) and config.get("format") == FORMAT
    about = config.get("about") if own else None
    return (about if isinstance(about, dict) else {}) if own else None


def _check_place(folder: Path, one: DictionaryId, about: Mapping[str, Any]) -> None:
    """Refuse what says of itself that it was trained elsewhere than where the study file puts it."""
    metadata = about.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    hook, ours = metadata.get("hook_name"), metadata.get("antar")
    if isinstance(hook, str) and hook:
        _check_hook(folder, one, hook)
    if isinstance(ours, dict) and {"side", "layer"} <= ours.keys():
        said, wanted = (ours["side"], ours["layer"]), (one.trained_on, one.layer)
        if said != wanted:
            raise UserError(
                f"{folder}: expected a dictionary of {one.site}, as dictionaries.imported says, found one that antar "
                f"trained on {said[0]}, layer {said[1]}; say so there"
            )


def _check_hook(folder: Path, one: DictionaryId, hook: str) -> None:
    block, module = _BLOCK.fullmatch(hook), _MODULE.fullmatch(hook)
    if block is not None:
        layer = int(block[1]) - (block[2] == "pre")
    elif module is not None:
        layer = int(module[1])
    else:
        raise UserError(
            f"{folder}: expected a dictionary of the output of whole blocks (blocks.{one.layer}.hook_resid_post), "
            f"found one of {hook}; antar reads no other place"
        )
    if layer != one.layer:
        raise UserError(
            f"{folder}: expected a dictionary of layer {one.layer}, as dictionaries.imported says, found {hook}, the "
            f"output of block {layer}; set layer: {layer}, and have it in extract.layers"
        )
