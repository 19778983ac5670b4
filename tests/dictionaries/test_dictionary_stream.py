"""Training on rows that stay on the disk: the same as in memory where the buffer holds all, bounded where not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from antar.core.errors import UserError
from antar.dictionaries import TrainedDictionary, preset, train_dictionary
from antar.dictionaries import trainer as trainer_module
from antar.dictionaries.data import Scaling, batch_sizes, epoch_batches, fit_scaling
from antar.dictionaries.stream import Moments, StreamedRows, sample_rows

CPU = torch.device("cpu")
D = 16


@dataclass
class Pieces:
    """Rows of an array as a `RowSource`; remembers what was read."""

    acts_nd: np.ndarray
    cuts: list[int]
    read_pieces: list[int] = field(default_factory=list)
    identity: str = "these"

    @property
    def width(self) -> int:
        return self.acts_nd.shape[1]

    @property
    def sizes(self) -> np.ndarray:
        return np.diff([0, *self.cuts, len(self.acts_nd)])

    def __len__(self) -> int:
        return len(self.acts_nd)

    def read(self, piece: int) -> np.ndarray:
        self.read_pieces.append(piece)
        edges = [0, *self.cuts, len(self.acts_nd)]
        return self.acts_nd[edges[piece] : edges[piece + 1]].copy()


def planted(n: int = 900, d: int = D, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    codes = rng.exponential(size=(n, 24)) * (rng.random((n, 24)) < 0.15)
    return (codes @ rng.standard_normal((24, d)) + 3 + 0.05 * rng.standard_normal((n, d))).astype(np.float32)


def pieces_of(acts_nd: np.ndarray) -> Pieces:
    return Pieces(acts_nd, [70, 71, 200, 330, 500, 640])


def small(**overrides: Any):
    own = {"n_latents": 32, "k": 4, "batch": 64, "max_epochs": 4, "check_every_epochs": 2, "lr": 3e-3,
           "warmup_steps": 5, "k_aux": 8, "threads": 1, "device": "cpu"}  # fmt: skip
    return preset("antar", **(own | overrides))


def train(rows: Any, val_nd: np.ndarray, kind: str = "topk", checkpoint: Path | None = None, **overrides: Any):
    return train_dictionary(rows, val_nd, small(**overrides), seed=5, checkpoint=checkpoint, title="t", kind=kind)


def assert_same_bits(one: TrainedDictionary, other: TrainedDictionary) -> None:
    for name, tensor in one.dictionary.tensors().items():
        assert torch.equal(tensor, other.dictionary.tensors()[name]), name
    assert one.history.equals(other.history)
    assert one.facts == other.facts


@pytest.mark.parametrize("path", ["torch", "fused"])
@pytest.mark.parametrize("kind", ["topk", "batchtopk", "crosscoder"])
def test_a_buffer_that_holds_all_trains_as_in_memory(kind: str, path: str) -> None:
    val_nd, acts_nd = np.split(planted(1020), [120])
    in_memory = train(acts_nd, val_nd, kind, path=path)
    assert_same_bits(in_memory, train(pieces_of(acts_nd), val_nd, kind, path=path))


def test_resets_to_residuals_and_a_median_start_are_those_in_memory() -> None:
    val_nd, acts_nd = np.split(planted(1020), [120])
    recipe = {
        "reset_every_steps": 30,
        "reset_to": "residual",
        "pre_bias": "geometric_median",
        "n_latents": 256,
        "k": 2,
    }
    in_memory = train(acts_nd, val_nd, **recipe)
    assert in_memory.facts["resets"] > 0
    assert_same_bits(in_memory, train(pieces_of(acts_nd), val_nd, **recipe))


def streamed(source: Pieces, rows_in_buffer: int, seed: int = 5) -> StreamedRows:
    as_it_is = Scaling(np.zeros(source.width, np.float32), 1.0)
    return StreamedRows(source, as_it_is, 64, seed, 4 * source.width * rows_in_buffer, CPU)


def numbered(n: int) -> np.ndarray:
    return np.stack([np.arange(n, dtype=np.float32), np.zeros(n, np.float32)], axis=1)


def test_all_in_one_buffer_is_the_order_in_memory() -> None:
    stream = streamed(pieces_of(numbered(900)), 900)
    for epoch in (0, 3):
        orders = epoch_batches(900, 64, 5, epoch, CPU)
        found = list(stream.batches(epoch))
        assert len(found) == len(orders)
        for batch_bd, order in zip(found, orders, strict=True):
            assert torch.equal(batch_bd[:, 0], order.float())


@pytest.mark.parametrize("rows_in_buffer", [1, 173, 400, 899])
def test_each_epoch_gives_every_row_once_in_batches_of_the_usual_sizes(rows_in_buffer: int) -> None:
    source = pieces_of(numbered(900))
    stream = streamed(source, rows_in_buffer)
    epochs = [list(stream.batches(epoch)) for epoch in (0, 1)]
    for batches in epochs:
        assert [len(one) for one in batches] == list(batch_sizes(900, 64)) == [60] * 15
        assert sorted(torch.cat(batches)[:, 0].tolist()) == list(range(900))
    assert not torch.equal(torch.cat(epochs[0]), torch.cat(epochs[1]))
    again = streamed(pieces_of(numbered(900)), rows_in_buffer)
    assert torch.equal(torch.cat(list(again.batches(1))), torch.cat(epochs[1]))  # with no epoch before it
    assert not torch.equal(torch.cat(list(streamed(source, rows_in_buffer, 6).batches(0))), torch.cat(epochs[0]))


@pytest.mark.parametrize(("rows_in_buffer", "most"), [(300, 300), (10, 260)])
def test_the_buffer_is_bounded(rows_in_buffer: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more rows are read ahead than fit; a piece larger than the buffer (260 rows) is shuffled alone."""
    source = pieces_of(numbered(900))
    stream = streamed(source, rows_in_buffer)
    given = ahead = 0
    for batch_bd in stream.batches(0):
        read = int(source.sizes[source.read_pieces].sum())
        ahead = max(ahead, read - given)
        given += len(batch_bd)
    assert given == 900 and len(source.read_pieces) == len(source.sizes)
    assert most - 64 < ahead <= most + 64  # and the rows of the batch that a group left unfinished


