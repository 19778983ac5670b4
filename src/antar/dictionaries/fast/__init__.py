"""The fast training step on a CPU: compiled kernels (Numba, the extra `[fast]`) for what torch has no sparse form of.

It computes what torch's step (`steps.InTorch`) does, and the tests hold both against one naive twin in fp64. `step`
puts the pieces together: `select` (the k largest, and the codes by latent), `decode` (the error), `update`
(gradients, Adam, unit rows), `auxk` (dead latents), `bits` (bfloat16), `team` (threads). Import it only where Numba
is there."""

from antar.dictionaries.fast.step import AdamNumbers, FusedStep, StepFacts, warm_up, zero_moments

__all__ = ["AdamNumbers", "FusedStep", "StepFacts", "warm_up", "zero_moments"]
