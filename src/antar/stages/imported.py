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
from antar.core.manifest import MANIFEST_NAME, read_manifest
from antar.core.origin import FOLDER_KEY, READ_ON_KEY, origin_of
from antar.core.progress import say
from antar.core.sites import DictionaryId
from antar.dictionaries import Dictionary, TopK, load_dictionary
from antar.dictionaries.config import ImportedDictionary
from antar.dictionaries.files import CONFIG_FILE, FORMAT, WEIGHTS_FILE
from antar.dictionaries.saelens import SCALER_FILE, as_dictionary, read_saelens
from antar.models.config import ModelConfig
from antar.organisms.config import TinyConfig
from antar.organisms.smollm2 import WIDTH as SMOLLM2_WIDTH
from antar.stages.context import Context

_READ_FROM = (CONFIG_FILE, WEIGHTS_FILE, SCALER_FILE)
OTHER_K = 0.2
"""A measured L0 that is off the told k by more than this share of it is said."""
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
    """The dictionary itself, and what its folder says about it, with the folder's last name. Raises UserError for a
    folder that is broken, no dictionary, of another place than the study file says, or of another width than its
    activations' `width`.
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
            f"{dictionary.d_model}; it is of another model: use one of this study's model"
        )
    _check_place(folder, one, about)
    return dictionary, {FOLDER_KEY: folder.resolve().name, **about, **_read_on(context, one, about)}


def check_imported(context: Context) -> None:
    """Read every imported dictionary before anything long is run, and say which one another model's is."""
    width = known_width(context) if imported_ids(context) else None
    for one in imported_ids(context):
        _, about = read_imported(context, one, width)
        model, read_on = origin_of(about).model, about.get(READ_ON_KEY)
        if read_on is not None:
            say(f"  {one} was trained on {model}, read here on {read_on}: is that the same model?")
    if imported_ids(context) and context.study.extract.pooling != "none":
        say(
            f"  imported dictionaries read the {context.study.extract.pooling} of each text's tokens here; one that "
            "was trained on single tokens is better read with extract.pooling: none"
        )


def say_other_k(one: DictionaryId, dictionary: Dictionary, metrics: Mapping[str, Any]) -> None:
    """Say so where a dictionary with thresholds fires on far more or fewer latents than its k, which is only told."""
    l0 = metrics["parts"].get("train", {}).get("l0")
    if dictionary.kind != "topk" and l0 is not None and abs(l0 - dictionary.k) > OTHER_K * dictionary.k:
        say(
            f"  {one}: k is {dictionary.k} as told, and {l0:.4g} of its latents fire on a row here (measured L0); "
            "read its numbers with that, or set k"
        )


def known_width(context: Context) -> int | None:
    """The width of the residual stream where it is known before anything is read, else None."""
    organism = context.study.models.organism
    if organism is not None:
        return organism.d_model if isinstance(organism, TinyConfig) else SMOLLM2_WIDTH
    from antar.models.pair import local_width

    return local_width(context.models()["base"])


def _read_on(context: Context, one: DictionaryId, about: Mapping[str, Any]) -> dict[str, str]:
    """`READ_ON_KEY` → the checkpoint that it is read on, where the source names another; else nothing.

    Names are compared without regard to case, and by their last part, since tools write `gpt2` and `openai/gpt2`.
    """
    said, models = origin_of(about).model, context.models()
    if said is None:
        return {}
    sides = one.site.difference or (one.trained_on,)
    known = {_last(name) for side in sides for name in (models[side].path, models[side].display)}
    # An organism's checkpoints are folders of the run; exports call them antar-organism-KIND/SIDE.
    return {} if _last(said) in known else {READ_ON_KEY: " minus ".join(_shown(models[side]) for side in sides)}


def _last(name: str) -> str:
    return name.rstrip("/").rsplit("/", 1)[-1].lower()


def _shown(model: ModelConfig) -> str:
    """What a checkpoint is called: of a folder of this machine the last name."""
    place = Path(model.path).expanduser()
    return model.name or (place.name if place.is_absolute() or place.is_dir() else model.path)


def _folder(context: Context, one: DictionaryId) -> Path:
    return context.study_folder / Path(entry_of(context, one).path).expanduser()


def _own_words(folder: Path) -> Mapping[str, Any] | None:
    """What a dictionary of antar's own format says about itself; None for any other folder."""
    try:
        config = json.loads((folder / CONFIG_FILE).read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        return None
    about = config.get("about")
    about = about if isinstance(about, dict) else {}
    # What `antar import` wrote says it; a dictionary of a run does so in the manifest beside it.
    return {"from": "antar", "metadata": {"antar": trained}} if not about and (trained := _trained(folder)) else about


def _trained(folder: Path) -> dict[str, Any] | None:
    """Where antar trained the dictionary in a run's `folder`, as the manifest there says."""
    manifest = read_manifest(folder / MANIFEST_NAME)
    try:
        one = None if manifest is None else DictionaryId.parse(manifest.artifact.rsplit("/", 1)[-1])
    except UserError:
        return None
    if one is None or one.is_imported:
        return None
    return {"dictionary": str(one), "side": one.trained_on, "layer": one.layer}


def _check_place(folder: Path, one: DictionaryId, about: Mapping[str, Any]) -> None:
    """Refuse what says of itself that it was trained elsewhere than where the study file puts it."""
    origin = origin_of(about)
    ours = origin.antar
    if origin.hook is not None:
        _check_hook(folder, one, origin.hook)
    if {"side", "layer"} <= ours.keys():
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
