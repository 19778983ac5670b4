"""Checkpoints: where they are, whether a pair can be compared, and loading one.

`check_pair` reads configs and tokenizers only, so that a study that cannot work fails in seconds and before any
weights are downloaded. Loading is strict: pinned revision, safetensors (GGUF where a study asks for it), never
code from the checkpoint.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch import nn

from antar.core.errors import UserError
from antar.core.progress import say
from antar.core.seeds import derive_seed
from antar.models.config import ModelConfig
from antar.models.hub import resolve_commit

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_GENERIC_TOKENIZERS = ("TokenizersBackend", "PreTrainedTokenizerFast")
PROBES = (
    "The family lit oil lamps at the door on Diwali night, 1947; wasn't it lovely?",
    "दिवाली की रात परिवार ने द्वार पर तेल के दीये जलाए, १९४७ में।",
    "  Ek saree, do mithai\n\tक्षत्रिय — ज्ञान ₹500",
)
"""Strings whose token ids both sides must agree on: English, Hindi, and both with odd spaces and conjuncts."""


@dataclass(frozen=True)
class PairFacts:
    """What the sides of a study have in common, and which commits they are.

    d_model: width of the residual stream; n_layers: number of decoder blocks;
    revisions: side → commit on the hub, None for a folder
    """

    d_model: int
    n_layers: int
    revisions: dict[str, str | None]


def is_folder(cfg: ModelConfig) -> bool:
    """True for a checkpoint in a folder, False for a hub name; raises UserError when `path` is neither."""
    if Path(cfg.path).expanduser().is_dir():
        return True
    if _HUB_NAME.fullmatch(cfg.path) and ".." not in cfg.path:
        return False
    raise UserError(
        f"models: expected a folder or a hub name such as Qwen/Qwen1.5-1.8B, found {cfg.path!r}, which is no folder "
        "here; correct the path in the study"
    )


def _source(cfg: ModelConfig) -> tuple[str, dict[str, Any]]:
    """(path or hub name, keyword arguments) for every `from_pretrained` of this checkpoint."""
    options: dict[str, Any] = {"trust_remote_code": False}
    if cfg.gguf_file is not None:
        options["gguf_file"] = cfg.gguf_file
    if is_folder(cfg):
        return str(Path(cfg.path).expanduser()), options
    # A commit, not a branch: what is read now and what is read tomorrow are the same files. The commit is known
    # to be reachable or cached, so transformers never gets to its half minute of retries.
    return cfg.path, options | {"revision": resolve_commit(cfg.path, cfg.revision)}


@contextmanager
def quiet(cfg: ModelConfig) -> Generator[None]:
    """transformers says nothing while the block runs, except the progress of a download."""
    # Load reports of transformers (e.g. that the unused output head was not loaded) say nothing that a person
    # running a study can act on; nor do its bars, except that of a download.
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if hide := bars and is_folder(cfg):
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if hide:
            logging.enable_progress_bar()


def _unreadable(cfg: ModelConfig, what: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:200]
    return UserError(f"{cfg.path}: expected a checkpoint with {what}, found {type(error).__name__}: {reason}")


def load_config(cfg: ModelConfig) -> PretrainedConfig:
    """The checkpoint's text config (of a multimodal model the language part)."""
    from transformers import AutoConfig

    source, options = _source(cfg)
    try:
        with quiet(cfg):
            return AutoConfig.from_pretrained(source, **options).get_text_config()
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise _unreadable(cfg, "a config.json that transformers knows", error) from error


