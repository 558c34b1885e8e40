"""Gated feature passing between branches, eq. 4 to 9 of the paper."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from mmskin.models.passing.adapter import resize
from mmskin.models.passing.passing import OPENING, Features
from mmskin.models.passing.routed_passing import RoutedPassing
from mmskin.registry import MODELS, as_config

__all__ = ['GatedFeaturePassing']

READS = ('source', 'target', 'both')


class GatedRoute(nn.Module):
    """One way from a source to a target branch: its message, gate and op."""

    def __init__(
        self, source: int, target: int, out_channels: int, gate: dict | None, message: dict, op: dict, gate_reads: str
    ) -> None:
        super().__init__()
        self.gate_reads = gate_reads
        width = {'source': source, 'target': target, 'both': source + target}[gate_reads]
        self.message: nn.Module = MODELS.build(as_config(message, in_channels=source, out_channels=out_channels))
        self.gate = MODELS.build(as_config(gate, in_channels=width, out_channels=out_channels)) if gate else None
        self.op: nn.Module = MODELS.build(as_config(op, channels=out_channels))

    def rates(self, source: Tensor, target: Tensor) -> Tensor:
        """What the gate lets through, at the resolution of what it reads."""
        assert self.gate is not None
        reads = {'source': source, 'target': target}.get(self.gate_reads)
        return self.gate(torch.cat([resize(source, target), target], dim=1) if reads is None else reads)

    def forward(self, source: Tensor, target: Tensor, feature: Tensor) -> Tensor:
        """The target's ``feature`` joined with what gets through from ``source``, at the target's resolution."""
        message = self.message(source)
        if self.gate is not None:
            rates = self.rates(source, target)
            message = rates * (message if self.gate_reads == 'source' else resize(message, target))
        return self.op(feature, resize(message, feature))


@MODELS.register_module()
class GatedFeaturePassing(RoutedPassing):
    """f_i <- op(f_i, G_{j->i} m_j) for every route j -> i at one block, between any number of branches.

    Eq. 4 to 9 of Chen, Wang, Shi, Liu and Yu, *A multi-task framework with feature passing module for skin lesion
    classification and segmentation*, ISBI 2018, https://doi.org/10.1109/ISBI.2018.8363769.

    ``x_j`` is what enters the block in branch j and ``f_i`` what leaves it in branch i. Messages and gates read ``x``
    only, so the routes do not depend on each other's order but where several end in one branch: these are applied in
    the order of ``routes``. Maps of different width or size are adapted: the convolutions give the target's
    channels, and a bilinear resize its height and width.

    Args:
        in_channels: Channels that enter the block, by task.
        out_channels: Channels that leave the block, by task.
        routes: Pairs (source, target) of task names; by default every ordered pair.
        detach: Those of the routes through which no gradient flows back to the source.
        gate: Config of the gate, e.g. ``dict(type='ElementwiseGate')``; gets ``in_channels`` and ``out_channels``. With
            None everything gets through: G = 1.
        message: Config of the message; gets the same.
        op: Config of ``SumOp``, ``ProductOp`` or ``ConcatOp``; gets ``channels``.
        gate_reads: 'source' is the paper's G(x_j); 'target' lets the receiver decide what it wants, from x_i, and
            'both' compares the two, as attention gates do (https://arxiv.org/abs/1804.03999).
        identity_init: Start from f alone, unless ``op`` says otherwise. Without it eq. 4 and 5 stand as printed.

    Raises:
        ValueError: if routes are illegal, or ``gate_reads`` is none of the three.
    """

    quantity = OPENING

    def __init__(
        self,
        in_channels: Mapping[str, int],
        out_channels: Mapping[str, int],
        routes: Iterable[tuple[str, str]] | None = None,
        detach: Iterable[tuple[str, str]] = (),
        gate: dict | None = {'type': 'ElementwiseGate'},  # noqa: B006 (never changed)
        message: dict = {'type': 'ConvMessage'},  # noqa: B006
        op: dict = {'type': 'SumOp'},  # noqa: B006
        gate_reads: str = 'source',
        identity_init: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, routes, detach)
        if gate_reads not in READS:
            raise ValueError(f'gate_reads is {gate_reads!r}; it can be {", ".join(READS)}')
        if gate is None:
            self.quantity = ''
        op = {'identity_init': identity_init, **as_config(op)}
        for name, (source, target) in self.ends.items():
            widths = in_channels[source], in_channels[target], out_channels[target]
            self.routes[name] = GatedRoute(*widths, gate, message, op, gate_reads)

    def read(self, inputs: Features, outputs: Features) -> Features:
        """What enters the block."""
        return inputs
