"""Matrix products of few rows, each in the form that is fastest for its size and its device."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from draftpool.packed_linear import PackedLinear, can_pack

_BFLOAT16_MIN_WEIGHTS = 2**20
"""Smaller matrices stay in a core's cache, where halving them saves no reads."""

_PACKED_MIN_PRODUCTS = 400_000
"""Below so many multiplications the packed kernel takes longer to start than torch's own takes to finish; so a small
matrix is kept twice."""


class Projection(Protocol):
    """Multiplies by an (out, in) matrix."""

    def __call__(self, rows: Tensor) -> Tensor:
        """(n, in) float32 to (n, out) float32."""

    def into(self, out: Tensor, rows: Tensor) -> None:
        """Write the product with (n, in) to (n, out)."""

    def add_to(self, base: Tensor, rows: Tensor) -> Tensor:
        """(n, out): `base` plus the product with (n, in)."""


def projection(weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Projection:
    """Lay a matrix out for inference.

    Args:
        weight: (out, in) float32.
        bias: (out,) float32.
        dtype: of the matrix; a small one stays float32 where bfloat16 would be no faster.
    """
    is_packed = weight.device.type == "cpu" and can_pack()
    if dtype == torch.bfloat16 and weight.numel() >= _BFLOAT16_MIN_WEIGHTS:
        return HalfProjection(weight, bias, is_packed=is_packed)
    plain = PlainProjection(weight, bias)
    if not is_packed:
        return plain
    packed = HalfProjection(weight, bias, is_packed=True) if dtype == torch.bfloat16 else PackedProjection(weight, bias)
    return SizedProjection(plain, packed, max_plain_rows=_PACKED_MIN_PRODUCTS // weight.numel())


class PlainProjection:
    """float32 in torch's own product."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._transposed = weight.T.contiguous()
        self._bias = bias

    def __call__(self, rows: Tensor) -> Tensor:
        return rows @ self._transposed if self._bias is None else torch.addmm(self._bias, rows, self._transposed)

    def into(self, out: Tensor, rows: Tensor) -> None:
        if self._bias is None:
            torch.mm(rows, self._transposed, out=out)
        else:
            torch.addmm(self._bias, rows, self._transposed, out=out)

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

    def into(self, out: Tensor, rows: Tensor) -> None:
        out.copy_(self._product(rows.bfloat16()))
        if self._bias is not None:
            out.add_(self._bias)

    def add_to(self, base: Tensor, rows: Tensor) -> Tensor:
        return base + self(rows)


class PackedProjection:
    """A packed float32 matrix."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._product = PackedLinear(_linear(weight, bias)).forward

    def __call__(self, rows: Tensor) -> Tensor:
        return self._product(rows)

    def into(self, out: Tensor, rows: Tensor) -> None:
        out.copy_(self._product(rows))

    def add_to(self, base: Tensor, rows: Tensor) -> Tensor:
        return base + self._product(rows)


class SizedProjection:
    """One way for few rows and another for many."""

    def __init__(self, plain: Projection, packed: Projection, *, max_plain_rows: int) -> None:
        self._plain = plain
        self._packed = packed
        self._max_plain_rows = max_plain_rows

    def __call__(self, rows: Tensor) -> Tensor:
        return self._for(rows)(rows)

    def into(self, out: Tensor, rows: Tensor) -> None:
        self._for(rows).into(out, rows)

    def add_to(self, base: Tensor, rows: Tensor) -> Tensor:
        return self._for(rows).add_to(base, rows)

    def _for(self, rows: Tensor) -> Projection:
        return self._plain if rows.shape[0] <= self._max_plain_rows else self._packed


def _linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    num_outputs, num_inputs = weight.shape
    linear = nn.Linear(num_inputs, num_outputs, bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(bias, requires_grad=False)
    return linear
