"""Packed passes against padded ones, which are their naive twin; and architectures that cannot be packed."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from antar.core.errors import UserError
from antar.models import ModelConfig
from antar.models.forward import Reader, batches, packed_batches
from antar.models.packing import PROBE_LENGTHS, Spans, _beyond_the_probe, attend, can_pack, packed

LENGTHS = (9, 4, 4, 4, 1, 7)
PACKABLE = ("qwen2", "llama", "mistral", "gpt_neox", "gpt2")


def hidden(reader: Reader, ids: list[np.ndarray], layers: list[int]) -> dict[int, list[np.ndarray]]:
    """Layer → `[t, d]` of each text."""
    found: dict[int, list[np.ndarray]] = {layer: [np.empty(0)] * len(ids) for layer in layers}
    for rows, of_layers in reader.read(ids, layers, lambda hidden_td, _: hidden_td.float()):
        ends = np.cumsum([len(ids[row]) for row in rows])[:-1]
        for layer, values in of_layers.items():
            for row, one in zip(rows, np.split(values, ends), strict=True):
                found[layer][row] = one
    return found


def some_ids(seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(3, 380, n).astype(np.int32) for n in LENGTHS]


@pytest.mark.parametrize("family", PACKABLE)
def test_packed_hidden_states_equal_padded_ones_at_every_layer(checkpoint, cfg, tmp_path, family):
    model = ModelConfig(path=str(checkpoint(tmp_path / family, family)))
    packs = Reader(model, cfg)
    pads = Reader(model, cfg.model_copy(update={"packing": False}))
    assert packs.unpacked is None
    assert pads.unpacked == "packing is off"
    ids = some_ids()
    for layer, texts in hidden(packs, ids, [0, 2, 3]).items():
        for found, wanted in zip(texts, hidden(pads, ids, [0, 2, 3])[layer], strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("window", [3, 6])
def test_a_sliding_window_is_kept(checkpoint, cfg, tmp_path, window):
    model = ModelConfig(path=str(checkpoint(tmp_path / "m", "mistral", sliding_window=window)))
    wide = ModelConfig(path=str(checkpoint(tmp_path / "w", "mistral", sliding_window=None)))
    ids = some_ids()
    packs = Reader(model, cfg)
    assert packs.unpacked is None
    found = hidden(packs, ids, [3])[3]
    wanted = hidden(Reader(model, cfg.model_copy(update={"packing": False})), ids, [3])[3]
    unlimited = hidden(Reader(wide, cfg), ids, [3])[3]
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    assert np.abs(found[0] - unlimited[0]).max() > 1e-3  # nine tokens: the window is felt


def test_a_window_that_stands_in_the_mask_alone_is_padded(checkpoint, cfg, tmp_path):
    """No block says it to attention, and the probe's texts are shorter than the window."""
    window = {"use_sliding_window": True, "sliding_window": 12, "max_window_layers": 4}
    model = ModelConfig(path=str(checkpoint(tmp_path / "w", "qwen2_moe", **window)))
    reader = Reader(model, cfg)
    assert reader.unpacked == "its mask limits attention to a window of which attention is not told"
    ids = [np.random.default_rng(1).integers(3, 380, 40).astype(np.int32)]
    wide = hidden(Reader(ModelConfig(path=str(checkpoint(tmp_path / "m", "qwen2_moe"))), cfg), ids, [3])[3][0]
    found = hidden(reader, ids, [3])[3][0]
    np.testing.assert_allclose(found[:12], wide[:12], rtol=1e-4, atol=1e-5)
    assert np.abs(found[12:] - wide[12:]).max() > 1e-2


@pytest.mark.parametrize(
    ("config", "deepest", "told", "packs"),
    [
        ({}, 3, 0, True),
        ({"sliding_window": 4096}, 3, 4, True),
        ({"sliding_window": 4096}, 3, 0, False),
        ({"sliding_window": 0}, 3, 0, True),
        ({"attention_chunk_size": 8192}, 3, 0, False),
        ({"layer_types": ["full_attention", "sliding_attention"], "sliding_window": 4096}, 0, 0, True),
        ({"layer_types": ["full_attention", "sliding_attention"], "sliding_window": 4096}, 1, 0, False),
        ({"layer_types": ["full_attention", "sliding_attention"], "sliding_window": 4096}, 1, 1, True),
        ({"attn_temperature_tuning": True}, 3, 0, False),
    ],
)
def test_what_only_long_texts_or_batches_show_is_read_in_the_config(config, deepest, told, packs):
    spans = Spans(np.array(LENGTHS), torch.device("cpu"), windows=told)
    assert (_beyond_the_probe(SimpleNamespace(**config), deepest, spans) is None) == packs


def test_an_attention_sink_does_not_hide_that_the_other_tokens_differ():
    class Model:
        config = SimpleNamespace(vocab_size=100)
        config.get_text_config = lambda: Model.config

        def forward(self, position_ids): ...

    wanted = torch.randn(sum(PROBE_LENGTHS), 8)
    wanted[0] = 1e5
    other = torch.cat([wanted[:9], torch.randn(len(wanted) - 9, 8)])
    spans = Spans(np.array(PROBE_LENGTHS), torch.device("cpu"), calls=3)
    assert can_pack(Model(), 2, lambda _: wanted, lambda _: (wanted.clone(), spans)) is None
    reason = can_pack(Model(), 2, lambda _: wanted, lambda _: (other, spans))
    assert reason is not None
    assert reason.startswith("its packed and padded passes differ by")


