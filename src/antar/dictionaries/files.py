"""A dictionary's folder: `cfg.json` says what it is, `sae_weights.safetensors` holds its tensors.

Every kind of dictionary is written and checked here, so that what antar does not understand is refused alike.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from antar.core.atomic import write_json, write_safetensors
from antar.core.errors import UserError

FORMAT = "antar.dictionary"
VERSION = 1
CONFIG_FILE = "cfg.json"
WEIGHTS_FILE = "sae_weights.safetensors"
PICKLES = {".pt", ".pth", ".pkl", ".pickle", ".bin"}
UNIT_TOLERANCE = 1e-4


def write_dictionary(
    folder: Path,
    architecture: str,
    sizes: Mapping[str, int],
    tensors: Mapping[str, np.ndarray],
    about: Mapping[str, Any] | None,
) -> None:
    """Write both files. `sizes` are d_model, n_latents and k; `about` is JSON that a reader of cfg.json may want."""
    write_safetensors(folder / WEIGHTS_FILE, tensors)
    write_json(
        folder / CONFIG_FILE,
        {
            "format": FORMAT,
            "version": VERSION,
            "architecture": architecture,
            **sizes,
            "dtype": "float32",
            "normalisation": "folded",
            "about": dict(about or {}),
        },
    )


def read_object(folder: Path, missing: str, again: str) -> dict[str, Any]:
    """The JSON object in `folder`'s `cfg.json`. `missing` and `again` end the lines that say what was expected where
    there is none, and what to do with one that is broken."""
    path = folder / CONFIG_FILE
    refuse_pickles(folder)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{folder}: expected {missing}") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: expected JSON, found {error}; {again}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path}: expected a JSON object, found {type(found).__name__}; {again}")
    return found


def refuse_pickles(folder: Path) -> None:
    """A clear line where what was given is a pickle, or holds one in the place of the weights."""
    if (folder / WEIGHTS_FILE).is_file():
        return
    held = [folder] if folder.is_file() else sorted(folder.glob("*")) if folder.is_dir() else []
    found = next((path.name for path in held if path.suffix in PICKLES), None)
    if found:
        raise UserError(
            f"{folder}: expected {CONFIG_FILE} and {WEIGHTS_FILE}, found {found}; antar opens no pickles, since they "
            "can run code: load it with the tool that wrote it and save it as safetensors"
        )


def read_config(folder: Path, architectures: tuple[str, ...]) -> dict[str, Any]:
    """The checked `cfg.json` of `folder`. Raises a one-line UserError for anything that is not understood."""
    path = folder / CONFIG_FILE
    config = read_object(folder, f"a dictionary ({CONFIG_FILE}), found none; train it first", "train it again")
    wanted: dict[str, tuple[Any, ...]] = {
        "format": (FORMAT,),
        "version": (VERSION,),
        "architecture": architectures,
        "dtype": ("float32",),
        "normalisation": ("folded",),
    }
    for key, known in wanted.items():
        if config.get(key) not in known:
            raise UserError(
                f"{path}: expected {key} {' or '.join(map(repr, known))}, found {config.get(key)!r}; "
                "open it with the antar that wrote it, or train it again"
            )
    return config


def read_sizes(folder: Path, config: Mapping[str, Any]) -> tuple[int, int, int]:
    """(d_model, n_latents, k) as `config` states them."""
    d_model, n_latents, k = (_positive(config, name, folder) for name in ("d_model", "n_latents", "k"))
    if k > n_latents:
        raise UserError(f"{folder / CONFIG_FILE}: expected k of at most n_latents = {n_latents}, found {k}")
    return d_model, n_latents, k


def _positive(config: Mapping[str, Any], name: str, folder: Path) -> int:
    value = config.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UserError(f"{folder / CONFIG_FILE}: expected {name} to be a positive whole number, found {value!r}")
    return value


def read_tensors(folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Exactly the float32 tensors that `shapes` names, finite, with decoder rows (`W_dec`) of unit length."""
    path = folder / WEIGHTS_FILE
    try:
        with safe_open(path, framework="numpy") as handle:
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: expected a whole safetensors file, found {error}; train it again") from error
    if tensors.keys() != shapes.keys():
        raise UserError(f"{path}: expected the tensors {', '.join(shapes)}, found {', '.join(sorted(tensors))}")
    for name, shape in shapes.items():
        array = tensors[name]
        if array.shape != shape or array.dtype != np.float32:
            raise UserError(
                f"{path}: expected {name} to be float32 {list(shape)} as {CONFIG_FILE} says, "
                f"found {array.dtype} {list(array.shape)}"
            )
        if not np.isfinite(array).all():
            raise UserError(f"{path}: expected finite numbers in {name}, found NaN or infinity; train it again")
    lengths_n = np.linalg.norm(tensors["W_dec"].astype(np.float64), axis=1)
    if np.abs(lengths_n - 1).max() > UNIT_TOLERANCE:
        row = int(np.abs(lengths_n - 1).argmax())
        raise UserError(
            f"{path}: expected decoder rows of unit length, found {lengths_n[row]:.4g} in row {row}; "
            "train the dictionary again"
        )
    return tensors
