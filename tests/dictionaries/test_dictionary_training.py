"""The training loop: what it learns, when it stops, that it can be killed, and whom it resets."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from antar.core.errors import AntarWarning, UserError
from antar.core.jit import have_numba
from antar.core.seeds import torch_rng
from antar.dictionaries import DictionaryConfig, TopK, preset, remove_checkpoint, train_dictionary
from antar.dictionaries.checkpoint import CHECKPOINT_FILE
from antar.dictionaries.data import check_rows, epoch_batches, fit_scaling
from antar.dictionaries.dead import DeadTracker, reset_rows_
from antar.dictionaries.evaluate import evaluate
from antar.dictionaries.kinds import LEARNERS
from antar.dictionaries.trained import HISTORY, TrainedDictionary
from antar.dictionaries.trainer import Training
from antar.dictionaries.weights import NAMES, Weights, initial_weights

sys.path.insert(0, str(Path(__file__).parent))
from harness import count, killed_in_epoch


def planted(rows: int, d: int = 32, directions: int = 40, active: float = 3.0, seed: int = 0) -> tuple[Any, Any]:
    """Rows that are sparse sums of known directions, off centre, on a scale of their own; and the directions."""
    rng = np.random.default_rng(seed)
    truth_md = rng.standard_normal((directions, d))
    truth_md /= np.linalg.norm(truth_md, axis=1, keepdims=True)
    strength_nm = (rng.random((rows, directions)) < active / directions) * (0.5 + rng.random((rows, directions)))
    noise_nd = 0.02 * rng.standard_normal((rows, d))
    return (7 * (strength_nm @ truth_md + noise_nd) + 3 * rng.standard_normal(d)).astype(np.float32), truth_md


def small(**overrides: Any) -> DictionaryConfig:
    fields = {
        "n_latents": 64,
        "k": 6,
        "k_aux": 16,
        "lr": 5e-3,
        "batch": 64,
        "max_epochs": 12,
        "check_every_epochs": 3,
    }
    return preset("antar", **{**fields, "threads": 1, "device": "cpu", **overrides})


def train(
    cfg: DictionaryConfig, *, seed: int = 1, checkpoint: Path | None = None, rows: int = 700
) -> TrainedDictionary:
    acts_nd, _ = planted(rows)
    return train_dictionary(acts_nd[100:], acts_nd[:100], cfg, seed=seed, checkpoint=checkpoint, title="test")


def same_bits(a: TopK, b: TopK) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.weights.tensors(), b.weights.tensors(), strict=True))


def test_planted_directions_are_recovered_and_pca_and_random_are_beaten() -> None:
    acts_nd, truth_md = planted(3000)
    cfg = small(max_epochs=20, batch=128)
    found = train_dictionary(acts_nd[500:], acts_nd[:500], cfg, seed=3, checkpoint=None, title="test")

    def recovered(decoder_nd: np.ndarray) -> float:
        return float((np.abs(decoder_nd @ truth_md.T).max(axis=0) > 0.9).mean())

    start = initial_weights(cfg, 32, 3).decoder_nd.numpy()
    assert recovered(start) < 0.1
    assert recovered(found.dictionary.decoder_nd) > 0.8
    report = evaluate(found.dictionary, acts_nd, {"train": np.arange(500, 3000), "val": np.arange(500)})
    val = report["parts"]["val"]
    assert val["fvu"] < 0.1 < val["fvu_pca"] < val["fvu_random"]
    assert found.history["val_fvu"].min() == pytest.approx(val["fvu"], rel=1e-4)
    assert found.history["val_mse"].min() == pytest.approx(val["mse"], rel=1e-4)


def test_decoder_rows_have_unit_length_after_training_under_both_presets() -> None:
    for cfg in (small(), small(preset="published", dead_window_steps=20, reset_every_steps=40)):
        lengths_n = np.linalg.norm(train(cfg).dictionary.decoder_nd.astype(np.float64), axis=1)
        np.testing.assert_allclose(lengths_n, 1, atol=1e-6)


def test_training_depends_on_its_seed_and_on_nothing_else() -> None:
    first = train(small())
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002 (the global state is what must not matter)
    again = train(small())
    assert same_bits(first.dictionary, again.dictionary)
    assert first.history.equals(again.history) and first.facts == again.facts
    assert not same_bits(first.dictionary, train(small(), seed=2).dictionary)


RECIPES = {
    "antar": small(),
    # A window of 25 steps and a reset every 45: neither ends with an epoch of 10 steps or a check of 30.
    "published": small(
        preset="published", dead_window_steps=25, dead_share=0.02, reset_every_steps=45, warmup_steps=9
    ),
    "torch alone": small(path="torch"),
    "in bfloat16": small(compute="bf16"),
}
if have_numba():
    RECIPES["moments in bfloat16"] = small(moments="bf16")


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_killed_training_goes_on_to_the_same_bits(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = RECIPES[recipe]
    whole = train(cfg)
    for epoch in (1, 4, 8):  # before the first check, after one, after two; each time from where it was
        with killed_in_epoch(epoch, monkeypatch):
            train(cfg, checkpoint=tmp_path)
    ran: list[int] = []
    run_epoch = Training.run_epoch
    monkeypatch.setattr(Training, "run_epoch", lambda self: (ran.append(self.at.epoch), run_epoch(self))[1])
    resumed = train(cfg, checkpoint=tmp_path)
    assert ran[0] == 6  # it did go on from the second check
    assert same_bits(whole.dictionary, resumed.dictionary)
    assert whole.history.equals(resumed.history) and whole.facts == resumed.facts
    if recipe == "published":
        assert whole.facts["resets"] > 0
    assert (tmp_path / CHECKPOINT_FILE).is_file()  # the caller's to remove
    ran.clear()
    assert same_bits(train(cfg, checkpoint=tmp_path).dictionary, whole.dictionary) and not ran
    remove_checkpoint(tmp_path)
    assert not tmp_path.exists()


def test_the_same_training_writes_the_same_checkpoint_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        train(small(max_epochs=3), checkpoint=tmp_path / name)
    assert (tmp_path / "a" / CHECKPOINT_FILE).read_bytes() == (tmp_path / "b" / CHECKPOINT_FILE).read_bytes()


def test_a_checkpoint_of_another_training_or_a_damaged_one_is_not_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = small(max_epochs=3)
    train(cfg, seed=5, checkpoint=tmp_path)
    assert same_bits(train(cfg, checkpoint=tmp_path).dictionary, train(cfg).dictionary)
    assert "belongs to other data or settings" in capsys.readouterr().err
    path = tmp_path / CHECKPOINT_FILE
    path.write_bytes(path.read_bytes()[:-100])
    assert same_bits(train(cfg, checkpoint=tmp_path).dictionary, train(cfg).dictionary)
    assert "damaged" in capsys.readouterr().err


def test_early_stopping_gives_back_the_best_check() -> None:
    acts_nd, _ = planted(160)
    # 60 texts and 64 latents: it soon learns them by heart, and the validation error rises again.
    cfg = small(max_epochs=400, check_every_epochs=5, patience=2, lr=1e-2, k=12)
    found = train_dictionary(acts_nd[:60], acts_nd[60:], cfg, seed=0, checkpoint=None, title="test")
    best = found.history.sort("val_mse").row(0, named=True)
    last = found.history.row(-1, named=True)
    assert found.facts["stopped_early"] and found.facts["epochs"] == last["epoch"] < 400
    assert last["epoch"] == best["epoch"] + 2 * 5 and last["val_mse"] > best["val_mse"]
    assert found.facts["best_epoch"] == best["epoch"]
    report = evaluate(found.dictionary, acts_nd, {"val": np.arange(60, 160)})
    assert report["parts"]["val"]["mse"] == pytest.approx(best["val_mse"], rel=1e-4)
    everything = train_dictionary(
        acts_nd[:60], acts_nd[60:], cfg.model_copy(update={"patience": 0, "max_epochs": 60}), seed=0,
        checkpoint=None, title="test",
    )  # fmt: skip
    assert everything.facts["epochs"] == 60 and not everything.facts["stopped_early"]


def test_history_has_its_columns_and_no_time_of_day() -> None:
    history = train(small()).history
    assert history["epoch"].to_list() == [3, 6, 9, 12] and history["step"].to_list() == [30, 60, 90, 120]
    assert history.schema == HISTORY
    assert history["train_mse"][-1] < history["train_mse"][0]
    assert history["live_share"].is_between(0, 1).all()


# --- dead latents ---------------------------------------------------------------------------------------------


def test_the_dead_window_ends_on_small_data_and_auxk_then_has_latents_to_work_on() -> None:
    """PITFALLS: a dead window of 10M samples never ends on 30K texts."""
    acts_nd, _ = planted(128, active=1.0)
    cfg = small(max_epochs=2, batch=32, k=1)
    training = Training(acts_nd, acts_nd, fit_scaling(acts_nd, True), cfg, 0)
    assert training.dead.aux is None
    training.run_epoch()
    assert training.dead.window_steps == 4 and training.dead.aux is not None
    dead = training.dead.aux.dead_m.tolist()
    assert 0 < len(dead) < 64
    before = training.weights.clone()
    for rows in epoch_batches(128, 32, 0, 1, torch.device("cpu")):
        training.step(training.train_nd[rows])
    moved = (training.weights.encoder_nd - before.encoder_nd).norm(dim=1)
    assert (moved[dead] > 10 * cfg.lr * cfg.weight_decay).sum() > len(dead) // 2


def test_a_checkpoint_within_a_window_remembers_who_woke_up() -> None:
    cfg, device = small(n_latents=6, k=2, dead_window_epochs=2), torch.device("cpu")
    tracker, restored = DeadTracker(cfg, 2, device), DeadTracker(cfg, 2, device)
    for step in range(1, 5):
        count(tracker, torch.tensor([[0, 1]]), torch.ones(1, 2))
        tracker.end_of_step(step)
    count(tracker, torch.tensor([[0, 4]]), torch.ones(1, 2))
    restored.restore(tracker.dead_n, tracker.fired_window_n, tracker.rows_in_window)
    assert tracker.dead_now().tolist() == restored.dead_now().tolist() == [2, 3, 5]
    assert restored.aux is not None and restored.aux.asleep_m.tolist() == [True, True, False, True]


def test_epoch_rule_counts_whole_epochs_and_lets_a_latent_wake_at_once() -> None:
    tracker = DeadTracker(small(n_latents=6, k=2), 3, torch.device("cpu"))
    ones = torch.ones(1, 2)
    for step, latents in enumerate([[0, 1], [0, 2], [0, 1]], start=1):
        assert tracker.aux is None
        count(tracker, torch.tensor([latents]), ones)
        tracker.end_of_step(step)
    assert tracker.aux is not None and tracker.aux.dead_m.tolist() == [3, 4, 5]
    assert tracker.live_share_of_epoch() == pytest.approx(0.5)
    count(tracker, torch.tensor([[4, 5]]), torch.tensor([[1.0, 0.0]]))  # a value of 0 is no firing
    assert tracker.aux.asleep_m.tolist() == [True, False, True] and tracker.dead_now().tolist() == [3, 5]
    tracker.end_of_step(4)
    count(tracker, torch.tensor([[0, 1]]), ones)
    assert tracker.dead_now().tolist() == [3, 5]  # still awake
    tracker.end_of_step(5)
    tracker.end_of_step(6)
    assert tracker.dead_now().tolist() == [2, 3, 5]


def test_published_rule_calls_dead_what_fires_below_its_share_of_the_window() -> None:
    cfg = small(preset="published", n_latents=4, k=1, dead_window_steps=5, dead_share=0.1)
    tracker = DeadTracker(cfg, 1, torch.device("cpu"))
    # 50 texts, 5 needed: latent 0 fires 41 times, 1 five times, 2 four times, 3 never.
    latents = torch.tensor([0] * 41 + [1] * 5 + [2] * 4).reshape(5, 10, 1)
    for step, indices in enumerate(latents, start=1):
        count(tracker, indices, torch.ones(10, 1))
        tracker.end_of_step(step)
    assert tracker.dead_now().tolist() == [2, 3]
    tracker.pardon()
    assert tracker.aux is None and not len(tracker.dead_now())


def test_a_reset_changes_exactly_the_dead_rows_and_their_two_moments() -> None:
    """PITFALLS: a reset written to a copy, and an optimiser rebuilt whole."""
    acts_nd, _ = planted(300)
    cfg = small(preset="published", dead_window_steps=7, reset_every_steps=1000)
    training = Training(acts_nd, acts_nd, fit_scaling(acts_nd, True), cfg, 0)
    for _ in range(4):
        training.run_epoch()
    dead = [3, 17, 18, 40, 63]
    mask = torch.zeros(64, dtype=torch.bool).index_fill_(0, torch.tensor(dead), True)
    training.dead.restore(mask, training.dead.fired_window_n.clone(), 0)
    tensors = training.weights.tensors()
    first, second = training.moments()
    addresses = [t.data_ptr() for t in (*tensors, *first.tensors(), *second.tensors())]
    before = [w.clone() for w in (training.weights, first, second)]
    training.reset()
    after = (training.weights, *training.moments())
    assert [t.data_ptr() for w in after for t in w.tensors()] == addresses  # in place, not a copy
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old.decoder_bias_d, new.decoder_bias_d)
        for o, n in zip(old.tensors()[:3], new.tensors()[:3], strict=True):
            assert torch.equal(o[~mask], n[~mask])
    assert (before[0].decoder_nd[mask] != after[0].decoder_nd[mask]).any(1).all()
    assert torch.equal(after[0].encoder_nd[mask], after[0].decoder_nd[mask])
    assert not after[0].encoder_bias_n[mask].any()
    for old, moment in zip(before[1:], after[1:], strict=True):
        assert old.decoder_nd[mask].any() and old.encoder_nd[mask].any()
        assert not any(t[mask].any() for t in moment.tensors()[:3])
    assert training.at.resets == 5 and training.dead.aux is None


def test_resets_draw_anew_each_time_and_from_the_named_stream() -> None:
    cfg = small(preset="published")
    weights = initial_weights(cfg, 8, 0)
    moments = (weights.clone(), weights.clone())
    dead_m = torch.tensor([1, 2])
    reset_rows_(weights, moments, dead_m, cfg, torch_rng(0, "dictionary", "reset", 3000))
    first = weights.decoder_nd[dead_m]
    reset_rows_(weights, moments, dead_m, cfg, torch_rng(0, "dictionary", "reset", 6000))
    assert not torch.equal(first, weights.decoder_nd[dead_m])
    torch.testing.assert_close(weights.decoder_nd[dead_m].norm(dim=1), torch.ones(2))


def test_a_window_longer_than_the_training_is_said() -> None:
    with pytest.warns(AntarWarning, match="longer than the whole training"):
        train(small(preset="published", max_epochs=1))


class NoSync(TorchDispatchMode):
    """Fails on operations whose result, or its shape, the host must wait for."""

    SYNCS = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "bincount", "unique", "equal.default")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        # Indexing with a boolean mask has to count it first.
        masked = name == "aten.index.Tensor" and any(i is not None and i.dtype == torch.bool for i in args[1])
        waits = masked or any(f"aten.{sync}" in name for sync in self.SYNCS)
        assert not waits, f"{name} waits for the device"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", ["topk", "batchtopk"])
@pytest.mark.parametrize(
    "options", [{}, {"compute": "bf16"}, {"optimiser": "adam", "decay": "cosine"}, {"clip": 0.0}], ids=str
)
def test_a_training_step_never_waits_for_the_device(kind: str, options: dict[str, Any]) -> None:
    """PITFALLS: host syncs in every step."""
    acts_nd, _ = planted(128, active=1.0)
    cfg = small(batch=32, k=1, path="torch", **options)
    training = Training(acts_nd, acts_nd, fit_scaling(acts_nd, True), cfg, 0, LEARNERS[kind])
    training.run_epoch()
    assert training.dead.aux is not None
    rows = torch.arange(32)
    with NoSync():
        training.step(training.train_nd[rows])
    with NoSync(), pytest.raises(AssertionError, match="waits for the device"):
        training.dead.dead_now()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", ["topk", "batchtopk"])
def test_a_training_step_never_waits_for_a_cuda_device(kind: str) -> None:
    acts_nd, _ = planted(128, active=1.0)
    cfg = small(batch=32, k=1, device="cuda")
    training = Training(acts_nd, acts_nd, fit_scaling(acts_nd, True), cfg, 0, LEARNERS[kind])
    training.run_epoch()
    rows = torch.arange(32, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        training.step(training.train_nd[rows])
    finally:
        torch.cuda.set_sync_debug_mode("default")


# --- inputs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("constant", [0.0, 3.7])
def test_an_input_without_variance_gives_a_dictionary_in_which_nothing_fires(constant: float, tmp_path: Path) -> None:
    """The delta of a checkpoint and itself: no division by zero, nothing to flag."""
    acts_nd = np.full((50, 16), constant, dtype=np.float32)
    found = train_dictionary(acts_nd, acts_nd[:9], small(), seed=0, checkpoint=tmp_path, title="test")
    assert found.facts["zero_variance"] and found.history.is_empty()
    codes = found.dictionary.encode(acts_nd)
    assert not codes.values_nk.any() and len(set(codes.indices_nk[0].tolist())) == 6
    np.testing.assert_array_equal(found.dictionary.decode(codes), acts_nd)
    other_nd = np.random.default_rng(0).standard_normal((20, 16)).astype(np.float32)
    assert not found.dictionary.encode(other_nd).values_nk.any()
    report = evaluate(found.dictionary, acts_nd, {"train": np.arange(40), "val": np.arange(40, 50)})
    assert (
        report["parts"]["val"]["fvu"] is None and report["parts"]["val"]["fvu_reason"] == "the part has no variance"
    )
    assert report["parts"]["val"]["mse"] == 0 and report["parts"]["val"]["n_latents_over_l0"] is None
    np.testing.assert_allclose(np.linalg.norm(found.dictionary.decoder_nd, axis=1), 1, atol=1e-6)


def test_jitter_below_the_floor_and_rounding_of_constant_rows_count_as_no_variance() -> None:
    rng = np.random.default_rng(0)
    jitter_nd = (1e-5 * rng.standard_normal((60, 16))).astype(np.float32)
    run = {"seed": 0, "checkpoint": None, "title": "test"}
    assert train_dictionary(jitter_nd, jitter_nd, small(), floor=1e-4, **run).facts["zero_variance"]
    assert not train_dictionary(jitter_nd, jitter_nd, small(max_epochs=1), **run).facts["zero_variance"]
    rounded_nd = np.float32(1000) + np.where(rng.random((60, 16)) < 0.5, np.float32(6.1e-5), np.float32(0))
    assert train_dictionary(rounded_nd, rounded_nd, small(), **run).facts["zero_variance"]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_is_named(bad: float) -> None:
    acts_nd, _ = planted(80)
    broken_nd = acts_nd.copy()
    broken_nd[[37, 51], 5] = bad
    run: dict[str, Any] = {"seed": 0, "checkpoint": None, "title": "test"}
    with pytest.raises(UserError, match=r"training activations, row 37: .* in 1 of 32 columns"):
        train_dictionary(broken_nd, acts_nd, small(), **run)
    with pytest.raises(UserError, match="validation activations, row 37"):
        train_dictionary(acts_nd, broken_nd, small(), **run)


def test_splits_that_cannot_be_trained_on_are_refused_in_one_line() -> None:
    acts_nd, _ = planted(20)
    run: dict[str, Any] = {"seed": 0, "checkpoint": None, "title": "test"}
    for training_nd, val_nd in ((acts_nd[:0], acts_nd), (acts_nd, acts_nd[:0]), (acts_nd, acts_nd[:, :5])):
        with pytest.raises(UserError) as error:
            train_dictionary(training_nd, val_nd, small(), **run)
        assert "\n" not in str(error.value)


def test_rows_near_the_end_of_fp32_are_not_taken_for_infinite() -> None:
    acts_nd = np.random.default_rng(0).standard_normal((20, 8)).astype(np.float32)
    acts_nd[3] = 3e38
    assert fit_scaling(acts_nd, True).scale > 0
    check_rows(acts_nd, "training")


def test_a_training_that_diverges_says_so() -> None:
    acts_nd, _ = planted(100)
    training = Training(acts_nd, acts_nd, fit_scaling(acts_nd, True), small(), 0)
    training.run_epoch()
    training.weights.decoder_bias_d.fill_(float("nan"))
    with pytest.raises(UserError, match=r"diverged by epoch 1: .* lower dictionaries.lr"):
        training.check()


def test_an_epoch_reads_every_text_once_in_near_equal_batches_of_its_own_order() -> None:
    device = torch.device("cpu")
    batches = epoch_batches(103, 25, 4, 0, device)
    assert sorted(torch.cat(batches).tolist()) == list(range(103))
    assert {len(rows) for rows in batches} == {20, 21}
    assert not torch.equal(torch.cat(batches), torch.cat(epoch_batches(103, 25, 4, 1, device)))
    assert torch.equal(torch.cat(batches), torch.cat(epoch_batches(103, 25, 4, 0, device)))


def test_scaling_uses_the_whole_training_split() -> None:
    """PITFALLS: the scale estimated from the first batch only."""
    acts_nd, _ = planted(9000)
    acts_nd[4096:] *= 20
    scaling = fit_scaling(acts_nd, True)
    x_nd = scaling.apply(acts_nd, torch.device("cpu")).double()
    assert float(x_nd.square().mean()) == pytest.approx(1, rel=1e-5)
    assert float(x_nd.mean(0).abs().max()) < 1e-5


def test_normalise_off_trains_on_the_raw_scale() -> None:
    acts_nd, _ = planted(200)
    scaling = fit_scaling(acts_nd, False)
    assert scaling.scale == 1 and not scaling.centre_d.any()
    assert torch.equal(scaling.apply(acts_nd, torch.device("cpu")), torch.from_numpy(acts_nd))


def test_clipping_bounds_the_gradients_norm() -> None:
    acts_nd, _ = planted(100)
    norms = []
    for clip in (0.0, 1e-3):
        training = Training(acts_nd, acts_nd, fit_scaling(acts_nd, True), small(clip=clip, path="torch"), 0)
        training.step(training.train_nd[:64])
        grads = [t.grad for t in training.weights.tensors()]
        norms.append(float(torch.cat([g.flatten() for g in grads if g is not None]).norm()))
    assert norms[0] > 1e-2 and norms[1] == pytest.approx(1e-3, rel=1e-3)


def test_decoder_gradients_are_tangent_and_the_warm_up_is_linear() -> None:
    acts_nd, _ = planted(300)
    cfg = small(warmup_steps=4, warmup_share=1.0, path="torch")
    training = Training(acts_nd, acts_nd, fit_scaling(acts_nd, True), cfg, 0)
    rates = []
    for _ in range(6):
        before = training.weights.decoder_nd.clone()
        training.step(training.train_nd[:64])
        gradient = training.weights.decoder_nd.grad
        assert gradient is not None
        assert float((gradient * before).sum(1).abs().max()) < 1e-7 < float(gradient.abs().max())
        rates.append(training.stepper.optimiser.param_groups[0]["lr"] / 5e-3)
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])


def test_initial_encoder_is_the_decoders_transpose_and_biases_are_zero() -> None:
    for name in ("antar", "published"):
        weights = initial_weights(small(preset=name), 12, 0)
        assert isinstance(weights, Weights) and len(NAMES) == 4
        assert torch.equal(weights.encoder_nd, weights.decoder_nd)
        assert weights.encoder_nd.data_ptr() != weights.decoder_nd.data_ptr()
        assert not weights.encoder_bias_n.any() and not weights.decoder_bias_d.any()
        torch.testing.assert_close(weights.decoder_nd.norm(dim=1), torch.ones(64))


def test_history_is_a_parquet_file_whose_bytes_repeat(tmp_path: Path) -> None:
    for name in ("a", "b"):
        train(small(max_epochs=3)).history.write_parquet(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert pl.read_parquet(tmp_path / "a").height == 1
