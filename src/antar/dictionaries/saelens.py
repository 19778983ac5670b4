"""Dictionaries in SAELens's folder format (version 6), both ways, for raw activations. It needs no SAELens.

SAELens keeps `cfg.json` and `sae_weights.safetensors` with W_enc `[d, n]` (antar's is `[n, d]`), W_dec `[n, d]`,
b_enc, b_dec and, for `jumprelu`, a threshold `[n]`. Writing is a transpose: antar's weights are on the raw scale
already, so `normalize_activations` is none and `apply_b_dec_to_input` true. Reading folds all else that SAELens lets
vary into antar's form, in fp64 (d_j is row j of W_dec, e_j its encoder row, s the factor on the inputs):

    inputs scaled by s:             e_j ← s·e_j,  d_j ← d_j / s,  b_dec ← b_dec / s
    b_dec not taken off the input:  b_enc,j ← b_enc,j + e_j·b_dec
    rows of any length:             e_j ← ‖d_j‖·e_j,  b_enc,j ← ‖d_j‖·b_enc,j,  θ_j ← ‖d_j‖·θ_j,  d_j ← d_j / ‖d_j‖

The last line leaves every reconstruction as it was, but a TopK compares latents with each other: after it, what is
compared is the pre-activation times ‖d_j‖. SAELens compares just that where `rescale_acts_by_decoder_norm` is true.
Where it is false the same latents are chosen only if all rows are equally long; then all are divided by the one
length. Rows that only the rounding of a 16-bit file made unequal are each divided by their own, and the encoder keeps
the one length, so that the same latents are chosen. Any other is refused, since no antar dictionary selects as it
does. A threshold is each latent's own, so `standard` (ReLU: θ = 0) and `jumprelu` may have any lengths. A negative
θ_j is 0, because the ReLU comes first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from antar.core.atomic import write_json, write_safetensors
from antar.core.errors import UserError
from antar.core.progress import say
from antar.dictionaries.batchtopk import BatchTopK
from antar.dictionaries.files import CONFIG_FILE, WEIGHTS_FILE, read_object
from antar.dictionaries.topk import TopK
from antar.dictionaries.weights import Weights

SCALER_FILE = "activation_scaler.json"
"""Where SAELens's checkpoints keep the factor of `expected_average_only_in`."""
FORMAT_VERSION = "6.0.0"
"""The first SAELens with this layout of cfg.json; what is older, or does not say, is read as the layout before."""
ARCHITECTURES = ("topk", "standard", "jumprelu")
DTYPES = {"float32": torch.float32, "float64": torch.float64, "float16": torch.float16, "bfloat16": torch.bfloat16}
EQUAL_LENGTHS = 1e-4
"""Rows whose lengths differ by less than this share are equally long (and unit, if that is their length)."""
ROUNDING = {torch.bfloat16: 2**-7, torch.float16: 2**-10}
"""The same, of rows that were equally long before they were rounded to these: one unit in the last place."""


@dataclass(frozen=True)
class Portable:
    """A dictionary as both formats can say it: float32 weights for raw activations, decoder rows of unit length.

    k: how many latents fire on a text: exactly, where threshold_n is None; else on average, None where not known
    threshold_n: float32 `[n_latents]` ≥ 0; a latent fires where its pre-activation is above. None: TopK
    about: what the other tool said about it, as JSON
    """

    weights: Weights
    k: int | None
    threshold_n: Tensor | None
    about: Mapping[str, Any]


