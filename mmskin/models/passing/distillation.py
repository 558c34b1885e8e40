"""Multi-modal distillation: what a task's map says is filtered and added to the others', at one scale or several."""

from typing import Any

import torch
from torch import Tensor, nn

from mmskin.models.passing.base import (
    OPENING,
    Adapter,
    BatchNorm,
    Maps,
    MixingPassing,
    RoutedPassing,
    Streams,
    WeighedMixture,
    resize,
)
from mmskin.models.passing.gates import SumOp
from mmskin.registry import MODELS


class PADNetRoute(nn.Module):
    """s(Wg * f_j) (.) (Wm * f_j), added to the target's output."""

    def __init__(self, source: int, target: int, kernel_size: int, identity_init: bool) -> None:
        super().__init__()
        self.gate, self.message = (nn.Conv2d(source, target, kernel_size, padding='same', bias=False) for _ in range(2))
        self.op = SumOp(target, identity_init)

    def rates(self, source: Maps, target: Maps) -> Tensor:
        """Attention in (0, 1), (N, C, h, w), at the source's resolution."""
        return self.gate(self.read(source)).sigmoid()

    def read(self, source: Maps) -> Tensor:
        """What gate and message are computed from, (N, C, h, w)."""
        return source.f

    def forward(self, source: Maps, target: Maps, feature: Tensor) -> Tensor:
        return self.op(feature, resize(self.rates(source, target) * self.message(self.read(source)), feature))


@MODELS.register_module()
class PADNetPassing(RoutedPassing):
    """f_i <- f_i + sum_j s(Wg_ji * f_j) (.) (Wm_ji * f_j): module C of PAD-Net, a gated message without a ReLU.

    https://arxiv.org/abs/1805.04409, section 3.3; 3x3 convolutions without bias and a gate that reads the source are
    as in the reimplementation that came with MTI-Net (github.com/SimonVandenhende/Multi-Task-Learning-PyTorch,
    ``SABlock``). There f are maps from which auxiliary tasks are predicted under supervision; here they are the
    branches' own. Ours: the resize between maps of different size, and the start from the identity by ``SumOp``.

    Args:
        kernel_size: Of both convolutions.
        options: See ``FeaturePassing``.
    """

    quantity = OPENING

    def __init__(self, *args: Any, kernel_size: int = 3, **options: Any) -> None:
        super().__init__(*args, **options)
        out = self.out_channels
        for name, (source, target) in self.ends.items():
            self.routes[name] = PADNetRoute(out[source], out[target], kernel_size, self.identity_init)


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
        out = self.out_channels
        hidden = {task: max(channels // 4, 1) for task, channels in out.items()}
        self.mix_by(
            lambda source, target: PropagationStream(out[source], out[target], hidden[target], kernel_size),
            lambda target, own: PropagationMixture(own, out[target], hidden[target], reduction, self.identity_init),
        )


class MultiScaleRoute(PADNetRoute):
    """s(Wg * u_j) (.) (Wm * u_j) with u_j = [f_j ; x_j], added to the target's output."""

    def read(self, source: Maps) -> Tensor:
        """[f ; x] (N, C, h, w), at the size of f."""
        return torch.cat([source.f, resize(source.x, source.f)], dim=1)


@MODELS.register_module()
class MultiScalePassing(RoutedPassing):
    """f_i <- f_i + sum_j s(Wg_ji * u_j) (.) (Wm_ji * u_j), u_j = [f_j ; x_j]: distillation that remembers a scale.

    For several sites, ``{('decoder/32', 'decoder/16', 'decoder/8'): dict(type='MultiScalePassing')}``: there x_j is
    what left the coarser one for branch j, refined by all routes that end in j, so that a message at one scale knows
    what the tasks told each other at the scale before.

    After MTI-Net, https://arxiv.org/abs/2001.06902, sections 3.2 and 3.3, which distils at every scale by the
    attention-guided messages of PAD-Net (https://arxiv.org/abs/1805.04409) and propagates the distilled maps to the
    next finer scale. Ours: the propagated map joins the source's by a concatenation, where the paper refines it by its
    feature propagation module (``MTIPassing``) and hands it to the initial predictions; there are no auxiliary
    predictions between; and the start from the identity by ``SumOp``. At one site x_j is what enters the block.

    Args:
        kernel_size: Of both convolutions; 3 as in the authors' code.
        options: See ``FeaturePassing``.
    """

    quantity = OPENING

    def __init__(self, *args: Any, kernel_size: int = 3, **options: Any) -> None:
        super().__init__(*args, **options)
        for name, (source, target) in self.ends.items():
            read, out = self.in_channels[source] + self.out_channels[source], self.out_channels[target]
            self.routes[name] = MultiScaleRoute(read, out, kernel_size, self.identity_init)
