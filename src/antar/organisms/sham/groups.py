"""Which weights set the drift at which layer: the blocks between one wanted layer and the next are one group.

Embeddings belong to the first group. What lies above the deepest wanted layer is not read by a study: it stays base's
(a tied output head follows the embeddings).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from antar.models.pair import decoder_blocks


@dataclass(frozen=True)
class Group:
    """layer: the wanted layer that these weights lead up to; parameters: name in the decoder → weight."""

    layer: int
    parameters: dict[str, nn.Parameter]


def parameter_groups(decoder: nn.Module, n_layers: int, layers: Sequence[int]) -> list[Group]:
    """One group a wanted layer, from shallow to deep. n_layers: how many blocks `decoder` has."""
    blocks = decoder_blocks(decoder, n_layers)
    inside = {id(parameter) for parameter in blocks.parameters()}
    # Not everything outside the blocks: the final norm stands there too, and comes after every layer that is read.
    embeddings = {
        id(parameter)
        for module in decoder.modules()
        if isinstance(module, nn.Embedding)
        for parameter in module.parameters()
        if id(parameter) not in inside
    }
    ordered = sorted(layers)
    groups: list[Group] = []
    for below, layer in pairwise([-1, *ordered]):
        wanted = {id(parameter) for block in blocks[below + 1 : layer + 1] for parameter in block.parameters()}
        if below == -1:
            wanted |= embeddings
        named = {name: one for name, one in decoder.named_parameters() if id(one) in wanted}
        groups.append(Group(layer, named))
    return groups
