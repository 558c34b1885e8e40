"""Gated feature passing between branches, eq. 4 to 9 of the paper."""

from typing import Any

import torch
from torch import Tensor, nn

from mmskin.errors import Mistake
from mmskin.models.passing.base import OPENING, Maps, RoutedPassing, resize
from mmskin.registry import MODELS, as_config

READS = ('source', 'target', 'both')


class GatedRoute(nn.Module):
    """One way from a source to a target branch: its message, gate and op."""

    def __init__(
        self, widths: dict[str, int], out_channels: int, gate: Any, message: Any, op: Any, gate_reads: str
    ) -> None:
        super().__init__()
        self.gate_reads = gate_reads
        read = {**widths, 'both': sum(widths.values())}[gate_reads]
        source = widths['source']
        self.message: nn.Module = MODELS.build(as_config(message, in_channels=source, out_channels=out_channels))
        self.gate = MODELS.build(as_config(gate, in_channels=read, out_channels=out_channels)) if gate else None
        self.op: nn.Module = MODELS.build(as_config(op, channels=out_channels))

    def rates(self, source: Maps, target: Maps) -> Tensor:
        """What the gate lets through, at the resolution of what it reads."""
        assert self.gate is not None
        reads = {'source': source.x, 'target': target.x}.get(self.gate_reads)
        return self.gate(torch.cat([resize(source.x, target.x), target.x], dim=1) if reads is None else reads)

    def forward(self, source: Maps, target: Maps, feature: Tensor) -> Tensor:
        """The target's ``feature`` joined with what gets through from ``source``, at the target's resolution."""
        message = self.message(source.x)
        if self.gate is not None:
            rates = self.rates(source, target)
            message = rates * (message if self.gate_reads == 'source' else resize(message, target.x))
        return self.op(feature, resize(message, feature))


@MODELS.register_module()
class GatedFeaturePassing(RoutedPassing):
    """f_i <- op(f_i, G_{j->i} m_j) for every route j -> i at one block, between any number of branches.

    Eq. 4 to 9 of Chen, Wang, Shi, Liu and Yu, *A multi-task framework with feature passing module for skin lesion
    classification and segmentation*, ISBI 2018, https://doi.org/10.1109/ISBI.2018.8363769.

    ``x_j`` is what enters the block in branch j and ``f_i`` what leaves it in branch i. Messages and gates read ``x``
    only, so the order of routes matters only where several end in one branch: they are applied in the order of
    ``routes``. Maps of different width or size are adapted: the convolutions give the target's channels, and a
    bilinear resize its height and width.

    Args:
        gate: Config of the gate, e.g. ``dict(type='ElementwiseGate')``; gets ``in_channels`` and ``out_channels``. With
            None everything gets through: G = 1.
        message: Config of the message; gets the same.
        op: Config of ``SumOp``, ``ProductOp`` or ``ConcatOp``; gets ``channels``, and ``identity_init`` unless it says
            otherwise.
        gate_reads: 'source' is the paper's G(x_j); 'target' lets the receiver decide what it wants, from x_i, and
            'both' compares the two, as attention gates do (https://arxiv.org/abs/1804.03999).
        options: See ``FeaturePassing``.

    Raises:
        ValueError: if ``gate_reads`` is none of the three, or set without a gate.
    """

    quantity = OPENING

    def __init__(
        self,
        *args: Any,
        gate: dict | str | None = {'type': 'ElementwiseGate'},  # noqa: B006 (never changed)
        message: dict | str = {'type': 'ConvMessage'},  # noqa: B006
        op: dict | str = {'type': 'SumOp'},  # noqa: B006
        gate_reads: str = 'source',
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        if gate_reads not in READS:
            raise Mistake(f'gate_reads is {gate_reads!r}; it can be {", ".join(READS)}')
        if gate is None:
            self.quantity = ''
            if gate_reads != 'source':
                raise Mistake(f'gate_reads is {gate_reads!r}, but there is no gate; leave it out')
        op = {'identity_init': self.identity_init, **as_config(op)}
        for name, (source, target) in self.ends.items():
            widths = dict(source=self.in_channels[source], target=self.in_channels[target])
            self.routes[name] = GatedRoute(widths, self.out_channels[target], gate, message, op, gate_reads)


@MODELS.register_module()
class UngatedPassing(GatedFeaturePassing):
    """f_i <- f_i + ReLU(w * x_j + b): the paper's eq. 4 to 7 with every gate open, G = 1, to see what gates are for.

    The paper is https://doi.org/10.1109/ISBI.2018.8363769; this ablation of it is ours.

    Args:
        options: See ``GatedFeaturePassing``, of whose options it has ``message`` and ``op``.
    """

    quantity = ''

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, gate=None, **options)


@MODELS.register_module()
class ShuffledPassing(GatedFeaturePassing):
    """Gated passing whose messages come from the batch's next image, to see whether their content matters.

    A control of ours. What is left of a gain over no passing, when what is passed says nothing about the image, is due
    to further parameters and to noise. In a batch of one image it is gated passing.

    Args:
        options: See ``GatedFeaturePassing``.
    """

    mixes_images = True

    def brought(self, route: str, feature: Tensor) -> Tensor:
        """The source's feature of the next image in the batch."""
        return super().brought(route, feature.roll(-1, dims=0))