def test_a_batch_may_span_several_buffers() -> None:
    stream = streamed(Pieces(numbered(900), list(range(10, 900, 10))), 10)
    batches = list(stream.batches(0))
    assert [len(one) for one in batches] == [60] * 15
    assert sorted(torch.cat(batches)[:, 0].tolist()) == list(range(900))


@pytest.mark.parametrize(("rows", "batch"), [(900, 64), (7, 64), (129, 64), (128, 64), (1, 1)])
def test_batch_sizes_are_those_of_epoch_batches(rows: int, batch: int) -> None:
    assert list(batch_sizes(rows, batch)) == [len(one) for one in epoch_batches(rows, batch, 0, 0, CPU)]


def test_a_small_buffer_learns_as_well() -> None:
    """20,000 rows through a buffer of 8,192."""
    val_nd, acts_nd = np.split(planted(20_300, 32), [300])
    in_memory = train(acts_nd, val_nd)
    found = train(Pieces(acts_nd, list(range(100, 20_000, 100))), val_nd, stream_buffer=1)
    assert found.facts["rows_train"] == 20_000
    assert found.facts["best_val_fvu"] == pytest.approx(in_memory.facts["best_val_fvu"], rel=0.1)
    assert found.facts["best_val_fvu"] < 0.5


def test_a_killed_training_goes_on_to_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    val_nd, acts_nd = np.split(planted(1020), [120])
    whole = train(pieces_of(acts_nd), val_nd, max_epochs=6)
    original = StreamedRows.batches

    class Killed(BaseException):
        pass

    def dying(self: StreamedRows, epoch: int) -> Iterator[torch.Tensor]:
        for number, batch_bd in enumerate(original(self, epoch)):
            if epoch == 3 and number == 2:
                raise Killed
            yield batch_bd

    epochs: list[int] = []

    def watched(self: StreamedRows, epoch: int) -> Iterator[torch.Tensor]:
        epochs.append(epoch)
        return original(self, epoch)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(StreamedRows, "batches", dying)
        train(pieces_of(acts_nd), val_nd, checkpoint=tmp_path, max_epochs=6)
    with monkeypatch.context() as patch:
        patch.setattr(StreamedRows, "batches", watched)
        again = train(pieces_of(acts_nd), val_nd, checkpoint=tmp_path, max_epochs=6)
    assert epochs == [2, 3, 4, 5]
    assert_same_bits(whole, again)
    epochs.clear()
    with monkeypatch.context() as patch:  # other rows: the checkpoint is not theirs
        patch.setattr(StreamedRows, "batches", watched)
        other = pieces_of(acts_nd)
        other.identity = "others"
        train(other, val_nd, checkpoint=tmp_path, max_epochs=6)
    assert epochs == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("offset", [0.0, 3.0, 1e4])
