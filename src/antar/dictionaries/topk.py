"""A trained TopK dictionary: raw activations in, sparse codes out, and back.

The centre μ and scale s of training are folded into the four tensors, which is exact: with b_dec' = μ + s·b_dec and
b_enc' = s·b_enc the pre-activations are s times those of training, TopK does not see a positive scale, and
x̂ = W_decᵀ z + b_dec' is on the raw scale. So nothing has to be remembered on load, and a code's value is the
length, in activation units, that the latent adds along its unit decoder row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from antar.core.atomic import write_json, write_safetensors
from antar.core.errors import UserError
from antar.core.sparse import SparseCodes
from antar.dictionaries.loss import decode_sparse, forward
from antar.dictionaries.weights import NAMES, Weights

FORMAT = "antar.dictionary"
VERSION = 1
CONFIG_FILE = "cfg.json"
WEIGHTS_FILE = "sae_weights.safetensors"
# Pre-activations of one chunk take at most this many bytes, whatever the number of texts.
CHUNK_BYTES = 64 * 2**20
UNIT_TOLERANCE = 1e-4


@dataclass(frozen=True)
class TopK:
    """A dictionary with at most k latents a text. `weights` are float32 on the raw scale; decoder rows are unit."""

    weights: Weights
    k: int

    @property
    def n_latents(self) -> int:
        return self.weights.encoder_nd.shape[0]

    @property
    def d_model(self) -> int:
        return self.weights.encoder_nd.shape[1]

    @cached_property
    def decoder_nd(self) -> np.ndarray:
        """float32 `[n_latents, d_model]`, rows of unit length."""
        return self.weights.decoder_nd.cpu().numpy()

    def encode(self, acts_nd: np.ndarray | Tensor) -> SparseCodes:
        """Codes of raw activations `[n, d_model]`, each row's strongest latent first.

        Raises UserError for another width and for a row that is not finite, which it names.
        """
        acts = self._checked(acts_nd)
        indices_nk = np.empty((len(acts), self.k), dtype=np.int32)
        values_nk = np.empty((len(acts), self.k), dtype=np.float32)
        for rows in self._chunks(len(acts)):
            x_bd = self._on_device(acts[rows])
            out = forward(self.weights, x_bd, self.k)
            _check_finite(x_bd, rows.start)
            indices_nk[rows] = out.indices_bk.to(torch.int32).cpu().numpy()
            values_nk[rows] = out.values_bk.cpu().numpy()
        return SparseCodes(indices_nk, values_nk, self.n_latents)

    def decode(self, codes: SparseCodes) -> np.ndarray:
        """Raw reconstructions, float32 `[n, d_model]`."""
        if codes.n_latents != self.n_latents:
            raise UserError(
                f"codes: expected those of a dictionary with {self.n_latents} latents, found {codes.n_latents}; "
                "decode codes with the dictionary that made them"
            )
        device = self.weights.decoder_nd.device
        out_nd = np.empty((len(codes), self.d_model), dtype=np.float32)
        for rows in self._chunks(len(codes)):
            indices_bk = torch.as_tensor(codes.indices_nk[rows], dtype=torch.int64, device=device)
            values_bk = torch.as_tensor(codes.values_nk[rows], dtype=torch.float32, device=device)
            raw_bd = decode_sparse(indices_bk, values_bk, self.weights.decoder_nd) + self.weights.decoder_bias_d
            out_nd[rows] = raw_bd.cpu().numpy()
        return out_nd

    def save(self, folder: Path, about: Mapping[str, Any] | None = None) -> None:
        """Write `cfg.json` and `sae_weights.safetensors`. `about` is JSON that a reader of cfg.json may want."""
        tensors = {name: tensor.cpu().numpy() for name, tensor in zip(NAMES, self.weights.tensors(), strict=True)}
        write_safetensors(folder / WEIGHTS_FILE, tensors)
        write_json(
            folder / CONFIG_FILE,
            {
                "format": FORMAT,
                "version": VERSION,
                "architecture": "topk",
                "d_model": self.d_model,
                "n_latents": self.n_latents,
                "k": self.k,
                "dtype": "float32",
                "normalisation": "folded",
                "about": dict(about or {}),
            },
        )

    def _checked(self, acts_nd: np.ndarray | Tensor) -> np.ndarray | Tensor:
        if acts_nd.ndim != 2 or acts_nd.shape[1] != self.d_model:
            raise UserError(
                f"activations: expected shape [texts, {self.d_model}] as this dictionary was trained on, found "
                f"{list(acts_nd.shape)}; use the activations of the dictionary's own model and layer"
            )
        return acts_nd

    def _on_device(self, acts_bd: np.ndarray | Tensor) -> Tensor:
        plain = np.ascontiguousarray(acts_bd) if isinstance(acts_bd, np.ndarray) else acts_bd
        return torch.as_tensor(plain, dtype=torch.float32, device=self.weights.encoder_nd.device)

    def _chunks(self, n_rows: int) -> list[slice]:
        rows = max(1, CHUNK_BYTES // (4 * max(self.n_latents, self.d_model)))
        return [slice(lo, min(lo + rows, n_rows)) for lo in range(0, n_rows, rows)]


def _check_finite(x_bd: Tensor, first_row: int) -> None:
    finite_b = torch.isfinite(x_bd).all(1)
    if not bool(finite_b.all()):
        row = first_row + int((~finite_b).nonzero()[0])
        raise UserError(f"activations, row {row}: expected finite numbers, found NaN or infinity; extract them again")


def load_dictionary(folder: Path) -> TopK:
    """The dictionary in `folder`. Raises a one-line UserError for anything that it does not understand."""
    config = _read_config(folder)
    d_model, n_latents, k = (_positive(config, name, folder) for name in ("d_model", "n_latents", "k"))
    if k > n_latents:
        raise UserError(f"{folder / CONFIG_FILE}: expected k of at most n_latents = {n_latents}, found {k}")
    shapes = {
        "W_enc": (n_latents, d_model),
        "b_enc": (n_latents,),
        "W_dec": (n_latents, d_model),
        "b_dec": (d_model,),
    }
    tensors = _read_tensors(folder / WEIGHTS_FILE, shapes)
    lengths_n = np.linalg.norm(tensors["W_dec"].astype(np.float64), axis=1)
    if np.abs(lengths_n - 1).max() > UNIT_TOLERANCE:
        row = int(np.abs(lengths_n - 1).argmax())
        raise UserError(
            f"{folder / WEIGHTS_FILE}: expected decoder rows of unit length, found {lengths_n[row]:.4g} "
            f"in row {row}; train the dictionary again"
        )
    return TopK(Weights(*(torch.from_numpy(tensors[name]) for name in NAMES)), k)


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    if folder.is_file() or (folder.is_dir() and not path.is_file()):
        pickles = [folder] if folder.is_file() else sorted(folder.glob("*.p*"))
        found = next((p.name for p in pickles if p.suffix in {".pt", ".pth", ".pkl", ".pickle"}), None)
        if found:
            raise UserError(
                f"{folder}: expected {CONFIG_FILE} and {WEIGHTS_FILE}, found {found}; antar opens no pickles, since "
                "they can run code: convert it to safetensors"
            )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{folder}: expected a dictionary ({CONFIG_FILE}), found none; train it first") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: expected JSON, found {error}; train the dictionary again") from error
    if not isinstance(config, dict):
        raise UserError(f"{path}: expected a JSON object, found {type(config).__name__}; train the dictionary again")
    for key, wanted in {
        "format": FORMAT,
        "version": VERSION,
        "architecture": "topk",
        "dtype": "float32",
        "normalisation": "folded",
    }.items():
        if config.get(key) != wanted:
            raise UserError(
                f"{path}: expected {key} {wanted!r}, found {config.get(key)!r}; "
                "open it with the antar that wrote it, or train it again"
            )
    return config


def _positive(config: Mapping[str, Any], name: str, folder: Path) -> int:
    value = config.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UserError(f"{folder / CONFIG_FILE}: expected {name} to be a positive whole number, found {value!r}")
    return value


def _read_tensors(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    try:
        with safe_open(path, framework="numpy") as handle:
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118 (not a dict)
    except (FileNotFoundError, SafetensorError) as error:
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
    return tensors