def load_tokenizer(cfg: ModelConfig) -> PreTrainedTokenizerBase:
    """The checkpoint's tokenizer; it pads, and cuts a long text, on the right."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    source, options = _source(cfg)
    try:
        with quiet(cfg):
            named = get_tokenizer_config(source, revision=options.get("revision")).get("tokenizer_class")
            # A checkpoint that names the generic class means its tokenizer.json. AutoTokenizer (5.23) would lay the
            # architecture's own class over it (for Qwen2 another normaliser, another split, one more token).
            generic = cfg.gguf_file is None and named in _GENERIC_TOKENIZERS
            tokenizer = (PreTrainedTokenizerFast if generic else AutoTokenizer).from_pretrained(source, **options)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise _unreadable(cfg, "a tokenizer that transformers can read", error) from error
    if is_folder(cfg) and cfg.gguf_file is None:
        # From an empty folder transformers (5) makes a tokenizer of special tokens alone.
        files = {"tokenizer.json", *tokenizer.vocab_files_names.values()}
        if not any((Path(source) / name).is_file() for name in files):
            raise UserError(
                f"{cfg.path}: expected a tokenizer (tokenizer.json, or the architecture's own files), found none; "
                "copy that of its base model into the folder"
            )
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    return tokenizer


def load_model(cfg: ModelConfig, dtype: torch.dtype, device: torch.device, *, head: bool = False) -> PreTrainedModel:
    """The decoder, in eval mode and without gradients, in `dtype` on `device`; with `head` as the language model that
    it is part of (its decoder is then `.base_model`). Raises UserError where the checkpoint has no output head."""
    from transformers import AutoModel, AutoModelForCausalLM

    if cfg.random_weights is not None:
        return _fresh_model(cfg, cfg.random_weights).to(device, dtype).eval().requires_grad_(False)
    source, options = _source(cfg)
    if cfg.gguf_file is None:
        options["use_safetensors"] = True
    kind = AutoModelForCausalLM if head else AutoModel
    try:
        with quiet(cfg):
            # Attention is left to transformers: torch's sdpa where the architecture has it, else eager (Gemma 2).
            # Weights of another shape are named below, in one line; transformers would fail and log a table.
            options |= {"ignore_mismatched_sizes": True, "output_loading_info": True}
            loaded: Any = kind.from_pretrained(source, dtype=dtype, **options)
            model, loading = loaded
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise _unreadable(cfg, "whole safetensors weights", error) from error
    # transformers draws what is missing at random, and only its log says so.
    if missing := sorted({*loading["missing_keys"], *(name for name, *_ in loading["mismatched_keys"])}):
        what = "a language model with its output head" if head else "the weights of the whole decoder in its shapes"
        more = f" and {len(missing) - 3:,} more" if len(missing) > 3 else ""
        strange = sorted(loading["unexpected_keys"])
        # Names of a wrapper (`module.`, `base_model.`) are of the same weights, so as many; a head is none of it.
        renamed = len(strange) >= max(2, len(missing))
        instead = f" (it has {strange[0]}, which the architecture does not know)" if renamed else ""
        raise UserError(
            f"{cfg.path}: expected {what}, found no {', '.join(missing[:3])}{more}{instead}; give a checkpoint that "
            "was saved whole, under its own names"
        )
    return model.to(device).eval().requires_grad_(False)


def _fresh_model(cfg: ModelConfig, seed: int) -> Any:
    """The checkpoint's architecture with the weights that its own initialisation draws: a model that knows nothing.

    They are drawn in float32 on the CPU whatever the study's precision and device, so that one seed is one model.
    """
    from transformers import AutoConfig, AutoModel

    source, options = _source(cfg)
    try:
        with quiet(cfg), torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "random weights"))
            config = AutoConfig.from_pretrained(source, **options)
            return AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise _unreadable(cfg, "a config.json that transformers knows", error) from error


def pick_device(name: str) -> torch.device:
    """`auto` is the GPU when there is one; else the device of that name."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"extract.device: expected auto, cpu or cuda:0, found {name!r}") from error
    if device.type == "meta":  # has shapes and no numbers
        raise UserError(f"extract.device: expected auto, cpu or cuda:0, found {name!r}")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"extract.device: {name!r} is asked for, but torch sees no GPU; write auto or cpu")
    return device


