"""Sluice networks: mixing subspaces, and layers."""

from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmskin.models.passing.adapter import Adapter
from mmskin.models.passing.mixing import MixingPassing, Stream
from mmskin.models.passing.passing import Features
from mmskin.registry import MODELS

__all__ = ['SluicePassing', 'overlap', 'split']


class SubspaceStream(Stream):
    """alpha: how much of each subspace of a map goes into each of the target's."""

    def __init__(self, source: int, target: int, num_subspaces: int, value: float) -> None:
        super().__init__(source, target)
        self.alpha = nn.Parameter(value * torch.eye(num_subspaces))

    def forward(self, source: Tensor, feature: Tensor) -> Tensor:
        """``source``, its subspaces mixed, in the shape of ``feature``."""
        subspaces = split(self.adapter(source, feature), len(self.alpha))  # (N, S, c, H, W)
        # a sum of products, as a matrix product would round under autocast even where alpha is the identity
        mixed = (self.alpha[:, :, None, None, None] * subspaces[:, None]).sum(dim=2)
        return mixed.flatten(1, 2)[:, : feature.shape[1]]


class SluiceTarget(nn.Module):
    """The target's own alpha, and its beta: how much of the block's output and input goes on."""

    def __init__(self, entering: int, leaving: int, num_subspaces: int, own: float) -> None:
        super().__init__()
        self.stream = SubspaceStream(leaving, leaving, num_subspaces, own)
        self.adapter = Adapter(entering, leaving)
        self.beta = nn.Parameter(torch.tensor([own, 1 - own]))

    def forward(self, mixed: Tensor, entering: Tensor) -> Tensor:
        """The mixed maps and the block's input, as beta weighs them."""
        return self.beta[0] * mixed + self.beta[1] * self.adapter(entering, mixed)


@MODELS.register_module()
class SluicePassing(MixingPassing):
    """y_i = b_i (a_ii f_i + sum_j a_ij f_j) + b'_i x_i: all tasks' subspaces are mixed, and one's own layers.

    Sluice networks, https://arxiv.org/abs/1705.08142: the channels of each map are cut into subspaces, a matrix alpha
    mixes these within and between tasks, a vector beta mixes a task's layers, and a penalty holds a map's subspaces
    orthogonal. Ours: at one block, beta has its output and its input x_i to choose from, where the paper mixes all
    layers at the end; the start from the identity; and the penalty, which is the mean squared cosine between channels
    of two subspaces of f_i, summed over the targets. The paper's is the squared Frobenius norm of the product of the
    two weight matrices that give the subspaces, after domain separation networks (https://arxiv.org/abs/1608.06019),
    which take that norm of the representations: as we do, since a block's weights are the branch's own. Where the
    subspaces don't divide the channels, the last is narrower.

    Args:
        in_channels: Channels that enter the block, by task.
        out_channels: Channels that leave the block, by task.
        routes: Pairs (source, target) of task names; by default every ordered pair.
        detach: Those of the routes through which no gradient flows back to the source.
        identity_init: Start from a_ii = 1, a_ij = 0, b = 1 and b' = 0. Without it ``own`` replaces the ones, and the
            rest is shared, the authors' imbalanced start without subspaces; with them each takes from its like.
        own: Initial weight of a task's own map, and of the block's output.
        num_subspaces: The authors' code allows 2 at most.
        orthogonality: Weight of the penalty, ours; it joins the losses as ``<block>/loss_orthogonality``.

    Raises:
        ValueError: if ``num_subspaces`` is less than 1, or more than the channels of a target.
    """

    def __init__(
        self,
        in_channels: Mapping[str, int],
        out_channels: Mapping[str, int],
        routes: Iterable[tuple[str, str]] | None = None,
        detach: Iterable[tuple[str, str]] = (),
        identity_init: bool = True,
        own: float = 0.9,
        num_subspaces: int = 2,
        orthogonality: float = 0.1,
    ) -> None:
        super().__init__(in_channels, out_channels, routes, detach)
        self.num_subspaces, self.orthogonality = num_subspaces, orthogonality
        own = 1.0 if identity_init else own
        shared = {target: (1 - own) / count for target, count in self.num_sources().items()}
        for target in shared:
            if not 1 <= num_subspaces <= out_channels[target]:
                raise ValueError(f'num_subspaces is {num_subspaces}; {target} has {out_channels[target]} channels')
            self.targets[target] = SluiceTarget(in_channels[target], out_channels[target], num_subspaces, own)
        for name, (source, target) in self.ends.items():
            widths = out_channels[source], out_channels[target]
            self.routes[name] = SubspaceStream(*widths, num_subspaces, shared[target])

    def forward(self, inputs: Features, outputs: Features) -> Features:
        """New outputs of the block, by task; routes from or to a branch that is not running are left out."""
        new = super().forward(inputs, outputs)
        return new | {task: self.targets[task](new[task], inputs[task]) for task, _ in self.mixes(outputs)}

    def mix(self, target: str, feature: Tensor, sources: Features) -> Tensor:
        """The sum of ``feature`` and the sources' maps, by subspaces."""
        own = cast(SluiceTarget, self.targets[target]).stream
        brought = (self.from_source(source, target)(x, feature) for source, x in sources.items())
        return sum(brought, start=own(feature, feature))

    def losses(self, inputs: Features, outputs: Features) -> dict[str, Tensor]:
        """The penalty on subspaces that are not orthogonal, summed over the targets."""
        maps = [outputs[task] for task, _ in self.mixes(outputs)]
        if not (maps and self.orthogonality and self.num_subspaces > 1):
            return {}
        overlaps = torch.stack([overlap(x, self.num_subspaces) for x in maps])
        return {'loss_orthogonality': self.orthogonality * overlaps.sum()}


def split(feature: Tensor, num_subspaces: int) -> Tensor:
    """A map (N, C, H, W) as (N, num_subspaces, c, H, W), filled up with zeros where they don't divide the channels."""
    width = -(-feature.shape[1] // num_subspaces)
    missing = num_subspaces * width - feature.shape[1]
    return F.pad(feature, (0, 0, 0, 0, 0, missing)).unflatten(1, (num_subspaces, width))


def overlap(feature: Tensor, num_subspaces: int) -> Tensor:
    """Mean squared cosine, from 0 to 1, between channels of two subspaces of each map (N, C, H, W), over positions."""
    with torch.autocast(feature.device.type, enabled=False):
        channels = F.normalize(split(feature.float(), num_subspaces).flatten(3), dim=3, eps=1e-6)
        pairs = combinations(channels.unbind(dim=1), 2)
        return torch.stack([(one @ other.mT).square().mean() for one, other in pairs]).mean()
