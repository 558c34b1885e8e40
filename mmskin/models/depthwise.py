"""Depth-wise convolutions whose gradients are not slow where oneDNN has no fast one: dilated, or on tiny maps."""

from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ['DepthwiseConv2d', 'speed_up_depthwise']

CHUNK = 500_000  # numbers: products of as many stay in a core's cache
TINY = 16  # positions of a map; on larger ones the library's gradient is as fast or faster, unless it is dilated


class DepthwiseGradient(torch.autograd.Function):
    """``F.conv2d`` of one filter a channel, with stride 1, and its gradients by shifted products."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, padding: tuple[int, int], dilation: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding, ctx.dilation = padding, dilation
        return F.conv2d(x, weight, None, 1, padding, dilation, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,), (x, weight) = grads, ctx.saved_tensors
        sides, padding, dilation = weight.shape[2:], ctx.padding, ctx.dilation
        grad_x = grad_weight = None
        exact = torch.promote_types(x.dtype, torch.float32)
        if ctx.needs_input_grad[0]:  # a convolution with the filters turned around
            around = [step * (side - 1) - pad for step, side, pad in zip(dilation, sides, padding, strict=True)]
            grad_x = F.conv2d(grad, weight.flip(2, 3), None, 1, around, dilation, groups=len(weight))
        if ctx.needs_input_grad[1]:  # of each tap: the sum of the output's gradient times the input that it saw
            views = [
                windows(*sizes) for sizes in zip(sides, dilation, padding, x.shape[2:], grad.shape[2:], strict=True)
            ]
            count = max(1, CHUNK // x[0].numel())
            chunks = zip(x.permute(0, 2, 3, 1).split(count), grad.permute(0, 2, 3, 1).split(count), strict=True)
            sums = [
                torch.stack(
                    [
                        (a[:, top, left] * b[:, row, column]).sum((0, 1, 2), dtype=exact)
                        for (top, row), (left, column) in product(*views)
                    ],
                    dim=1,
                )
                for a, b in chunks
            ]
            grad_weight = sum(sums[1:], start=sums[0]).reshape(weight.shape).to(weight.dtype)
        return grad_x, grad_weight, None, None


def windows(side: int, step: int, padding: int, size: int, out: int) -> list[tuple[slice, slice]]:
    """Along an axis, for each tap of a filter: the part of the input that it sees, and the outputs that see it."""
    shifts = [tap * step - padding for tap in range(side)]
    starts = [(max(0, -shift), max(0, min(out, size - shift))) for shift in shifts]
    return [(slice(a + s, max(a, b) + s), slice(a, max(a, b))) for s, (a, b) in zip(shifts, starts, strict=True)]


class DepthwiseConv2d(nn.Conv2d):
    """A depth-wise convolution with stride 1; in training on a CPU its gradients come from ``DepthwiseGradient``."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        slow = max(self.dilation) > 1 or input.shape[2] * input.shape[3] <= TINY
        if not (slow and self.training and torch.is_grad_enabled() and input.device.type == 'cpu'):
            return super()._conv_forward(input, weight, bias)
        if torch.is_autocast_enabled('cpu'):
            input, weight = (tensor.to(torch.get_autocast_dtype('cpu')) for tensor in (input, weight))
        output = DepthwiseGradient.apply(input, weight, self.padding, self.dilation)
        return output if bias is None else output + bias.to(output.dtype)[:, None, None]


def speed_up_depthwise(network: nn.Module) -> None:
    """Let the depth-wise convolutions of ``network`` that have stride 1 be ``DepthwiseConv2d``; weights stay theirs."""
    for part in network.modules():
        if type(part) is not nn.Conv2d or not 1 < part.groups == part.in_channels == part.out_channels:
            continue
        if part.stride != (1, 1) or part.padding_mode != 'zeros' or isinstance(part.padding, str):
            continue
        reach = [step * (side - 1) for step, side in zip(part.dilation, part.kernel_size, strict=True)]
        if all(pad <= most for pad, most in zip(part.padding, reach, strict=True)):
            part.__class__ = DepthwiseConv2d