def test_moments_of_one_pass_are_those_of_two(offset: float) -> None:
    acts_nd = (planted() + offset).astype(np.float32)
    exact_nd = acts_nd.astype(np.float64)
    found = Moments.of(pieces_of(acts_nd))
    np.testing.assert_allclose(found.mean_d, exact_nd.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.squares_d, np.square(exact_nd - exact_nd.mean(0)).sum(0), rtol=1e-9)
    for columns in (slice(0, D), slice(0, 8), slice(8, D)):
        one, other = found.scaling(columns, True, 0.0), fit_scaling(acts_nd[:, columns], True)
        np.testing.assert_array_equal(one.centre_d, other.centre_d)
        assert one.scale == pytest.approx(other.scale, rel=1e-9)
    assert found.scaling(slice(0, D), False, 0.0).scale == 1.0
    assert found.scaling(slice(0, D), True, floor=1e9).scale == 0.0


def test_rows_without_variance_give_a_dictionary_that_never_fires() -> None:
    flat_nd = np.full((900, D), 0.3, np.float32)
    found = train(pieces_of(flat_nd), flat_nd[:50])
    assert found.facts["zero_variance"]
    assert found.dictionary.encode(flat_nd).firing_counts().sum() == 0


@pytest.mark.parametrize("kind", ["pca", "random", "neurons"])
def test_baselines_are_fitted_to_the_rows(kind: str) -> None:
    val_nd, acts_nd = np.split(planted(1020), [120])
    assert_same_bits(train(acts_nd, val_nd, kind), train(pieces_of(acts_nd), val_nd, kind))


def test_a_sample_of_rows_is_drawn_once_and_lightly() -> None:
    source = pieces_of(numbered(900))
    rows, acts_md = sample_rows(source, 40, seed=3)
    assert len(set(rows)) == 40 and (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(acts_md[:, 0], rows)
    np.testing.assert_array_equal(rows, sample_rows(source, 40, seed=3)[0])
    assert list(rows) != list(sample_rows(source, 40, seed=4)[0])
    source.read_pieces.clear()
    rows, acts_md = sample_rows(source, 1, seed=3)
    assert len(source.read_pieces) == 1 and acts_md[0, 0] == rows[0]
    np.testing.assert_array_equal(sample_rows(source, 900, seed=3)[1], source.acts_nd)


def test_where_a_sample_stands_for_all_the_training_still_sees_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer_module, "SAMPLE_ROWS", 50)
    val_nd, acts_nd = np.split(planted(1020), [120])
    source = pieces_of(acts_nd)
    found = train(source, val_nd, "batchtopk")
    assert found.facts["rows_train"] == 900 and found.facts["steps"] == 4 * 15
    assert found.facts["best_val_fvu"] < 1


def test_no_tokens_at_all_is_a_users_mistake() -> None:
    with pytest.raises(UserError, match="training activations: expected at least one token"):
        train(Pieces(np.empty((0, D), np.float32), []), planted(20))
