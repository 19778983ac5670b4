"""Running a step: as a CUDA graph where there is a device, one operation after another elsewhere.

A graph is what a step of one stack with one number of AuxK slots did when it was recorded, on the same tensors. The
first step of each kind is an ordinary one, on a side stream: it counts as training like every other, and it is also
the warm-up that a recording needs (libraries load, kernels compile). The second is recorded, which runs nothing, and
replayed, like all that follow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

from antar.core.progress import say

Step = Callable[[], None]


class Recorder(Protocol):
    """How a device records a step. `plain` runs it now; `record` gives back what runs it again."""

    def plain(self, step: Step) -> None: ...

    def record(self, step: Step) -> Step: ...


class CudaRecorder:
    """CUDA graphs, all in one memory pool: they never run at the same time and leave nothing in it for each other."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def plain(self, step: Step) -> None:
        current = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            step()
        current.wait_stream(self._stream)

    def record(self, step: Step) -> Step:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
            step()
        return graph.replay


class Runner:
    """Runs the steps of one stack; `kind` is the number of AuxK slots. Without a recorder, or once recording has
    failed, every step is an ordinary one."""

    def __init__(self, recorder: Recorder | None) -> None:
        self._recorder = recorder
        self._recorded: dict[int, Step] = {}
        self._seen: set[int] = set()

    @classmethod
    def on(cls, device: torch.device) -> Runner:
        return cls(CudaRecorder(device) if device.type == "cuda" else None)

    def run(self, kind: int, step: Step) -> None:
        replay = self._recorded.get(kind)
        if replay is None and self._recorder is not None and kind in self._seen:
            replay = self._record(kind, step, self._recorder)
        if replay is not None:
            replay()
        elif self._recorder is not None:
            self._recorder.plain(step)
        else:
            step()
        self._seen.add(kind)

    def forget(self) -> None:
        """Drop all recordings: the tensors that they read are gone."""
        self._recorded.clear()
        self._seen.clear()

    def _record(self, kind: int, step: Step, recorder: Recorder) -> Step | None:
        try:
            self._recorded[kind] = recorder.record(step)
        except RuntimeError as error:  # a failed recording has run nothing
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            say(f"  the training step cannot be recorded as a CUDA graph ({reason}); it runs without, slower")
            self._recorder = None
            return None
        return self._recorded[kind]
