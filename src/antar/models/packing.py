"""Padding-free packing: a batch as one long row of texts, each of which attends to itself alone.

A packed batch is one row `[1, tokens]` with positions that start again at every text. Attention is the only place
where tokens meet, and transformers lets an attention function be registered: ours runs torch's own kernels inside
each text, so no mask is built and no token is spent on padding. On a GPU it is one variable-length kernel; elsewhere
texts of equal length go through scaled dot-product attention together, which batches sorted by length make few calls.

Not every architecture allows it (attention of its own, token mixing outside attention, soft caps). `can_pack` finds
out by trying: the packed pass must call our attention once in every block, and give what the padded pass gives. What
no short trial can show (a window of thousands of tokens that is drawn in the mask alone) is read in the config.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

ATTENTION = "antar_packed"
# Arguments of an attention function that change nothing here, or not when they are None or off.
_UNDERSTOOD = {"scaling", "dropout", "is_causal", "sliding_window", "position_ids", "cache_position", "use_cache"}
PROBE_LENGTHS = (9, 9, 5, 2)
"""Tokens of the texts on which `can_pack` compares the packed pass with the padded one."""
_TOLERANCE = {torch.float32: 1e-3}
_HALF_TOLERANCE = 0.1


class NotPackable(Exception):
    """This attention cannot be packed: the reason why."""


@dataclass
class Spans:
    """Where the texts of a packed batch lie. lengths `[b]`: tokens of each, one after another.

    calls: how many times attention was asked for since these spans were made; windows: how many of these times it
    was told of a sliding window
    """

    lengths: np.ndarray
    device: torch.device
    calls: int = 0
    windows: int = 0
    _varlen: tuple[Tensor, int] | None = field(default=None, repr=False)

    def groups(self) -> list[tuple[int, int, int]]:
        """(first token, texts, tokens of each) for every run of neighbouring texts of equal length."""
        edges = np.flatnonzero(np.diff(self.lengths)) + 1
        starts = np.concatenate([[0], np.cumsum(self.lengths)])
        firsts, lasts = np.concatenate([[0], edges]), np.concatenate([edges, [len(self.lengths)]])
        return [(int(starts[lo]), int(hi - lo), int(self.lengths[lo])) for lo, hi in zip(firsts, lasts, strict=True)]

    def cumulative(self) -> tuple[Tensor, int]:
        """(int32 `[b + 1]` on the device, where each text starts; the longest text)."""
        if self._varlen is None:
            starts = np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int32)
            self._varlen = torch.from_numpy(starts).to(self.device), int(self.lengths.max())
        return self._varlen

    def positions(self) -> Tensor:
        """int64 `[1, tokens]`: each token's place in its own text."""
        starts = np.repeat(np.cumsum(self.lengths) - self.lengths, self.lengths)
        return torch.from_numpy(np.arange(int(self.lengths.sum())) - starts)[None].to(self.device)


_refused: list[bool] = []  # the variable-length kernel would not take this model's heads
_now: list[Spans] = []  # the batch that is in the model; a list, because the attention function is global


@contextmanager
def packed(model: Any, lengths: np.ndarray, device: torch.device) -> Generator[Spans]:
    """Attention of `model` is ours while the block runs, over texts of these lengths."""
    spans, before = Spans(lengths, device), model.config._attn_implementation
    _register()
    _implement(model, ATTENTION)
    _now.append(spans)
    try:
        yield spans
    finally:
        _now.pop()
        _implement(model, before)


def _implement(model: Any, name: str) -> None:
    # The property behind every block's choice of attention. `set_attn_implementation` would validate the name of a
    # kernel each time; the parts of a multimodal model are not read, so the text config alone is changed.
    model.config._attn_implementation = name
    model.config.get_text_config()._attn_implementation = name


def _register() -> None:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    if ATTENTION not in ALL_ATTENTION_FUNCTIONS:
        ALL_ATTENTION_FUNCTIONS.register(ATTENTION, attend)


def attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Causal attention inside each text. query `[1, heads, tokens, d]`, key and value with heads or fewer (grouped);
    returns `[1, tokens, heads, d]`. Raises NotPackable for what it does not understand."""
    spans = _now[-1]
    spans.calls += 1
    unknown = [name for name, value in options.items() if value is not None and name not in _UNDERSTOOD]
    if unknown or attention_mask is not None or len(query) != 1:
        raise NotPackable(f"attention with {', '.join(unknown) or 'a mask of its own'}")
    if not (options.get("is_causal") is not False and getattr(module, "is_causal", True)):
        raise NotPackable("attention to later tokens")
    window: int | None = options.get("sliding_window")
    spans.windows += window is not None
    longest = int(spans.lengths.max())
    window = None if window is None or window >= longest else window
    scale: float | None = options.get("scaling")
    if query.shape[1] > key.shape[1]:  # grouped queries
        repeats = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
    if query.is_cuda and query.dtype in (torch.float16, torch.bfloat16) and (varlen := _varlen_kernel()) is not None:
        try:
            return _by_kernel(varlen, query, key, value, spans, scale, window), None
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, TypeError):
            _varlen_kernel.cache_clear()
            _refused.append(True)  # e.g. a head size that the kernel has not: never asked again
    return _by_length(query, key, value, spans, scale, window), None


def _by_length(
    query: Tensor, key: Tensor, value: Tensor, spans: Spans, scale: float | None, window: int | None
) -> Tensor:
    heads, d_value = query.shape[1], value.shape[3]
    out = query.new_empty(1, query.shape[2], heads, d_value)
    for start, texts, length in spans.groups():
        q, k, v = (
            whole[0, :, start : start + texts * length].unflatten(1, (texts, length)).transpose(0, 1)
            for whole in (query, key, value)
        )
        mask = None if window is None or window >= length else _band(length, window, query.device)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, scale=scale)
        out[0, start : start + texts * length] = attended.transpose(1, 2).reshape(texts * length, heads, d_value)
    return out


def _band(length: int, window: int, device: torch.device) -> Tensor:
    """bool `[length, length]`: the `window` latest tokens up to and with each token's own place."""
    places = torch.arange(length, device=device)
    back = places[:, None] - places[None, :]
    return (back >= 0) & (back < window)


def _by_kernel(
    kernel: Any, query: Tensor, key: Tensor, value: Tensor, spans: Spans, scale: float | None, window: int | None
) -> Tensor:
    starts, longest = spans.cumulative()
    q, k, v = (whole[0].transpose(0, 1).contiguous() for whole in (query, key, value))
    back = -1 if window is None else window - 1
    return kernel(q, k, v, starts, starts, longest, longest, scale=scale, window_size=(back, 0))[None]


@cache
def _varlen_kernel() -> Any:
    """torch's variable-length attention (2.13 has it); None where this torch has none, or one of another shape, or
    where it refused."""
    if _refused:
        return None
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn if "window_size" in inspect.signature(varlen_attn).parameters else None


def can_pack(
    model: Any,
    deepest: int,
    padded: Callable[[Sequence[np.ndarray]], Tensor],
    packed_pass: Callable[[Sequence[np.ndarray]], tuple[Tensor, Spans]],
) -> str | None:
    """Why texts cannot be packed in `model`; None when they can.

    padded, packed_pass: functions from a list of token ids `[t]` to the hidden states `[tokens, d]` after block
    `deepest`, texts one after another; `packed_pass` also returns the spans that attention was asked over.
    """
    if "position_ids" not in inspect.signature(model.forward).parameters:
        return "its forward pass takes no positions"
    config = model.config.get_text_config()
    rng = np.random.default_rng(0)
    probe: Sequence[np.ndarray] = [rng.integers(0, int(config.vocab_size), length) for length in PROBE_LENGTHS]
    try:
        found, spans = packed_pass(probe)
    except (NotPackable, RuntimeError, TypeError, ValueError, AttributeError, KeyError) as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
    if spans.calls != deepest + 1:
        return f"{spans.calls} of its first {deepest + 1} blocks asked for attention"
    if why := _beyond_the_probe(config, deepest, spans):
        return why
    wanted = padded(probe).float()
    # Token by token: the norm of all would be that of an attention sink, beside which the others do not count.
    sizes = wanted.norm(dim=-1).clamp_min(torch.finfo(torch.float32).tiny)  # a padding token's may be 0
    apart = float(((found.float() - wanted).norm(dim=-1) / sizes).mean())
    if not apart < _TOLERANCE.get(found.dtype, _HALF_TOLERANCE):
        return f"its packed and padded passes differ by {apart:.2g} of their size"
    return None


def _beyond_the_probe(config: Any, deepest: int, spans: Spans) -> str | None:
    """What limits or scales attention by more than the arguments that it is called with, and only in texts or batches
    longer than the probe: windows and chunks that stand in the mask alone (Qwen2-MoE, Phi-MoE, Llama 4), and a scale
    by the place in the row (Llama 4)."""
    kinds: Sequence[str] | None = getattr(config, "layer_types", None)
    if kinds is not None:
        limited = any(kind != "full_attention" for kind in kinds[: deepest + 1])
    else:
        limited = any(getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size"))
    if limited and not spans.windows:
        return "its mask limits attention to a window of which attention is not told"
    if getattr(config, "attn_temperature_tuning", None):
        return "its attention is scaled by the place in the batch, not in the text"
    return None
