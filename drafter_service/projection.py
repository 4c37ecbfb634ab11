"""Matrix products of few rows, each in the form that is fastest for its size and its device."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from draftpool.packed_linear import PackedLinear, can_pack

_BFLOAT16_MIN_WEIGHTS = 2**20
"""Smaller matrices stay in a core's cache, where halving them saves no reads."""

_PACKED_MIN_PRODUCTS = 400_000
"""Below so many multiplications the packed kernel takes longer to start than torch's own takes to finish."""


class Projection(Protocol):
    """Multiplies by an (out, in) matrix."""

    def __call__(self, rows: Tensor) -> Tensor:
        """(n, in) float32 to (n, out) float32."""

    def add_to(self, base: Tensor, rows: Tensor) -> Tensor:
        """(n, out): `base` plus the product with (n, in)."""


def projection(weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Projection:
    """Lay a matrix out for inference.

    Args:
        weight: (out, in) float32.
        bias: (out,) float32.
        dtype: of the matrix where it is large; small ones stay float32.
    """
    can_be_packed = weight.device.type == "cpu" and can_pack()
    if dtype == torch.bfloat16 and weight.numel() >= _BFLOAT16_MIN_WEIGHTS:
        return HalfProjection(weight, bias, is_packed=can_be_packed)
    plain = PlainProjection(weight, bias)
    return SizedProjection(plain, weight, bias) if can_be_packed else plain


class PlainProjection:
    """float32 in torch's own product."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._transposed = weight.T.contiguous()
        self._bias = bias

    def __call__(self, rows: Tensor) -> Tensor:
        return rows @ self._transposed if self._bias is None else torch.addmm(self._bias, rows, self._transposed)

    def add_to(self, base: Tensor, rows: Tensor) -> Tensor:
        return torch.addmm(base if self._bias is None else base + self._bias, rows, self._transposed)


class HalfProjection:
    """A bfloat16 matrix; the bias is added in float32."""

    def __init__(self, weight: Tensor, bias: Tensor | None, *, is_packed: bool) -> None:
        linear = _linear(weight.bfloat16())
        self._product = PackedLinear(linear).forward if is_packed else linear.forward
        self._bias = bias

    def __call__(self, rows: Tensor) -> Tensor:
        product = self._product(rows.bfloat16()).float()
        return product if self._bias is None else product.add_(self._bias)

    def add_to(self, base: Tensor, rows: Tensor) -> Tensor:
        return base + self(rows)


class SizedProjection:
    """float32, packed for many rows and plain for few; the matrix is kept twice."""

    def __init__(self, plain: PlainProjection, weight: Tensor, bias: Tensor | None) -> None:
        self._plain = plain
        self._packed = PackedLinear(_linear(weight, bias)).forward
        self._max_plain_rows = _PACKED_MIN_PRODUCTS // weight.numel()

    def __call__(self, rows: Tensor) -> Tensor:
        return self._plain(rows) if len(rows) <= self._max_plain_rows else self._packed(rows)

    def add_to(self, base: Tensor, rows: Tensor) -> Tensor:
        return self._plain.add_to(base, rows) if len(rows) <= self._max_plain_rows else base + self._packed(rows)


def _linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    num_outputs, num_inputs = weight.shape
    linear = nn.Linear(num_inputs, num_outputs, bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(bias, requires_grad=False)
    return linear
