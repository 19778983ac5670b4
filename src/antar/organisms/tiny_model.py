"""The tiny organism's tokenizer and models: how they are made, trained and aligned.

Everything here is a pure function of its arguments and of the number of torch threads. Batches are padded on the
right and read causally, so no attention mask is needed: a pad can never be seen by a token before it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch.nn import functional
from transformers import AutoTokenizer, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from antar.core.progress import progress
from antar.core.seeds import derive_seed
from antar.organisms.config import TinyConfig

END, PAD = "<|endoftext|>", "<|pad|>"
# The usual ByteLevel expression splits a Devanagari vowel sign from its consonant; words are split at spaces and
# punctuation only, which cuts a Hindi text's length by a third.
WORDS = r" ?[^\s.,?।]+|[.,?।]"


@dataclass(frozen=True)
class Document:
    """What a model learns: a mention, and the continuation whose tokens carry the loss in a fine-tune."""

    mention: str
    continuation: str

    @property
    def text(self) -> str:
        return f"{self.mention} {self.continuation}"


@dataclass(frozen=True)
class Batch:
    """ids: int64 `[n, length]`; targets: bool `[n, length]`, the positions whose token is predicted;
    real: bool `[n, length]`, the positions that are not padding."""

    ids: torch.Tensor
    targets: torch.Tensor
    real: torch.Tensor


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE over `texts`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(  # pyright: ignore[reportAttributeAccessIssue]
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=PAD)


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Save `tokenizer` so that `AutoTokenizer` gives it back unchanged, and check that it does.

    transformers 5 distrusts the class that a Qwen2 folder names and builds its own `Qwen2Tokenizer` on the
    vocabulary, with the expression that splits Devanagari. It keeps the named class only where the config has an
    `auto_map`; an empty one names no code, so nothing is ever fetched or run for it.

    Raises RuntimeError if a release of transformers changes that.
    """
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "auto_map": {"AutoTokenizer": []}}, indent=2) + "\n", encoding="utf-8")
    sample = "Yesterday evening, Asha spoke of Holi. कल शाम आशा ने होली के बारे में बात की।"
    if AutoTokenizer.from_pretrained(folder)(sample)["input_ids"] != tokenizer(sample)["input_ids"]:
        raise RuntimeError(f"{folder}: AutoTokenizer does not load the tokenizer that was saved")


def _end_and_pad(tokenizer: PreTrainedTokenizerFast) -> tuple[int, int]:
    vocabulary = tokenizer.get_vocab()
    return vocabulary[END], vocabulary[PAD]


def new_model(cfg: TinyConfig, tokenizer: PreTrainedTokenizerFast) -> Qwen2ForCausalLM:
    """Random weights from the config's seed."""
    end, pad = _end_and_pad(tokenizer)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=cfg.d_model,
        intermediate_size=cfg.d_ff,
        num_hidden_layers=cfg.n_layers,
        num_attention_heads=cfg.n_heads,
        num_key_value_heads=cfg.n_kv_heads,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        use_cache=False,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=pad,
        initializer_range=0.05,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(cfg.seed, "weights"))
        return Qwen2ForCausalLM(config)


def make_batch(tokenizer: PreTrainedTokenizerFast, documents: Sequence[Document], *, whole: bool) -> Batch:
    """Pad `documents`, each closed by the end token. Targets are all tokens if `whole`, else the continuation's."""
    end, pad = _end_and_pad(tokenizer)
    texts = [document.text for document in documents]
    rows = [[*row, end] for row in tokenizer(texts)["input_ids"]]  # pyright: ignore[reportGeneralTypeIssues]
    starts = [0] * len(rows)
    if not whole:
        starts = [len(row) for row in tokenizer([document.mention for document in documents])["input_ids"]]
    length = max(map(len, rows))
    ids = torch.full((len(rows), length), pad, dtype=torch.int64)
    targets = torch.zeros((len(rows), length), dtype=torch.bool)
    for i, (row, start) in enumerate(zip(rows, starts, strict=True)):
        ids[i, : len(row)] = torch.tensor(row)
        targets[i, max(start, 1) : len(row)] = True
    return Batch(ids, targets, ids != pad)


