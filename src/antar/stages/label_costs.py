"""What language models cost before they are asked: calls, tokens, time and money, role by role.

Upper estimates from the study file; tokens and speed from the run's own calls where it has made some.
"""

from __future__ import annotations

from dataclasses import dataclass

from antar.interpret.config import InterpretConfig, LlmWorker, Worker
from antar.interpret.llm.log import Entry, read_calls
from antar.interpret.llm.usage import Usage, cost, spoken_rate
from antar.interpret.llm_workers import CALLS
from antar.interpret.prompting import load_prompt
from antar.interpret.workers import ModelConfig, live_model
from antar.stages.context import Context
from antar.stages.interpret import labelled_dictionaries

CHARACTERS_A_TOKEN = 3
"""Of English text it is about 4, of Hindi 1 to 3, depending on the tokenizer: a guess until calls have been made."""
ANSWER_TOKENS = {"label": 120, "validate": 120, "predict": 1, "saebench": 60}


@dataclass(frozen=True)
class _Role:
    """calls: at most; texts: shown in each"""

    name: str
    worker: Worker
    calls: int
    texts: int


def label_costs(context: Context) -> list[tuple[str, str, str]]:
    """(what, how much, how it is counted) for `antar plan`."""
    cfg = context.study.interpret
    roles = _roles(cfg, _features(context))
    named = [role for role in roles if role.name in ("label", "validate") and isinstance(role.worker, LlmWorker)]
    if not any(live_model(role.worker) for role in roles):
        return [_not_now(named)]
    return [_cost(context, role, model) for role in roles if (model := live_model(role.worker)) is not None]


def _features(context: Context) -> int:
    """Features that are labelled, at most."""
    cfg = context.study.interpret
    most = context.study.dictionaries.n_latents
    each = most if cfg.choose == "all" else min(most, cfg.features_per_site or most)
    return len(labelled_dictionaries(context)) * each


def _roles(cfg: InterpretConfig, n: int) -> list[_Role]:
    share = cfg.validation.controls
    controls = round(2 * share / (1 - share) * n)
    texts = cfg.prediction.texts
    found = [
        _Role("label", cfg.labeller, n, 2 * cfg.examples + cfg.hard_negatives),
        _Role("validate", cfg.validator, n + controls, 2 * cfg.validation.texts),
        # Each text of both classes, with the feature's own label and with another's.
        _Role("predict", cfg.predictor, n * 2 * texts * 2, 1),
    ]
    return [*found, _Role("saebench", cfg.predictor, n, 14)] if cfg.prediction.saebench else found


def _not_now(named: list[_Role]) -> tuple[str, str, str]:
    if not named:
        return "LLM calls", "0", "the embedded keyword labeller needs none"
    total = sum(role.calls for role in named)
    models = " and ".join(dict.fromkeys(role.worker.model for role in named if isinstance(role.worker, LlmWorker)))
    return "LLM calls", f"0 now; {total:,} with an endpoint", f"{models}; keywords until then"


def _cost(context: Context, role: _Role, model: ModelConfig) -> tuple[str, str, str]:
    path = context.folder / "interpret" / CALLS / f"{role.name}.jsonl"
    # Another model's calls, from before the study file was changed, say nothing of this one.
    own = [record for record in read_calls(path) if record.get("model") == model.model]
    usage = Usage.of([Entry.of(record) for record in own])
    if usage.calls:
        read, written = usage.prompt_tokens / usage.calls, usage.completion_tokens / usage.calls
        basis = f"tokens measured on {usage.calls:,} calls of this run"
    else:
        cfg = context.study.interpret
        prompt = load_prompt(role.name, model.prompts)
        characters = len(prompt.system) + len(prompt.user) + role.texts * (cfg.characters + 40)
        read, written = characters / CHARACTERS_A_TOKEN, ANSWER_TOKENS[role.name]
        basis = f"at most, at {CHARACTERS_A_TOKEN} characters a token"
    tokens = role.calls * (read + written)
    amount = f"at most {role.calls:,} calls, {tokens / 1e6:,.1f} M tokens"
    if usage.per_second:
        amount += f", {_time(role.calls / usage.per_second)} at {spoken_rate(usage.per_second)} calls/s"
    else:
        basis += "; time not measured yet: `antar interpret STUDY --limit 20` measures it"
    if model.prices is not None:
        amount += f", {cost(role.calls * read, role.calls * written, model.prices):,.2f} {model.prices.currency}"
    return f"LLM calls: {role.name}", amount, f"{model.model}; {basis}"


def _time(seconds: float) -> str:
    return f"{seconds / 3600:,.1f} h" if seconds >= 3600 else f"{max(1, round(seconds / 60))} min"
