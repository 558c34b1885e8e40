"""Distillation between tasks at several scales, with what was distilled at one travelling to the next."""

from typing import Any

import torch
from torch import Tensor

from mmskin.models.passing.base import OPENING, Maps, RoutedPassing, resize
from mmskin.models.passing.pad_net import PADNetRoute
from mmskin.registry import MODELS


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
