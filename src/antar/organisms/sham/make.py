"""Make one sham: targets from the chat model, training, scaling from shallow to deep, and what came of it.

Equal drift in activations, layer by layer, is the point. Equal steps are not equal drift, and equal norms of the
weights' change are not either: how far activations move depends on the direction too.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from antar.core.atomic import write_json
from antar.core.errors import UserError
from antar.core.progress import say
from antar.core.threads import torch_threads
from antar.dictionaries.checkpoint import remove_checkpoint
from antar.models.config import ExtractConfig, ModelConfig
from antar.models.pair import load_model, load_tokenizer, pick_device, quiet, tokenizer_difference
from antar.organisms.sham.config import ShamConfig
from antar.organisms.sham.drift import UNEVEN, Gauge, Probe, root_mean_square
from antar.organisms.sham.groups import Group, parameter_groups
from antar.organisms.sham.scale import Scaled, find_factor
from antar.organisms.sham.train import Course, Order, Training

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

SHAM_FILE = "sham.json"
# Not core's `.tmp-`: whoever looks for a checkpoint clears those away, and this one is filled before and after.
_MAKING = ".saving"
_TOKENIZER_FILES = ("tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "*.model")


@dataclass(frozen=True)
class Pair:
    """The two checkpoints, and how their activations are read."""

    base: ModelConfig
    chat: ModelConfig
    extract: ExtractConfig


@dataclass(frozen=True)
class Probes:
    """Held-out control texts: those on which drift is matched, and others that say how well it holds elsewhere."""

    match: Probe
    check: Probe


def make_sham(
    name: str,
    cfg: ShamConfig,
    pair: Pair,
    probes: Probes,
    texts: Sequence[str],
    seed: int,
    folder: Path,
    fingerprint: str,
) -> dict[str, Any]:
    """Write the sham `name` into `folder` (`save_pretrained`, tokenizer, `sham.json`); returns what sham.json says.

    texts: what is learnt; seed: the study's. A training that was killed goes on from its checkpoint in `folder`, if
    that is of the same `fingerprint`. Raises UserError for too few texts, and where chat has not drifted at all.
    """
    # The threads and the device of extraction, unless said: both read the same weights.
    given = {"threads": cfg.threads, "device": cfg.device}
    extract = pair.extract.model_copy(update={key: one for key, one in given.items() if one is not None})
    with torch_threads(extract.threads):
        maker = _Maker(name, cfg, pair, extract, folder)
        return maker.make(probes, texts, cfg.seed if cfg.seed is not None else seed, fingerprint)


class _Maker:
    """What the steps of one sham share."""

    def __init__(self, name: str, cfg: ShamConfig, pair: Pair, extract: ExtractConfig, folder: Path) -> None:
        self.name, self.cfg, self.pair, self.extract, self.folder = name, cfg, pair, extract, folder
        self.layers = sorted(extract.layers)
        self.device = pick_device(extract.device)

    def make(self, probes: Probes, texts: Sequence[str], seed: int, fingerprint: str) -> dict[str, Any]:
        tokenizer = load_tokenizer(self.pair.base)
        ids = self._encoded(tokenizer, texts)
        gauge = Gauge(self.pair.base, self.extract, {"match": probes.match, "check": probes.check})
        chat = gauge.distances_of(self.pair.chat)
        targets = [self._target(chat["match"][layer], layer) for layer in self.layers]
        model = load_model(self.pair.base, torch.float32, self.device, head=True)
        groups = parameter_groups(
            model.base_model, int(model.config.get_text_config().num_hidden_layers), self.layers
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        making = self.folder / _MAKING
        _save_tokenizer(self.pair.base, model, tokenizer, making)  # before hours of training: it may not be possible
        order = Order(len(ids), self.cfg.batch, seed, self.name)
        training = Training(self.name, self.cfg, model, groups, gauge, targets, ids, order, self.folder, fingerprint)
        course = training.run()
        scaled = self._scale(model, groups, gauge, targets)
        facts = self._facts(course, scaled, gauge, chat, len(ids), probes)
        self._warn(facts)
        self._save(model, making, facts)
        return facts

    def _encoded(self, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[np.ndarray]:
        encoded: Any = tokenizer(list(texts), truncation=True, max_length=self.cfg.max_tokens) if texts else {}
        # A text of one token has nothing to predict.
        ids = [np.array(one, np.int64) for one in encoded.get("input_ids", ()) if len(one) > 1]
        if len(ids) < self.cfg.batch:
            raise UserError(
                f"sham {self.name}: expected at least {self.cfg.batch} neutral texts to train base on (its `batch`), "
                f"found {len(ids)}; add texts, or lower batch"
            )
        return ids

    def _target(self, far: np.ndarray, layer: int) -> float:
        if (target := root_mean_square(far)) > 0:
            return target
        raise UserError(
            f"sham {self.name}: expected chat ({self.pair.chat.display}) to differ from base at layer {layer}, found "
            "no difference on any control text; a pair without a difference needs no sham"
        )

    # -- scaling ----------------------------------------------------------------------------------------------------

    def _scale(
        self, model: PreTrainedModel, groups: Sequence[Group], gauge: Gauge, targets: Sequence[float]
    ) -> list[Scaled]:
        """Bring each group's weights to the point between base's and the trained ones (or past them) at which its
        layer's drift is the target, the shallower groups being where they are to stay."""
        base: Mapping[str, Tensor] = dict(
            load_model(self.pair.base, torch.float32, self.device, head=True).base_model.named_parameters()
        )
        for group in groups:
            gauge.load({name: base[name] for name in group.parameters})
        found: list[Scaled] = []
        for group, target in zip(groups, targets, strict=True):
            trained = {name: one.detach().clone() for name, one in group.parameters.items()}

            def at(factor: float, trained: Mapping[str, Tensor] = trained) -> dict[str, Tensor]:
                # Not torch.lerp: at factor 0 this is base to the bit.
                return {name: base[name] + factor * (one - base[name]) for name, one in trained.items()}

            def drift_at(factor: float, at: Any = at, layer: int = group.layer) -> float:
                gauge.load(at(factor))
                return gauge.drift("match", [layer])[layer]

            found.append(find_factor(drift_at, target, self.cfg.tolerance))
            final = at(found[-1].factor)
            gauge.load(final)
            with torch.no_grad():
                for name, parameter in group.parameters.items():
                    parameter.copy_(final[name])
        return found

    # -- what came of it --------------------------------------------------------------------------------------------

    def _facts(
        self,
        course: Course,
        scaled: Sequence[Scaled],
        gauge: Gauge,
        chat: Mapping[str, Mapping[int, np.ndarray]],
        n_texts: int,
        probes: Probes,
    ) -> dict[str, Any]:
        """What sham.json says. The weights that `gauge` holds are the final ones."""
        sham = {name: gauge.distances(name, self.layers) for name in ("match", "check")}
        layers: list[dict[str, Any]] = []
        for place, (layer, one) in enumerate(zip(self.layers, scaled, strict=True)):
            target, reached = (root_mean_square(far["match"][layer]) for far in (chat, sham))
            norm = gauge.base_norm("match", layer)
            layers.append({
                "layer": layer,
                "target": target,
                "reached": reached,
                "ratio": reached / target,
                "target_relative": target / norm,
                "reached_relative": reached / norm,
                "trained": course.drifts[place],
                "factor": one.factor,
                "propagated": one.propagated,
                "equal": abs(reached / target - 1) <= self.cfg.tolerance,
                "ratio_elsewhere": _ratio(sham["check"][layer], chat["check"][layer]),
                "ratio_by_language": _by_language(sham, chat, layer, probes),
            })  # fmt: skip
        return {
            "sham": self.name,
            "drift_means": "root mean square over held-out control texts of |x_side - x_base|, in activation units",
            "layers": layers,
            "steps": course.step,
            "max_steps": self.cfg.max_steps,
            "tokens": course.tokens,
            "texts": n_texts,
            "probes": {"match": len(probes.match), "elsewhere": len(probes.check)},
            "first_loss": course.losses[0],
            "last_losses": float(np.mean(course.losses[-5:])),
            "tolerance": self.cfg.tolerance,
            "uneven_beyond": UNEVEN,
            # Built anew: one that came through a checkpoint has its keys in another order, and so other bytes.
            "course": [{"step": one["step"], "drift": one["drift"]} for one in course.checks],
        }

    def _warn(self, facts: Mapping[str, Any]) -> None:
        for one in facts["layers"]:
            if one["equal"]:
                continue
            where = f"  sham {self.name}: at layer {one['layer']} it drifts {one['ratio']:.2f} times as far as chat"
            if one["factor"] == 0:
                say(f"{where}: that much comes from shallower layers, whose drift was matched first")
            else:
                say(f"{where} after {facts['steps']} steps; raise max_steps or lr under its `make`")
        ratios = [(f"{name} {ratio:.2f}", ratio) for one in facts["layers"]
                  for name, ratio in one["ratio_by_language"].items()]  # fmt: skip
        if uneven := [told for told, ratio in ratios if not 1 / UNEVEN <= ratio <= UNEVEN]:
            say(
                f"  sham {self.name}: languages do not drift alike, relative to chat ({', '.join(uneven)}); `texts:` "
                "with more of the language that drifts too little evens it out"
            )

    def _save(self, model: PreTrainedModel, making: Path, facts: Mapping[str, Any]) -> None:
        """Every file under a temporary folder first, so that none is half written under its own name."""
        with quiet(ModelConfig(path=str(making))):
            _savable(model).save_pretrained(making)
        write_json(making / SHAM_FILE, facts)
        for path in sorted(making.iterdir()):
            with path.open("rb") as handle:
                os.fsync(handle.fileno())
            path.replace(self.folder / path.name)
        making.rmdir()
        remove_checkpoint(self.folder)