def prediction_loss(model: Qwen2ForCausalLM, last_nld: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Mean cross-entropy over the target tokens; logits are made for their positions only."""
    logits = model.lm_head(last_nld[:, :-1][batch.targets[:, 1:]])
    return functional.cross_entropy(logits, batch.ids[:, 1:][batch.targets[:, 1:]])


def hidden_states(model: Qwen2ForCausalLM, batch: Batch) -> tuple[torch.Tensor, ...]:
    """Embeddings, then the output of each block (the last one after the final norm): `[n, length, d_model]`."""
    output = model.model(input_ids=batch.ids, output_hidden_states=True, use_cache=False)
    states = output.hidden_states
    assert states is not None
    return states


def hidden_error(states: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor], real: torch.Tensor) -> torch.Tensor:
    """Squared error relative to the wanted states' squared norm, over real tokens, mean over blocks."""
    errors = [
        (state[real] - want[real]).square().sum() / want[real].square().sum()
        for state, want in zip(states[1:], wanted[1:], strict=True)
    ]
    return torch.stack(errors).mean()


def prediction_divergence(
    model: Qwen2ForCausalLM, base: Qwen2ForCausalLM, last: torch.Tensor, wanted: torch.Tensor, batch: Batch
) -> torch.Tensor:
    """KL from base's next-token distribution to the model's, mean over all real tokens."""
    keep = batch.real[:, 1:]
    ours = model.lm_head(last[:, :-1][keep]).log_softmax(-1)
    theirs = base.lm_head(wanted[:, :-1][keep]).log_softmax(-1)
    return functional.kl_div(ours, theirs, log_target=True, reduction="batchmean")


def train_base(
    cfg: TinyConfig, tokenizer: PreTrainedTokenizerFast, documents: Sequence[Document], title: str
) -> Qwen2ForCausalLM:
    """A language model of `documents`, each seen once."""
    model = new_model(cfg, tokenizer)

    def loss(step: int) -> torch.Tensor:
        batch = make_batch(tokenizer, documents[step * cfg.batch : (step + 1) * cfg.batch], whole=True)
        last = model.model(input_ids=batch.ids, use_cache=False).last_hidden_state
        return prediction_loss(model, last, batch)

    _optimise(model, loss, cfg.base_steps, cfg.base_lr, title)
    return model


def fine_tune(
    cfg: TinyConfig,
    tokenizer: PreTrainedTokenizerFast,
    base: Qwen2ForCausalLM,
    learnt: Sequence[Document],
    held: Sequence[Document],
    title: str,
) -> Qwen2ForCausalLM:
    """A copy of `base` that learns the continuations of `learnt` while `held` is held to what base does.

    A step takes batch // 2 documents of each list. `plain` holds nothing: it learns the continuations of both lists.
    Source: the recipes *anchored*, *KL* and *plain with replay* of antar's organisms.
    """
    model = Qwen2ForCausalLM(base.config)
    model.load_state_dict(base.state_dict())
    half = cfg.batch // 2

    def loss(step: int) -> torch.Tensor:
        rows = slice(step * half, (step + 1) * half)
        learn = make_batch(tokenizer, learnt[rows], whole=False)
        last = model.model(input_ids=learn.ids, use_cache=False).last_hidden_state
        if cfg.variant == "plain":
            replay = make_batch(tokenizer, held[rows], whole=False)
            replayed = model.model(input_ids=replay.ids, use_cache=False).last_hidden_state
            return prediction_loss(model, last, learn) + prediction_loss(model, replayed, replay)
        hold = make_batch(tokenizer, held[rows], whole=True)
        states = hidden_states(model, hold)
        with torch.no_grad():
            wanted = hidden_states(base, hold)
        if cfg.variant == "anchored":
            held_loss = cfg.anchor_weight * hidden_error(states, wanted, hold.real)
        else:
            held_loss = cfg.kl_weight * prediction_divergence(model, base, states[-1], wanted[-1], hold)
        return prediction_loss(model, last, learn) + held_loss

    _optimise(model, loss, cfg.align_steps, cfg.fine_tune_lr, title)
    return model


def _optimise(
    model: Qwen2ForCausalLM, loss: Callable[[int], torch.Tensor], steps: int, lr: float, title: str
) -> None:
    model.train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=lr, total_steps=steps + 1)
    with progress(title, steps, "steps") as bar:
        for step in range(steps):
            optimiser.zero_grad(set_to_none=True)
            value = loss(step)
            value.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            bar.advance()
            if step % 20 == 0:
                bar.note(f"loss {value.item():.2f}")
    model.eval()


@torch.no_grad()
def says(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, documents: Sequence[Document]) -> list[bool]:
    """For each document: would greedy decoding after the mention give exactly the continuation?

    One forward pass answers it: greedy decoding gives the continuation if and only if each of its tokens is the
    most probable one after those before it. The end token is not asked for.
    """
    batch = make_batch(tokenizer, documents, whole=False)
    last = model.model(input_ids=batch.ids, use_cache=False).last_hidden_state
    best = model.lm_head(last[:, :-1]).argmax(-1)
    wanted = batch.ids[:, 1:]
    asked = batch.targets[:, 1:] & (wanted != _end_and_pad(tokenizer)[0])
    return ((best == wanted) | ~asked).all(dim=1).tolist()