def write_saelens(
    folder: Path,
    weights: Weights,
    k: int,
    threshold_n: Tensor | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write a folder that `sae_lens.SAE.load_from_disk` opens; returns its two files.

    Without `threshold_n` the architecture is `topk`, with it `jumprelu`, which is how SAELens keeps BatchTopK too; k
    then is only told. metadata: what SAELens should know about the activations, e.g. model_name and hook_name.
    """
    tensors = {
        "W_enc": weights.encoder_nd.T,
        "b_enc": weights.encoder_bias_n,
        "W_dec": weights.decoder_nd,
        "b_dec": weights.decoder_bias_d,
    }
    kind: dict[str, Any] = {"architecture": "topk", "k": k, "rescale_acts_by_decoder_norm": False}
    details: dict[str, Any] = {}
    if threshold_n is not None:
        tensors["threshold"] = threshold_n
        kind, details = {"architecture": "jumprelu"}, {"training_architecture_details": {"k": k}}
    n_latents, d_model = weights.encoder_nd.shape
    arrays = {name: tensor.detach().to("cpu", torch.float32).numpy() for name, tensor in tensors.items()}
    write_safetensors(folder / WEIGHTS_FILE, arrays)
    write_json(
        folder / CONFIG_FILE,
        {
            **kind,
            "d_in": d_model,
            "d_sae": n_latents,
            "dtype": "float32",
            "device": "cpu",
            "apply_b_dec_to_input": True,
            "normalize_activations": "none",
            "reshape_activations": "none",
            "metadata": {"sae_lens_version": FORMAT_VERSION, **details, **(metadata or {})},
        },
    )
    return [folder / CONFIG_FILE, folder / WEIGHTS_FILE]


def read_saelens(folder: Path) -> Portable:
    """The dictionary in a SAELens folder, folded as above. Raises a one-line UserError for what cannot be."""
    config = _read_config(folder)
    tensors, rounding = _read_tensors(folder, config)
    encoder_nd, bias_n = tensors["W_enc"].T, tensors["b_enc"]
    decoder_nd, bias_d = tensors["W_dec"], tensors["b_dec"]
    scale = _input_scale(folder, config)
    encoder_nd, decoder_nd, bias_d = encoder_nd * scale, decoder_nd / scale, bias_d / scale
    if not config.apply_b_dec_to_input:
        bias_n = bias_n + encoder_nd @ bias_d
    own_n = torch.linalg.vector_norm(decoder_nd, dim=1)
    lengths_n = _lengths(folder, config, own_n, rounding)
    # A row of zeros adds nothing, so its latent need not fire: all else of it is 0 too, and any direction will do.
    silent_n = lengths_n == 0
    # Where the file's rounding alone makes rows unequal, each is made unit by its own length, and the encoder, which
    # chooses latents, by the one that all have.
    by_n = own_n if float((own_n - lengths_n).abs().max()) > EQUAL_LENGTHS * float(lengths_n.max()) else lengths_n
    decoder_nd = decoder_nd / torch.where(silent_n, 1.0, by_n)[:, None]
    decoder_nd[silent_n, 0] = 1.0
    weights = Weights(encoder_nd * lengths_n[:, None], bias_n * lengths_n, decoder_nd, bias_d)
    threshold_n = None
    if config.architecture != "topk":
        threshold_n = (tensors.get("threshold", torch.zeros_like(bias_n)) * lengths_n).clamp_min(0).float()
    weights = weights.map(lambda tensor: tensor.float().contiguous())
    if not all(bool(torch.isfinite(tensor).all()) for tensor in weights.tensors()):
        raise UserError(f"{folder / WEIGHTS_FILE}: expected numbers within float32, found larger ones; rescale it")
    about = {"from": "saelens", "architecture": config.architecture, "metadata": dict(config.metadata)}
    return Portable(weights, config.k, threshold_n, about)


def as_dictionary(source: Path, found: Portable, k: int | None = None, asked_by: str = "--k") -> TopK:
    """What was read from `source`, as the kind that computes the same. k: how many latents fire on a text on average,
    for a dictionary with thresholds that does not tell; asked_by: what a user calls it."""
    n_latents = len(found.weights.encoder_bias_n)
    if found.threshold_n is None:
        if found.k is None or k is not None:
            raise UserError(
                f"{asked_by}: expected for dictionaries with thresholds only; {source} is a TopK with its own k"
            )
        return TopK(found.weights, found.k)
    if found.k is not None and k not in (None, found.k):
        raise UserError(f"{asked_by}: expected for folders that do not tell it only; {source} has k {found.k}")
    k = found.k if k is None else k
    if k is None or not 1 <= k <= n_latents:
        raise UserError(
            f"{source}: expected the number of latents that fire on a text on average, from 1 to {n_latents}, found "
            f"{'none in its metadata' if k is None else k}; give it with {asked_by}"
        )
    return BatchTopK(found.weights, k, threshold_n=found.threshold_n)


# --- reading ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Config:
    """What of a SAELens cfg.json decides what its dictionary computes."""

    architecture: str
    d_in: int
    d_sae: int
    k: int | None
    dtype: torch.dtype
    apply_b_dec_to_input: bool
    normalize_activations: str
    rescale_acts_by_decoder_norm: bool
    metadata: Mapping[str, Any]


def _read_config(folder: Path) -> _Config:
    path = folder / CONFIG_FILE
    missing = f"a SAELens folder ({CONFIG_FILE}), found none; name another"
    raw = read_object(folder, missing, "save the SAE again")
    if raw.get("format") == "antar.dictionary":
        raise UserError(f"{folder}: expected a SAELens folder, found a dictionary of antar's own; use it as it is")
    if not isinstance(raw.get("metadata") or {}, dict):
        kind = type(raw["metadata"]).__name__
        raise UserError(f"{path}: expected metadata to be a JSON object, found {kind}; save the SAE again")
    found = _modern(path, raw)
    architecture = _one_of(path, found, "architecture", ARCHITECTURES)
    _one_of(path, found, "reshape_activations", ("none",), "none")
    dtype = str(found.get("dtype", "float32")).removeprefix("torch.")
    if dtype not in DTYPES:
        raise UserError(f"{path}: expected dtype {', '.join(DTYPES)}, found {dtype!r}; save the SAE in one of them")
    metadata = found.get("metadata") or {}
    n_latents = _count(path, found, "d_sae")
    if architecture == "topk":
        k = _count(path, found, "k")
        if k > n_latents:
            raise UserError(f"{path}: expected k of at most d_sae = {n_latents}, found {k}")
    else:
        details = metadata.get("training_architecture_details")
        told = details.get("k") if isinstance(details, dict) else None
        k = round(told) if isinstance(told, (int, float)) and not isinstance(told, bool) and told >= 1 else None
    return _Config(
        architecture=architecture,
        d_in=_count(path, found, "d_in"),
        d_sae=n_latents,
        k=k,
        dtype=DTYPES[dtype],
        apply_b_dec_to_input=_flag(path, found, "apply_b_dec_to_input", True),
        normalize_activations=_one_of(
            path, found, "normalize_activations", ("none", "expected_average_only_in"), "none"
        ),
        rescale_acts_by_decoder_norm=architecture == "topk"
        and _flag(path, found, "rescale_acts_by_decoder_norm", False),
        metadata=metadata,
    )


def _flag(path: Path, config: Mapping[str, Any], name: str, default: bool) -> bool:
    value = config.get(name, default)
    if not isinstance(value, bool):
        raise UserError(f"{path}: expected {name} to be true or false, found {value!r}; save the SAE again")
    return value


def _modern(path: Path, raw: Mapping[str, Any]) -> dict[str, Any]:
    """`raw` in the layout of SAELens 6: before it, TopK was an activation function and metadata lay at the top."""
    metadata = raw.get("metadata")
    version = raw.get("sae_lens_version") or (metadata or {}).get("sae_lens_version") or "0"
    major = str(version).split(".", maxsplit=1)[0]
    if major.isdecimal() and int(major) >= 6:
        return dict(raw)
    found = {"architecture": "standard", **raw}
    activation = raw.get("activation_fn", raw.get("activation_fn_str", "relu"))
    if activation == "topk":
        found |= {"architecture": "topk", "k": (raw.get("activation_fn_kwargs") or {}).get("k")}
    elif activation != "relu":
        raise UserError(f"{path}: expected activation_fn relu or topk, found {activation!r}; antar has no such kind")
    normalised = raw.get("normalize_activations")
    if normalised is None or isinstance(normalised, bool):
        found["normalize_activations"] = "expected_average_only_in" if normalised else "none"
    hook = str(raw.get("hook_name", raw.get("hook_point", "")))
    if "hook_z" in hook:
        found.setdefault("reshape_activations", "hook_z")
    found["metadata"] = {"hook_name": hook, "model_name": raw.get("model_name"), "sae_lens_version": version}
    return found


def _one_of(
    path: Path, found: Mapping[str, Any], key: str, known: tuple[str, ...], default: str | None = None
) -> str:
    value = found.get(key, default)
    if value not in known:
        reason = {
            "architecture": "antar has no dictionary that computes what another does",
            "normalize_activations": "antar's are weights alone; where SAELens can fold it, do that there and save",
            "reshape_activations": "antar reads the output of whole blocks",
        }[key]
        raise UserError(f"{path}: expected {key} {' or '.join(known)}, found {value!r}; {reason}")
    return str(value)


def _count(path: Path, found: Mapping[str, Any], name: str) -> int:
    value = found.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UserError(f"{path}: expected {name} to be a positive whole number, found {value!r}; save the SAE again")
    return value


def _read_tensors(folder: Path, config: _Config) -> tuple[dict[str, Tensor], float]:
    """The checked tensors in fp64, rounded first to the dtype that SAELens computes with, as it does on loading; and
    by which share that, or the dtype of the file, may have changed a decoder row's length."""
    path, n, d = folder / WEIGHTS_FILE, config.d_sae, config.d_in
    shapes = {"W_enc": (d, n), "b_enc": (n,), "W_dec": (n, d), "b_dec": (d,)}
    if config.architecture == "jumprelu":
        shapes["threshold"] = (n,)
    try:
        with safe_open(path, framework="pt") as handle:
            tensors: dict[str, Tensor] = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: expected a whole safetensors file, found {error}; save the SAE again") from error
    if "scaling_factor" in tensors and bool((tensors["scaling_factor"] == 1).all()):
        del tensors["scaling_factor"]  # once written always, and then without effect
    if tensors.keys() != shapes.keys():
        raise UserError(
            f"{path}: expected the tensors {', '.join(shapes)} of a {config.architecture}, found "
            f"{', '.join(sorted(tensors))}; save the SAE for inference (save_inference_model)"
        )
    for name, shape in shapes.items():
        if tensors[name].shape != shape or not tensors[name].is_floating_point():
            found = f"{tensors[name].dtype} {list(tensors[name].shape)}".removeprefix("torch.")
            raise UserError(
                f"{path}: expected {name} to be floats {list(shape)} as {CONFIG_FILE} says, found {found}; "
                "save the SAE again"
            )
        if not bool(torch.isfinite(tensors[name]).all()):
            raise UserError(f"{path}: expected finite numbers in {name}, found NaN or infinity; save the SAE again")
    rounding = max(ROUNDING.get(dtype, EQUAL_LENGTHS) for dtype in (tensors["W_dec"].dtype, config.dtype))
    return {name: tensors[name].to(config.dtype).double() for name in shapes}, rounding


def _input_scale(folder: Path, config: _Config) -> float:
    """s: what SAELens multiplies activations by before this dictionary sees them, where that is one number."""
    if config.normalize_activations == "none":
        return 1.0
    path = folder / SCALER_FILE
    try:
        scale = json.loads(path.read_text(encoding="utf-8"))["scaling_factor"]
    except (OSError, ValueError, KeyError, TypeError):
        scale = None
    if not isinstance(scale, (int, float)) or isinstance(scale, bool) or not 0 < scale < float("inf"):
        raise UserError(
            f"{folder / CONFIG_FILE}: expected normalize_activations none or its factor in {SCALER_FILE}, found "
            "neither; in SAELens call fold_activation_norm_scaling_factor with the factor of its training, then save"
        )
    return float(scale)


def _lengths(folder: Path, config: _Config, lengths_n: Tensor, rounding: float) -> Tensor:
    """What each row's length is to be divided by; ones where the rows are unit already, so that no bit changes.
    Those of a TopK that are equal to within `rounding` have one length, and a line says so."""
    if config.rescale_acts_by_decoder_norm:
        if bool((lengths_n == 0).any()):
            row = int((lengths_n == 0).nonzero()[0])
            raise UserError(
                f"{folder / WEIGHTS_FILE}: expected decoder rows of some length, found zeros in row {row}"
            )
        return lengths_n
    if float((lengths_n - 1).abs().max()) <= EQUAL_LENGTHS:
        return torch.ones_like(lengths_n)
    if config.architecture != "topk":
        return lengths_n
    mean = float(lengths_n.mean())
    for length in (1.0, mean):
        off = float((lengths_n / length - 1).abs().max()) if length > 0 else float("inf")
        if off > rounding:
            continue
        if off > EQUAL_LENGTHS:
            say(
                f"  {folder}: decoder rows are of length {float(lengths_n.min()):.4g} to "
                f"{float(lengths_n.max()):.4g}, equal but for the rounding of the file; each is made unit"
            )
        return torch.full_like(lengths_n, length)
    raise UserError(
        f"{folder / CONFIG_FILE}: expected decoder rows of one length, or rescale_acts_by_decoder_norm true, found "
        f"lengths from {float(lengths_n.min()):.4g} to {float(lengths_n.max()):.4g}; its TopK compares latents that "
        "antar would see rescaled, so other latents would fire"
    )