def _ratio(sham: np.ndarray, chat: np.ndarray) -> float:
    return root_mean_square(sham) / root_mean_square(chat)


def _by_language(
    sham: Mapping[str, Mapping[int, np.ndarray]],
    chat: Mapping[str, Mapping[int, np.ndarray]],
    layer: int,
    probes: Probes,
) -> dict[str, float]:
    """Language → drift over chat's on all probes: contrasts are within a language, and one factor serves them all."""
    languages = np.array([*probes.match.languages, *probes.check.languages])
    far = [np.concatenate([one["match"][layer], one["check"][layer]]) for one in (sham, chat)]
    return {str(one): _ratio(*(values[languages == one] for values in far)) for one in np.unique(languages)}


def _plain_config(model: PreTrainedModel) -> PretrainedConfig:
    """The config without what a model that came from GGUF remembers of that, and with which it cannot be saved."""
    config = {key: value for key, value in model.config.to_dict().items() if key != "quantization_config"}
    return type(model.config).from_dict(config)


def _savable(model: PreTrainedModel) -> PreTrainedModel:
    """`model`, or, where it came from GGUF, a fresh one with its weights."""
    if getattr(model.config, "quantization_config", None) is None:
        return model
    from transformers import AutoModelForCausalLM

    fresh = AutoModelForCausalLM.from_config(_plain_config(model))
    fresh.load_state_dict(model.state_dict())
    return fresh


def _save_tokenizer(base: ModelConfig, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, to: Path) -> None:
    """Base's tokenizer, in a folder that loads as one. Raises UserError where it does not come back as it was."""
    shutil.rmtree(to, ignore_errors=True)
    saved = ModelConfig(path=str(to))
    to.mkdir()
    with quiet(saved):
        _plain_config(model).save_pretrained(to)  # a tokenizer's class may be told by the model's type
        tokenizer.save_pretrained(to)
    if tokenizer_difference(tokenizer, load_tokenizer(saved)) and base.gguf_file is None:
        for pattern in _TOKENIZER_FILES:
            for path in Path(base.path).expanduser().glob(pattern):
                shutil.copyfile(path, to / path.name)
    if difference := tokenizer_difference(tokenizer, load_tokenizer(saved)):
        raise UserError(
            f"{base.display}: expected a tokenizer that can be saved, found {difference} when it is loaded again; "
            "put base into a folder whose tokenizer transformers saves unchanged"
        )
