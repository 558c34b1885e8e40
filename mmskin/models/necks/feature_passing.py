"""Gated feature passing between branches, eq. 4 to 9 of the paper."""

from collections.abc import Iterable, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from mmskin.models.necks.adapter import resize
from mmskin.models.necks.passing import FeaturePassing, Features
from mmskin.registry import MODELS

__all__ = ['GatedFeaturePassing']

READS = ('source', 'target', 'both')


class GatedRoute(nn.Module):
    """One way from a source to a target branch: its message, gate and op."""

    def __init__(
        self, source: int, target: int, out_channels: int, gate: dict, message: dict, op: dict, gate_reads: str
    ) -> None:
        super().__init__()
        self.gate_reads = gate_reads
        width = {'source': source, 'target': target, 'both': source + target}[gate_reads]
        self.message: nn.Module = MODELS.build({**message, 'in_channels': source, 'out_channels': out_channels})
        self.gate: nn.Module = MODELS.build({**gate, 'in_channels': width, 'out_channels': out_channels})
        self.op: nn.Module = MODELS.build({**op, 'channels': out_channels})

    def rates(self, source: Tensor, target: Tensor) -> Tensor:
        """What the gate lets through, at the resolution of what it reads."""
        reads = {'source': source, 'target': target}.get(self.gate_reads)
        return self.gate(torch.cat([resize(source, target), target], dim=1) if reads is None else reads)

    def forward(self, source: Tensor, target: Tensor, feature: Tensor) -> Tensor:
        """The target's ``feature`` joined with what gets through from ``source``, at the target's resolution."""
        rates, message = self.rates(source, target), self.message(source)
        if self.gate_reads != 'source':
            message = resize(message, target)
        return self.op(feature, resize(rates * message, feature))


@MODELS.register_module()
class GatedFeaturePassing(FeaturePassing):
    """f_i <- op(f_i, G_{j->i} m_j) for every route j -> i at one block, between any number of branches.

    ``x_j`` is what enters the block in branch j and ``f_i`` what leaves it in branch i. Messages and gates read ``x``
    only, so the routes do not depend on each other's order but where several end in one branch: these are applied in
    the order of ``routes``. Maps of different width or size are adapted: the convolutions give the target's
    channels, and a bilinear resize its height and width.

    Args:
        in_channels: Channels that enter the block, by task.
        out_channels: Channels that leave the block, by task.
        routes: Pairs (source, target) of task names; by default every ordered pair.
        detach: Those of the routes through which no gradient flows back to the source.
        gate: Config of the gate, e.g. ``dict(type='ElementwiseGate')``; gets ``in_channels`` and ``out_channels``.
        message: Config of the message; gets the same.
        op: Config of ``SumOp``, ``ProductOp`` or ``ConcatOp``; gets ``channels``.
        gate_reads: 'source' is the paper's G(x_j); 'target' lets the receiver decide what it wants, from x_i, and
            'both' compares the two, as attention gates do (https://arxiv.org/abs/1804.03999).

    Raises:
        ValueError: if routes are illegal, or ``gate_reads`` is none of the three.
    """

    def __init__(
        self,
        in_channels: Mapping[str, int],
        out_channels: Mapping[str, int],
        routes: Iterable[tuple[str, str]] | None = None,
        detach: Iterable[tuple[str, str]] = (),
        gate: dict = {'type': 'ElementwiseGate'},  # noqa: B006 (never changed)
        message: dict = {'type': 'ConvMessage'},  # noqa: B006
        op: dict = {'type': 'SumOp'},  # noqa: B006
        gate_reads: str = 'source',
    ) -> None:
        super().__init__(in_channels, out_channels, routes, detach)
        if gate_reads not in READS:
            raise ValueError(f'gate_reads is {gate_reads!r}; it can be {", ".join(READS)}')
        for name, (source, target) in self.ends.items():
            widths = in_channels[source], in_channels[target], out_channels[target]
            self.routes[name] = GatedRoute(*widths, gate, message, op, gate_reads)

    def forward(self, inputs: Features, outputs: Features) -> Features:
        """New outputs of the block, by task; routes from or to a branch that is not running are left out."""
        outputs = dict(outputs)
        for name, (source, target) in self.running(inputs).items():
            brought = self.brought(name, inputs[source])
            outputs[target] = self._route(name)(brought, inputs[target], outputs[target])
        return outputs

    def gates(self, inputs: Features, outputs: Features) -> dict[str, Tensor]:
        """The passing rates (N, C, h, w) of each route that runs, by its name, at the resolution of what is read."""
        running = self.running(inputs).items()
        return {name: self._route(name).rates(inputs[source], inputs[end]) for name, (source, end) in running}

    def _route(self, name: str) -> GatedRoute:
        return cast(GatedRoute, self.routes[name])