def decoder_blocks(model: nn.Module, n_layers: int) -> nn.ModuleList:
    """The list of the model's `n_layers` decoder blocks, whatever the architecture calls it.

    It is the ModuleList of that length nearest to the root: `layers` in Llama, Qwen, Mistral, Gemma and NeoX, `h`
    in GPT-2, `language_model.layers` in multimodal models. (Lists inside a block, such as experts, are deeper.)
    """
    found = [
        (name.count("."), name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == n_layers
    ]
    nearest = [entry for entry in found if entry[0] == min(depth for depth, _, _ in found)]
    if len(nearest) != 1:
        names = ", ".join(name for _, name, _ in nearest) or "none"
        raise UserError(
            f"{type(model).__name__}: expected one list of {n_layers} decoder blocks, found {names}; "
            "antar reads decoder-only models (Qwen, Llama, Gemma, Mistral, GPT-2, NeoX, ...)"
        )
    return nearest[0][2]


def check_pair(models: Mapping[str, ModelConfig], layers: Sequence[int]) -> PairFacts:
    """Can these sides be compared at these layers? Reads configs and tokenizers, no weights.

    The first side is what the others are compared with. Raises UserError for a checkpoint that is not there, a
    layer that it does not have, and sides that differ in width, number of blocks or tokenizer.
    """
    first = next(iter(models))
    configs = {side: load_config(cfg) for side, cfg in models.items()}
    d_model, n_layers = configs[first].hidden_size, configs[first].num_hidden_layers
    for side, config in configs.items():
        for what, expected, found in (
            ("a width of", d_model, config.hidden_size),
            ("this number of blocks:", n_layers, config.num_hidden_layers),
        ):
            if found != expected:
                raise UserError(
                    f"models: {side} ({models[side].path}) should have {what} {expected} like {first} "
                    f"({models[first].path}), found {found}; compare two checkpoints of one model"
                )
        if config.model_type != configs[first].model_type:
            kinds = f"{side} is a {config.model_type}, {first} a {configs[first].model_type}"
            say(f"  {kinds}: are they checkpoints of one model?")
    if too_deep := [layer for layer in layers if not 0 <= layer < n_layers]:
        raise UserError(
            f"extract.layers: {models[first].path} has blocks 0 to {n_layers - 1}, found "
            f"{', '.join(map(str, too_deep))}; choose others in the study"
        )
    for cfg in models.values():
        _check_weights(cfg)
    tokenizers = {side: load_tokenizer(cfg) for side, cfg in models.items()}
    for side in models:
        if side != first and (difference := tokenizer_difference(tokenizers[first], tokenizers[side])):
            raise UserError(
                f"models: {side} ({models[side].path}) should have the tokenizer of {first} ({models[first].path}), "
                f"found {difference}; both sides must read the same token ids"
            )
    revisions = {
        side: None if is_folder(cfg) else resolve_commit(cfg.path, cfg.revision) for side, cfg in models.items()
    }
    return PairFacts(int(d_model), int(n_layers), revisions)


def _check_weights(cfg: ModelConfig) -> None:
    if not is_folder(cfg) or cfg.random_weights is not None:
        return
    folder, wanted = Path(cfg.path).expanduser(), cfg.gguf_file or "*.safetensors"
    if not any(folder.glob(wanted)):
        raise UserError(
            f"{cfg.path}: expected {wanted} in this folder, found none; antar reads safetensors only (convert "
            "other weights with transformers' save_pretrained)"
        )


def tokenizer_difference(ours: PreTrainedTokenizerBase, theirs: PreTrainedTokenizerBase) -> str | None:
    """In what `theirs` would read a text differently than `ours`; None when it would not.

    Tokens that an alignment added (chat markers) are no difference: texts never hold them.
    """
    vocabulary, other = ours.get_vocab(), theirs.get_vocab()
    added = {token.content for one in (ours, theirs) for token in one.added_tokens_decoder.values()}
    only_one = (vocabulary.keys() ^ other.keys()) - added
    moved = {token for token in vocabulary.keys() & other.keys() if vocabulary[token] != other[token]}
    changed = sorted(only_one | moved)
    if changed:
        token = changed[0]
        return (
            f"{len(changed):,} tokens with another id, e.g. {token!r} is {vocabulary.get(token, 'absent')} in one "
            f"and {other.get(token, 'absent')} in the other"
        )
    for probe in PROBES:
        if ours(probe)["input_ids"] != theirs(probe)["input_ids"]:
            return f"other token ids for {probe!r}"
    return None


def local_width(cfg: ModelConfig) -> int | None:
    """The width of the residual stream when that can be read without a network, else None."""
    config = _local_config(cfg)
    return None if config is None else int(config.get_text_config().hidden_size)


def local_parameters(cfg: ModelConfig) -> int | None:
    """How many weights the language model has, when its config can be read without a network, else None."""
    from transformers import AutoModelForCausalLM

    config = _local_config(cfg)
    if config is None:
        return None
    with torch.device("meta"):  # shapes, and not one number
        return int(AutoModelForCausalLM.from_config(config).num_parameters())


def _local_config(cfg: ModelConfig) -> PretrainedConfig | None:
    from transformers import AutoConfig

    if cfg.gguf_file is not None:
        return None
    try:
        source = str(Path(cfg.path).expanduser()) if is_folder(cfg) else cfg.path
        with quiet(cfg):
            return AutoConfig.from_pretrained(
                source, revision=cfg.revision or "main", local_files_only=True, trust_remote_code=False
            )
    except (UserError, OSError, ValueError, KeyError):
        return None
