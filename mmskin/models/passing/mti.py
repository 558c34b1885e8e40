"""Feature propagation between tasks, as in MTI-Net."""

from typing import Any

import torch
from torch import Tensor, nn

from mmskin.models.passing.base import Adapter, BatchNorm, MixingPassing, Streams, WeighedMixture, check_positive
from mmskin.registry import MODELS

NARROWEST = 8  # a single ReLU would shut a narrower hidden layer of squeeze-and-excitation; ours


class PropagationStream(Adapter):
    """One map's parts of the three layers that read all maps, or give a mask for each."""

    def __init__(self, source: int, target: int, hidden: int, kernel_size: int) -> None:
        super().__init__(source, target)
        self.squeeze = nn.Conv2d(target, hidden, kernel_size, padding='same', bias=False)
        self.mask = nn.Conv2d(hidden, target, 1)
        self.reduce = nn.Conv2d(target, target, kernel_size, padding='same', bias=False)


class PropagationMixture(WeighedMixture):
    """f_i + s SE_i(reduce(M (.) [f_1; ...; f_T]))."""

    def __init__(self, stream: nn.Module, channels: int, hidden: int, reduction: int, identity_init: bool) -> None:
        super().__init__(stream, channels, identity_init)
        self.hidden_norm, self.norm = BatchNorm(hidden), BatchNorm(channels)
        narrow = max(channels // reduction, NARROWEST)
        self.excite = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, narrow, 1),
            nn.ReLU(),
            nn.Conv2d(narrow, channels, 1),
            nn.Sigmoid(),
        )

    def shares(self, feature: Tensor, streams: Streams) -> tuple[Tensor, ...]:
        hidden = self.hidden_norm(sum(stream.squeeze(x) for stream, x in streams)).relu()
        logits = torch.stack([stream.mask(hidden) for stream, _ in streams])
        return logits.softmax(dim=0).unbind()  # M (N, C, H, W) of each map

    def forward(self, feature: Tensor, streams: Streams) -> Tensor:
        masks = self.shares(feature, streams)
        reduced = sum(stream.reduce(mask * x) for (stream, x), mask in zip(streams, masks, strict=True))
        shared = self.norm(reduced).relu()
        return self.op(feature, self.excite(shared) * shared)


@MODELS.register_module()
class MTIPassing(MixingPassing):
    """y_i = f_i + SE_i(reduce(M (.) [f_1; ...; f_T])), M = softmax over tasks: a refined residual from all tasks.

    The feature propagation module of MTI-Net, https://arxiv.org/abs/2001.06902: a non-linear function of all maps gives
    each map a mask, the masks sum to one over the tasks, the masked maps are reduced to one map's width, and
    squeeze-and-excitation turns it into the residual of each task. The authors' code views its (T, C) channels as
    (C, T), so that its softmax runs over T neighbouring channels; here it runs over the tasks. Ours: where the paper
    shares one mask and one reduction between the tasks, each target has its own, as its routes name its own sources; a
    mask comes from squeeze, BN, ReLU and a 1x1 convolution instead of two residual blocks; the paper passes from one
    scale to the next finer one, here both are the block's; and the residual is scaled by s as in ``SumOp``.

    Args:
        kernel_size: Of squeeze and reduction; 3 in the authors' code, 1 keeps the network small.
        reduction: Squeeze-and-excitation has the target's channels over this many in between; 16 as in the authors'
            code, though 8 channels at least.
        options: See ``FeaturePassing``; without ``identity_init`` there is no s.
    """

    quantity = "the source's share in the masks of all maps, which sum to 1: of two maps, 0.5 favours neither"

    def __init__(self, *args: Any, kernel_size: int = 1, reduction: int = 16, **options: Any) -> None:
        super().__init__(*args, **options)
        check_positive(reduction=reduction)
        out = self.out_channels
        hidden = {task: max(channels // 4, 1) for task, channels in out.items()}
        self.mix_by(
            lambda source, target: PropagationStream(out[source], out[target], hidden[target], kernel_size),
            lambda target, own: PropagationMixture(own, out[target], hidden[target], reduction, self.identity_init),
        )
