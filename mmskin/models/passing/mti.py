"""Feature propagation between tasks, as in MTI-Net."""

from collections.abc import Iterable, Mapping
from typing import cast

from torch import Tensor, nn

from mmskin.models.passing.batch_norm import BatchNorm
from mmskin.models.passing.mixing import MixingPassing, Stream, softmax
from mmskin.models.passing.passing import Features, check_positive
from mmskin.models.passing.sum_op import SumOp
from mmskin.registry import MODELS

__all__ = ['MTIPassing']

NARROWEST = 8  # a narrower hidden layer of squeeze-and-excitation would be shut by a single ReLU; ours


class PropagationStream(Stream):
    """One map's parts of the three layers that read all maps, or give a mask for each."""

    def __init__(self, source: int, target: int, hidden: int, kernel_size: int) -> None:
        super().__init__(source, target)
        self.squeeze = nn.Conv2d(target, hidden, kernel_size, padding='same', bias=False)
        self.mask = nn.Conv2d(hidden, target, 1)
        self.reduce = nn.Conv2d(target, target, kernel_size, padding='same', bias=False)


class PropagationTarget(nn.Module):
    """The target's own stream, and what follows the sums."""

    def __init__(self, channels: int, hidden: int, kernel_size: int, reduction: int, identity_init: bool) -> None:
        super().__init__()
        self.stream = PropagationStream(channels, channels, hidden, kernel_size)
        self.hidden_norm, self.norm = BatchNorm(hidden), BatchNorm(channels)
        narrow = max(channels // reduction, NARROWEST)
        self.excite = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, narrow, 1),
            nn.ReLU(),
            nn.Conv2d(narrow, channels, 1),
            nn.Sigmoid(),
        )
        self.op = SumOp(channels, identity_init)

    def forward(self, feature: Tensor, reduced: Tensor | int) -> Tensor:
        """``feature`` with the recalibrated sum of all maps."""
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
    mask comes from squeeze, BN, ReLU and a 1x1 convolution in place of two residual blocks; the paper passes from one
    scale to the next finer one, here both are the block's; a scale s per channel before the residual, 0 at first as in
    ``SumOp``.

    Args:
        in_channels: Channels that enter the block, by task.
        out_channels: Channels that leave the block, by task.
        routes: Pairs (source, target) of task names; by default every ordered pair.
        detach: Those of the routes through which no gradient flows back to the source.
        identity_init: Start from f_i alone, with s = 0. Without it there is no s.
        kernel_size: Of squeeze and reduction; 3 in the authors' code, 1 keeps the network small.
        reduction: Squeeze-and-excitation has the target's channels over this many in between; 16 as in the authors'
            code, though 8 channels at least.
    """

    quantity = "the source's share in the masks of all maps, which sum to 1: of two maps, 0.5 favours neither"

    def __init__(
        self,
        in_channels: Mapping[str, int],
        out_channels: Mapping[str, int],
        routes: Iterable[tuple[str, str]] | None = None,
        detach: Iterable[tuple[str, str]] = (),
        identity_init: bool = True,
        kernel_size: int = 1,
        reduction: int = 16,
    ) -> None:
        super().__init__(in_channels, out_channels, routes, detach)
        check_positive(reduction=reduction)
        hidden = {target: max(out_channels[target] // 4, 1) for target in self.num_sources()}
        for target, width in hidden.items():
            options = width, kernel_size, reduction, identity_init
            self.targets[target] = PropagationTarget(out_channels[target], *options)
        for name, (source, target) in self.ends.items():
            widths = out_channels[source], out_channels[target], hidden[target]
            self.routes[name] = PropagationStream(*widths, kernel_size)

    def mix(self, target: str, feature: Tensor, sources: Features) -> Tensor:
        """``feature`` with the residual from all maps."""
        streams = self._streams(target, feature, sources)
        masks = self._masks(target, streams)
        reduced = sum(part.reduce(mask * x) for (part, x), mask in zip(streams, masks, strict=True))
        return self.targets[target](feature, reduced)

    def shares(self, target: str, feature: Tensor, sources: Features) -> tuple[Tensor, ...]:
        """The masks M (N, C, H, W)."""
        return self._masks(target, self._streams(target, feature, sources))

    def _masks(self, target: str, streams: list[tuple[PropagationStream, Tensor]]) -> tuple[Tensor, ...]:
        squeezed = sum(part.squeeze(x) for part, x in streams)
        hidden = self._target(target).hidden_norm(squeezed).relu()
        return softmax([part.mask(hidden) for part, _ in streams])

    def _streams(self, target: str, feature: Tensor, sources: Features) -> list[tuple[PropagationStream, Tensor]]:
        streams = self.streams(target, self._target(target).stream, feature, sources)
        return cast(list[tuple[PropagationStream, Tensor]], streams)

    def _target(self, target: str) -> PropagationTarget:
        return cast(PropagationTarget, self.targets[target])
