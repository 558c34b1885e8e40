"""Gated feature passing between branches, eq. 4 to 9 of the paper."""

from collections.abc import Collection, Mapping, Sequence
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from mmskin.registry import MODELS

__all__ = ['GatedFeaturePassing']

Features = dict[str, Tensor]


class Route(nn.Module):
    """One way from a source to a target branch: its message, gate and op."""

    def __init__(self, in_channels: int, out_channels: int, gate: dict, message: dict, op: dict) -> None:
        super().__init__()
        channels = {'in_channels': in_channels, 'out_channels': out_channels}
        self.message: nn.Module = MODELS.build({**message, **channels})
        self.gate: nn.Module = MODELS.build({**gate, **channels})
        self.op: nn.Module = MODELS.build({**op, 'channels': out_channels})

    def forward(self, source: Tensor, feature: Tensor) -> Tensor:
        """The target's ``feature`` joined with what gets through from ``source``, resized to the target's map."""
        message = self.gate(source) * self.message(source)
        if message.shape[2:] != feature.shape[2:]:
            message = F.interpolate(message, feature.shape[2:], mode='bilinear', align_corners=False)
        return self.op(feature, message)


@MODELS.register_module()
class GatedFeaturePassing(nn.Module):
    """f_i <- op(f_i, G_{j->i} m_j) for every route j -> i at one block, between any number of branches.

    ``x_j`` is what enters the block in branch j and ``f_i`` what leaves it in branch i. Messages and gates read ``x``
    only, so the routes do not depend on each other's order but where several end in one branch: these are applied in
    the order of ``routes``. Maps of different width or size are adapted: the convolutions give the target's
    channels, and a bilinear resize its height and width.

    Args:
        in_channels: Channels that enter the block, by task.
        out_channels: Channels that leave the block, by task.
        routes: Pairs (source, target) of task names.
        gate: Config of the gate, e.g. ``dict(type='ElementwiseGate')``; gets ``in_channels`` and ``out_channels``.
        message: Config of the message; gets the same.
        op: Config of ``SumOp``, ``ProductOp`` or ``ConcatOp``; gets ``channels``.

    Raises:
        ValueError: if a route names an unknown task, leads back to its source, or stands twice.
    """

    def __init__(
        self,
        in_channels: Mapping[str, int],
        out_channels: Mapping[str, int],
        routes: Sequence[tuple[str, str]] = (('cls', 'seg'), ('seg', 'cls')),
        gate: dict = {'type': 'ElementwiseGate'},  # noqa: B006 (never changed)
        message: dict = {'type': 'ConvMessage'},  # noqa: B006
        op: dict = {'type': 'SumOp'},  # noqa: B006
    ) -> None:
        super().__init__()
        for source, target in routes:
            unknown = {source, target} - set(in_channels)
            if unknown or source == target:
                raise ValueError(f'route {source} -> {target}: a route joins two of the tasks {", ".join(in_channels)}')
        self.ends = {f'{source}2{target}': (source, target) for source, target in routes}
        if len(self.ends) < len(routes):
            raise ValueError(f'two routes have one name: {", ".join(f"{s}2{t}" for s, t in routes)}')
        self.routes = nn.ModuleDict(
            {
                name: Route(in_channels[source], out_channels[target], gate, message, op)
                for name, (source, target) in self.ends.items()
            }
        )

    def forward(self, inputs: Features, outputs: Features) -> Features:
        """New outputs of the block, by task; routes from or to a branch that is not running are left out."""
        outputs = dict(outputs)
        for name, (source, target) in self._running(inputs):
            outputs[target] = self._route(name)(inputs[source], outputs[target])
        return outputs

    def gates(self, inputs: Features) -> dict[str, Tensor]:
        """The passing rates (N, C, H, W) of each route that runs, named ``cls2seg``, at the source's resolution."""
        return {name: self._route(name).gate(inputs[source]) for name, (source, _) in self._running(inputs)}

    def idle_routes(self, tasks: Collection[str]) -> list[nn.Module]:
        """The routes that do not run when only ``tasks`` do: their weights get no gradient."""
        return [self.routes[name] for name, ends in self.ends.items() if not {*ends} <= {*tasks}]

    def _running(self, inputs: Features) -> list[tuple[str, tuple[str, str]]]:
        return [(name, ends) for name, ends in self.ends.items() if {*ends} <= inputs.keys()]

    def _route(self, name: str) -> Route:
        return cast(Route, self.routes[name])