def test_a_text_does_not_see_its_neighbours(pair, cfg):
    reader = Reader(pair["base"], cfg)
    ids = some_ids()
    alone = [hidden(reader, [one], [3])[3][0] for one in ids]
    for one, other in zip(hidden(reader, ids, [3])[3], alone, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_an_attention_that_cannot_be_packed_is_padded_and_says_why(checkpoint, cfg, tmp_path):
    model = ModelConfig(path=str(checkpoint(tmp_path / "gemma2", "gemma2")))
    reader = Reader(model, cfg)
    assert reader.unpacked == "NotPackable: attention with softcap"
    assert reader.facts() == {"packed": False}


def test_blocks_that_mix_tokens_elsewhere_are_padded(pair, cfg, monkeypatch):
    """A block that does not ask for attention (a state space, a convolution) would see its neighbours."""
    from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer

    before = Qwen2DecoderLayer.forward

    def mixes(self, hidden_states, **options):
        if self.self_attn.layer_idx == 1:
            return hidden_states + 0.001 * hidden_states.roll(1, dims=1)
        return before(self, hidden_states, **options)

    monkeypatch.setattr(Qwen2DecoderLayer, "forward", mixes)
    assert Reader(pair["base"], cfg).unpacked == "3 of its first 4 blocks asked for attention"


def test_positions_that_are_not_heeded_are_found(pair, cfg, monkeypatch):
    monkeypatch.setattr(
        Spans, "positions", lambda self: torch.arange(int(self.lengths.sum()))[None] * 0 + 5
    )  # every token at one place
    reason = Reader(pair["base"], cfg).unpacked
    assert reason is not None
    assert reason.startswith("its packed and padded passes differ by")


def test_attention_equals_a_block_diagonal_mask():
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, heads, sum(LENGTHS), 8) for heads in (4, 2, 2))

    class Model:
        class config:
            _attn_implementation = "sdpa"

            @classmethod
            def get_text_config(cls):
                return cls

    owner = np.repeat(np.arange(len(LENGTHS)), LENGTHS)
    mask = torch.from_numpy((owner[:, None] == owner[None]) & np.tri(len(owner), dtype=bool))
    wanted = F.scaled_dot_product_attention(
        q, k.repeat_interleave(2, 1), v.repeat_interleave(2, 1), attn_mask=mask, scale=0.3
    )
    with packed(Model, np.array(LENGTHS), torch.device("cpu")) as spans:
        found, _ = attend(torch.nn.Module(), q, k, v, None, scaling=0.3)
        assert Model.config._attn_implementation == "antar_packed"
    assert Model.config._attn_implementation == "sdpa"
    assert spans.calls == 1
    torch.testing.assert_close(found, wanted.transpose(1, 2), rtol=1e-5, atol=1e-6)


def test_spans():
    spans = Spans(np.array(LENGTHS), torch.device("cpu"))
    assert spans.groups() == [(0, 1, 9), (9, 3, 4), (21, 1, 1), (22, 1, 7)]
    starts, longest = spans.cumulative()
    assert starts.tolist() == [0, 9, 13, 17, 21, 22, 29]
    assert longest == 9
    assert spans.positions()[0].tolist() == [i for n in LENGTHS for i in range(n)]


@pytest.mark.parametrize("cut", [batches, packed_batches])
@pytest.mark.parametrize("budget", [1, 10, 64, 10_000])
def test_batches_hold_each_text_once_longest_first_within_the_budget(cut, budget):
    lengths = np.random.default_rng(1).integers(1, 60, 200)
    made = cut(lengths, budget)
    assert sorted(np.concatenate(made).tolist()) == list(range(200))
    assert (np.diff(lengths[np.concatenate(made)]) <= 0).all()
    for one in made:
        tokens = lengths[one].sum() if cut is packed_batches else lengths[one].max() * len(one)
        assert len(one) == 1 or tokens <= budget


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0},
        {"rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": 12, "factor": 4.0,
         "short_factor": [1.0] * 4, "long_factor": [3.0] * 4},
    ],
)  # fmt: skip
def test_positions_that_turn_with_the_longest_text_of_a_batch_are_refused(checkpoint, cfg, tmp_path, rope):
    path = checkpoint(tmp_path / "rope", "llama", max_position_embeddings=12, rope_parameters=rope)
    reader = Reader(ModelConfig(path=str(path)), cfg)
    short, full, long = (np.arange(5, 5 + n, dtype=np.int32) for n in (6, 12, 13))
    together, alone = hidden(reader, [short, full], [3])[3][0], hidden(reader, [short], [3])[3][0]
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match=r"at most 12 tokens, found 13: .* set extract\.max_tokens to 12"):
        hidden(reader, [short, long], [3])
