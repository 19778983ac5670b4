"""The training loop of a dictionary: one loop, all of it on this page.

The order of a step: gradients, decoder gradient made tangent to the unit sphere, clipping, AdamW, unit rows, counts.
Nothing in a step waits for the device; losses are read at checks. A check measures the validation split, keeps the
best weights, writes a history row and a checkpoint, and may end the training.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from antar.core.errors import UserError
from antar.core.hashing import code_version, sha256_json
from antar.core.progress import progress
from antar.core.seeds import torch_rng
from antar.core.sites import BASELINE_KINDS
from antar.core.threads import torch_threads
from antar.dictionaries.batchtopk import THRESHOLD_BATCHES
from antar.dictionaries.checkpoint import Checkpoint, bits_of, read_checkpoint, write_checkpoint
from antar.dictionaries.compute import Precision, StepPath, path_of, precision_of
from antar.dictionaries.config import DictionaryConfig
from antar.dictionaries.course import Counters, Course, Measured
from antar.dictionaries.data import Scaling, check_rows, epoch_batches, fit_scaling, steps_per_epoch
from antar.dictionaries.dead import DeadTracker, reset_rows_, warn_of_a_long_window
from antar.dictionaries.kinds import LEARNERS, Learner, learner_of
from antar.dictionaries.prebias import first_bias
from antar.dictionaries.redraw import residual_rows
from antar.dictionaries.schedule import learning_rate, warmup_steps
from antar.dictionaries.steps import make_step
from antar.dictionaries.stream import SAMPLE_ROWS, Moments, RowSource, StreamedRows, check_source, sample_rows
from antar.dictionaries.trained import Split, TrainedDictionary, common_facts
from antar.dictionaries.weights import NAMES, Weights, initial_weights

VALIDATION_CHUNK = 4096


def train_dictionary(
    train: np.ndarray | RowSource,
    val_nd: np.ndarray,
    cfg: DictionaryConfig,
    *,
    seed: int,
    checkpoint: Path | None,
    title: str,
    floor: float = 0.0,
    kind: str = "topk",
) -> TrainedDictionary:
    """Train a dictionary on raw activations `train [n, d_model]`, stopped by `val_nd [m, d_model]`.

    `train` may be a `RowSource`: rows on the disk, of which a bounded part is in memory at any time (stream.py).

    `kind`: one of `kinds.LEARNERS`; a crosscoder takes base's columns and chat's side by side, the baselines are
    fitted in one go.

    The result is the best check's weights, and depends on data, config, seed, threads and machine only. With a
    `checkpoint` folder a killed training goes on from its last check, to the same bits; the caller removes it
    (`remove_checkpoint`). A training split without variance (RMS about its mean ≤ `floor`, in activation units, or
    within fp32 rounding) gives a dictionary in which nothing fires and which reconstructs that mean.
    Raises UserError for empty splits, other widths and rows that are not finite.
    """
    learner = learner_of(kind)
    scaling = _checked_scaling(train, val_nd, cfg, learner, floor)
    if scaling.scale == 0 or kind in BASELINE_KINDS:
        split = Split(_rows_at_hand(train, seed), val_nd, scaling, cfg, seed)
        return split.constant(learner) if scaling.scale == 0 else split.baseline(kind)
    fingerprint = _fingerprint(train, val_nd, cfg, seed, kind) if checkpoint else ""
    with torch_threads(cfg.threads):
        training = Training(train, val_nd, scaling, cfg, seed, learner)
        saved = read_checkpoint(checkpoint, fingerprint) if checkpoint else None
        if saved:
            training.restore(saved)
        with closing(training.stepper), progress(title, cfg.max_epochs, "epochs") as bar:
            bar.advance(training.at.epoch)
            while not training.finished:
                training.run_epoch()
                bar.advance()
                if training.at.epoch % cfg.check_every_epochs == 0 or training.at.epoch == cfg.max_epochs:
                    row = training.check()
                    bar.note(f"val MSE {row['val_mse']:.3g}, live {row['live_share']:.0%}")
                    if checkpoint:
                        write_checkpoint(checkpoint, training.checkpoint(), fingerprint)
        return training.result()


def _checked_scaling(
    train: np.ndarray | RowSource, val_nd: np.ndarray, cfg: DictionaryConfig, learner: Learner, floor: float
) -> Scaling:
    """Centre and scale of the training rows, once both splits are found to be what can be trained on."""
    if isinstance(train, np.ndarray):
        check_rows(train, "training")
        check_rows(val_nd, "validation", train.shape[1])
        return learner.scaling(train.shape[1], lambda columns: fit_scaling(train[:, columns], cfg.normalise, floor))
    check_source(train, "training")
    check_rows(val_nd, "validation", train.width)
    moments = Moments.of(train)
    return learner.scaling(train.width, lambda columns: moments.scaling(columns, cfg.normalise, floor))


def _rows_at_hand(train: np.ndarray | RowSource, seed: int) -> np.ndarray:
    """The training rows, or of those on the disk the sample that stands for them."""
    return train if isinstance(train, np.ndarray) else sample_rows(train, SAMPLE_ROWS, seed)[1]


class Training:
    """The state of one training, and what an epoch and a check do to it.

    train_nd: the normalised training rows; where they stay on the disk (`streamed`), the sample that stands for them
    """

    def __init__(
        self,
        train: np.ndarray | RowSource,
        val_nd: np.ndarray,
        scaling: Scaling,
        cfg: DictionaryConfig,
        seed: int,
        learner: Learner = LEARNERS["topk"],
    ) -> None:
        self.cfg, self.seed, self.scaling, self.learner = cfg, seed, scaling, learner
        self.device = _device(cfg)
        self.path: StepPath = path_of(cfg, self.device)
        self.train_nd = scaling.apply(_rows_at_hand(train, seed), self.device)
        width, self.n_rows = self.train_nd.shape[1], len(train)
        self.streamed = (
            None if isinstance(train, np.ndarray)
            else StreamedRows(train, scaling, cfg.batch, seed, cfg.stream_buffer * 2**20, self.device)
        )  # fmt: skip
        self.precision: Precision = precision_of(cfg, width, self.device)
        self.val_nd = scaling.apply(val_nd, self.device)
        self.course = Course(
            cfg, scaling, float((self.val_nd.double() - self.val_nd.double().mean(0)).square().mean())
        )
        self.steps_per_epoch = steps_per_epoch(self.n_rows, cfg.batch)
        self.planned = self.steps_per_epoch * cfg.max_epochs
        start = learner.start(width, lambda columns: initial_weights(cfg, columns, seed))
        self.weights = start.map(lambda tensor: tensor.to(self.device))
        self.weights.decoder_bias_d.copy_(first_bias(self.train_nd, cfg, seed))
        self.best = self.weights.clone()
        self._threads = torch.get_num_threads()
        self.stepper = make_step(self.weights, cfg, learner, self.path, self.precision, self._threads)
        self.dead = DeadTracker(cfg, self.steps_per_epoch, self.device)
        self._errors = torch.zeros((), dtype=torch.float64, device=self.device)
        self._steps_summed = 0
        self.live_share = 0.0
        warn_of_a_long_window(cfg, self.dead.window_steps, self.planned)

    @property
    def at(self) -> Counters:
        return self.course.at

    @property
    def finished(self) -> bool:
        return self.course.finished

    def run_epoch(self) -> None:
        with torch_threads(1 if self.path == "fused" else None):  # the kernels have threads of their own
            for x_bd in self._batches():
                self.step(x_bd)
                # From here on the host may look at the device, at the end of a window or at a reset.
                self.dead.end_of_step(self.at.step)
                if self.cfg.reset_every_steps and self.at.step % self.cfg.reset_every_steps == 0:
                    self.reset()
        self.at.epoch += 1
        self.live_share = self.dead.live_share_of_epoch()

    def _batches(self) -> Iterator[Tensor]:
        """The rows of this epoch, batch by batch."""
        if self.streamed is not None:
            return self.streamed.batches(self.at.epoch)
        batches = epoch_batches(len(self.train_nd), self.cfg.batch, self.seed, self.at.epoch, self.device)
        return (self.train_nd[rows] for rows in batches)

    def step(self, x_bd: Tensor) -> None:
        """One optimiser step. No host sync."""
        self.at.step += 1
        lr = learning_rate(self.cfg, self.at.step, self.planned)
        fired = self.stepper.step(x_bd, self.dead.aux, self.at.step, lr)
        self._errors += fired.mse
        self._steps_summed += 1
        self.dead.count(fired.fired_n, len(x_bd))

    @torch.no_grad()
    def reset(self) -> None:
        """Re-draw the latents that are dead now, and clear their moments."""
        dead_m = self.dead.dead_now()
        generator = torch_rng(self.seed, "dictionary", "reset", self.at.step)
        poor = None
        if self.cfg.reset_to == "residual" and len(dead_m):
            with torch_threads(self._threads):
                poor = residual_rows(self.train_nd, self._reconstruct(self._threshold()), len(dead_m), generator)
        reset_rows_(self.weights, self.moments(), dead_m, self.cfg, generator, poor)
        self.stepper.refresh()
        self.at.resets += len(dead_m)
        self.dead.pardon()

    @torch.no_grad()
    def check(self) -> dict[str, Any]:
        """Measure the validation split, keep the best weights, and append a history row."""
        errors = torch.zeros((), dtype=torch.float64, device=self.device)
        threshold = self._threshold()
        reconstruct = self._reconstruct(threshold)
        for x_bd in self.val_nd.split(VALIDATION_CHUNK):
            errors += (x_bd - reconstruct(x_bd)).double().square().sum()
        found = Measured(
            float(errors) / self.val_nd.numel(),
            float(self._errors) / self._steps_summed,
            self.live_share,
            int(self.dead.dead_n.sum()),
            threshold,
        )
        if self.course.check(found):
            self.best.copy_from(self.weights)
        self._errors.zero_()
        self._steps_summed = 0
        return self.course.history[-1]

    def _threshold(self) -> float:
        """θ of the weights as they are, from the same training batches every time (none for a kind without one)."""
        every = epoch_batches(len(self.train_nd), self.cfg.batch, self.seed, 0, self.device)
        batches = (self.train_nd[rows] for rows in itertools.islice(every, THRESHOLD_BATCHES))
        return self.learner.threshold(self.weights, batches, self.cfg.k)

    def _reconstruct(self, threshold: float) -> Callable[[Tensor], Tensor]:
        """x → x̂ in fp32, whatever the training's precision, as the stored dictionary will."""
        return lambda x_bd: self.learner.reconstruct(self.weights, x_bd, self.cfg.k, threshold)

    def moments(self) -> tuple[Weights, Weights]:
        """Adam's first and second moments."""
        return self.stepper.moments()

    def checkpoint(self) -> Checkpoint:
        first, second = self.moments()
        parts = {"weights": self.weights, "best": self.best, "exp_avg": first, "exp_avg_sq": second}
        tensors = {
            f"{part}.{name}": tensor
            for part, weights in parts.items()
            for name, tensor in zip(NAMES, weights.tensors(), strict=True)
        }
        tensors["dead"] = self.dead.dead_n.to(torch.uint8)
        tensors["fired_window"] = self.dead.fired_window_n
        state = {"at": asdict(self.at), "rows_in_window": self.dead.rows_in_window, "history": self.course.history}
        return Checkpoint({name: bits_of(tensor) for name, tensor in tensors.items()}, state)

    def restore(self, saved: Checkpoint) -> None:
        def read(part: str) -> Weights:
            return Weights(*(self._tensor(saved, f"{part}.{name}") for name in NAMES))

        self.weights.copy_from(read("weights"))
        self.best.copy_from(read("best"))
        self.course.at, self.course.history = Counters(**saved.state["at"]), list(saved.state["history"])
        for moment, part in zip(self.moments(), ("exp_avg", "exp_avg_sq"), strict=True):
            moment.copy_from(read(part))
        self.stepper.refresh()
        dead_n = self._tensor(saved, "dead").bool()
        self.dead.restore(dead_n, self._tensor(saved, "fired_window"), saved.state["rows_in_window"])

    def _tensor(self, saved: Checkpoint, name: str) -> Tensor:
        # Cloned: torch owns and aligns the memory, as in a training that was never stopped.
        tensor = torch.from_numpy(saved.tensors[name]).clone()
        return (tensor.view(torch.bfloat16) if tensor.dtype == torch.uint16 else tensor).to(self.device)

    def result(self) -> TrainedDictionary:
        dictionary = self.learner.fold(self.best, self.scaling, self.cfg.k, self.at.best_threshold)
        rows = self.train_nd, self.val_nd
        common = common_facts(*rows, self.scaling, self.cfg, self.seed, dictionary, self.device.type)
        common["rows_train"] = self.n_rows
        own = {
            "warmup_steps": warmup_steps(self.cfg, self.planned),
            "dead_window_steps": self.dead.window_steps,
            "path": self.path,
            "compute": self.precision,
        }
        return self.course.trained(dictionary, common, own)


def _device(cfg: DictionaryConfig) -> torch.device:
    if cfg.device == "cuda" and not torch.cuda.is_available():
        raise UserError("dictionaries.device: expected a CUDA device, found none; use auto or cpu")
    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(automatic if cfg.device == "auto" else cfg.device)


def _fingerprint(
    train: np.ndarray | RowSource, val_nd: np.ndarray, cfg: DictionaryConfig, seed: int, kind: str
) -> str:
    device, width = _device(cfg), val_nd.shape[1]
    digests = [
        hashlib.sha256(np.ascontiguousarray(rows).data).hexdigest() if isinstance(rows, np.ndarray) else rows.identity
        for rows in (train, val_nd)
    ]
    return sha256_json(
        {
            "data": digests,
            "shapes": [[len(train), width], list(val_nd.shape)],
            "config": cfg.training_fields(),
            "seed": seed,
            "kind": kind,
            # What `auto` comes to here: a checkpoint from another machine may have been made in another way.
            "arithmetic": [path_of(cfg, device), precision_of(cfg, width, device), device.type],
            "threads": cfg.threads or torch.get_num_threads(),
            "torch": torch.__version__,
            "code": code_version("dictionaries"),
        }
    )
