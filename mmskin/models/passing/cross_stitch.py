"""Cross-stitch units."""

from typing import Any

import torch
from torch import Tensor, nn

from mmskin.models.passing.base import Adapter, MixingPassing, Mixture
from mmskin.registry import MODELS


class ScaledStream(Adapter):
    """a (.) x: one weight per channel."""

    def __init__(self, source: int, target: int, value: float) -> None:
        super().__init__(source, target)
        self.weight = nn.Parameter(torch.full((target, 1, 1), float(value)))

    def forward(self, source: Tensor, feature: Tensor) -> Tensor:
        return self.weight * super().forward(source, feature)


@MODELS.register_module()
class CrossStitchPassing(MixingPassing):
    """y_i = a_ii (.) f_i + sum_j a_ij (.) f_j: every branch becomes a learned mix of all, channel by channel.

    Cross-stitch units, eq. 1 of https://arxiv.org/abs/1604.03539, which are linear, unbounded weights of maps of one
    depth and therefore have no gates. The paper writes it for two tasks; the sum over routes is the usual extension.
    Ours: the start from the identity, and a 1x1 convolution and a resize where maps differ.

    The paper trains its units at a much higher rate than the network, whose rate hardly moves them; the
    reimplementation that came with MTI-Net (github.com/SimonVandenhende/Multi-Task-Learning-PyTorch) takes 100 times
    the network's, with SGD. Here that is the optimiser's:
    ``optim_wrapper.paramwise_cfg=dict(custom_keys={'passing.': dict(lr_mult=100)})``.

    Args:
        own: Initial a_ii without ``identity_init``, where the sources share the rest; the paper tries 0.1 to 0.9. With
            it, a_ii = 1 and a_ij = 0.
        options: See ``FeaturePassing``.
    """

    def __init__(self, *args: Any, own: float = 0.9, **options: Any) -> None:
        super().__init__(*args, **options)
        own = 1.0 if self.identity_init else own
        out, count = self.out_channels, self.num_sources()

        def stream(source: str, target: str) -> nn.Module:
            return ScaledStream(out[source], out[target], own if source == target else (1 - own) / count[target])

        self.mix_by(stream, lambda _, own_stream: Mixture(own_stream))
