"""Computes convolutions of small maps as matrix products, which is faster on a CPU.

In the last layers of a network, the maps of small images have hundreds of channels and a side of 4, 2 or 1. Much of a
kernel is then on the padding (at a side of 1, eight of nine positions). oneDNN is optimised for larger maps, and takes
up to seven times as long as one matrix product for each kernel position that is not only on the padding
(tests/benchmarks/JOURNAL.md). The results are the same up to rounding.

Legend: B batch, I and O channels in and out, K kernel; maps (B, I, H, W), weight (O, I, K, K), result (B, O, P, Q).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

#: Smallest ratio of input channels to the side of the maps for which the products are faster, with AVX2 and AVX-512.
CHANNELS_FOR_SIDE = 64

Window = tuple[slice, slice, slice]


def output_side(side: int, kernel: int, stride: int, padding: int) -> int:
    """Side of the output of a convolution, for maps of this side."""
    return (side + 2 * padding - kernel) // stride + 1


def overlaps(side: int, kernel: int, stride: int, padding: int) -> Iterator[tuple[slice, slice]]:
    """Yields for each kernel position along an axis: the outputs where it is not on the padding, and their inputs."""
    for position in range(kernel):
        shift = position - padding  # output n reads input n * stride + shift
        first = max(0, -(shift // stride))
        count = max(0, min(output_side(side, kernel, stride, padding), (side - 1 - shift) // stride + 1) - first)
        start = first * stride + shift
        yield slice(first, first + count), slice(start, start + count * stride, stride)


class KernelProducts(torch.autograd.Function):
    """A convolution as a sum over the kernel positions: the shifted maps times the weights of that position."""

    @staticmethod
    def forward(
        ctx: Any, maps: torch.Tensor, weight: torch.Tensor, strides: tuple[int, ...], paddings: tuple[int, ...]
    ) -> torch.Tensor:
        axes = list(zip(maps.shape[2:], weight.shape[2:], strides, paddings, strict=True))
        rows, columns = (enumerate(overlaps(*axis)) for axis in axes)
        #: ((row, column) of the kernel, window of the result, window of the maps)
        positions: list[tuple[tuple[int, int], Window, Window]] = [
            ((row, column), (slice(None), out_rows, out_columns), (slice(None), in_rows, in_columns))
            for (row, (out_rows, in_rows)), (column, (out_columns, in_columns)) in product(rows, columns)
        ]
        ctx.positions = positions
        ctx.save_for_backward(maps, weight)
        pixels, matrices = maps.permute(0, 2, 3, 1), weight.permute(2, 3, 0, 1)  # views: (B, H, W, I), (K, K, O, I)
        result = maps.new_zeros(len(maps), *(output_side(*axis) for axis in axes), len(weight))  # (B, P, Q, O)
        for place, out, window in positions:
            result[out] += pixels[window] @ matrices[place].T
        return result.permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None, None]:
        maps, weight = ctx.saved_tensors
        pixels, matrices, gradients = maps.permute(0, 2, 3, 1), weight.permute(2, 3, 0, 1), gradient.permute(0, 2, 3, 1)
        of_pixels = torch.zeros_like(pixels) if ctx.needs_input_grad[0] else None
        of_matrices = torch.empty_like(matrices) if ctx.needs_input_grad[1] else None
        for place, out, window in ctx.positions:
            part = gradients[out]
            if of_pixels is not None:
                of_pixels[window] += part @ matrices[place]
            if of_matrices is not None:
                torch.mm(part.flatten(0, 2).T, pixels[window].flatten(0, 2), out=of_matrices[place])
        return (
            None if of_pixels is None else of_pixels.permute(0, 3, 1, 2),
            None if of_matrices is None else of_matrices.permute(2, 3, 0, 1),
            None,
            None,
        )


class SmallMapConv2d(nn.Conv2d):
    """A convolution that uses matrix products if the maps are small for their number of channels."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        if max(maps.shape[2:]) * CHANNELS_FOR_SIDE > self.in_channels:
            return super().forward(maps)
        result = KernelProducts.apply(maps, self.weight, self.stride, self.padding)
        return result if self.bias is None else result + self.bias.view(-1, 1, 1)


def use_matrix_products(module: nn.Module) -> nn.Module:
    """Turns the plain convolutions of a module into ``SmallMapConv2d``, in place; their weights do not change."""
    for part in module.modules():
        is_plain = type(part) is nn.Conv2d and part.groups == 1 and set(part.dilation) == {1}
        if is_plain and part.padding_mode == "zeros" and not isinstance(part.padding, str):
            part.__class__ = SmallMapConv2d
    return module
