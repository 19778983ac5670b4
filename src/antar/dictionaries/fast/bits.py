"""bfloat16 in Numba: a bfloat16 is the upper half of a float32, kept here as uint16.

Kernels read and write through `to_f32` and `put`, which do nothing on float32 arrays; so one source serves both
precisions, and the compiler sees plain integer shifts that it can vectorise.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic, overload


def _f32_of(_typing: Any, bits: Any) -> Any:
    """uint32 → the float32 with those bits."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(types.float32))

    return types.float32(types.uint32), generate


f32_of: Any = intrinsic(_f32_of)


def _bits_of(_typing: Any, value: Any) -> Any:
    """float32 → its bits as int32: for positive numbers they sort as the numbers do, NaN above all of them."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(types.int32))

    return types.int32(types.float32), generate


bits_of: Any = intrinsic(_bits_of)


def to_f32(value: Any) -> Any:
    raise NotImplementedError("for kernels only")


def put(row: Any, index: Any, value: Any) -> None:
    raise NotImplementedError("for kernels only")


def put_random(row: Any, index: Any, value: Any, key: Any) -> None:
    raise NotImplementedError("for kernels only")


@overload(to_f32, inline="always")
def _to_f32(value: Any) -> Any:
    if value == types.uint16:

        def widened(value: Any) -> Any:
            return f32_of(np.uint32(np.uint32(value) << np.uint32(16)))

        return widened

    def same(value: Any) -> Any:
        return value

    return same


@overload(put, inline="always")
def _put(row: Any, index: Any, value: Any) -> Any:
    if row.dtype == types.uint16:

        def rounded(row: Any, index: Any, value: Any) -> Any:
            # To the nearest, ties to even, as torch rounds. A NaN stays one: its payload may not carry into the sign.
            bits = np.uint32(bits_of(value))
            up = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
            row[index] = np.uint16(0x7FC0) if value != value else np.uint16(up)

        return rounded

    def plain(row: Any, index: Any, value: Any) -> Any:
        row[index] = value

    return plain


@overload(put_random, inline="always")
def _put_random(row: Any, index: Any, value: Any, key: Any) -> Any:
    """As `put` for value ≥ 0, but rounded up with a probability equal to the part that is cut off, so that on average
    nothing is lost. The draw is a hash of `key` (uint32) and the index."""
    if row.dtype == types.uint16:

        def rounded(row: Any, index: Any, value: Any, key: Any) -> Any:
            bits = np.uint32(bits_of(value))
            draw = (np.uint32(index) * np.uint32(0x9E3779B1)) ^ key
            draw = np.uint32((draw ^ (draw >> np.uint32(16))) * np.uint32(0x85EBCA6B))
            draw = np.uint32((draw ^ (draw >> np.uint32(13))) * np.uint32(0xC2B2AE35)) >> np.uint32(16)
            finite = bits < np.uint32(0x7F800000)
            row[index] = np.uint16((bits + draw if finite else bits) >> np.uint32(16))

        return rounded

    def plain(row: Any, index: Any, value: Any, key: Any) -> Any:
        row[index] = value

    return plain
