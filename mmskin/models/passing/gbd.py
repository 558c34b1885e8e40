"""Gated bi-directional passing along a chain of branches."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from mmskin.models.passing.base import OPENING, FeaturePassing, Features, Route, resize
from mmskin.models.passing.gates import ConvMessage, ElementwiseGate
from mmskin.models.passing.ops import SumOp
from mmskin.registry import MODELS


class GBDRoute(nn.Module):
    """G (.) ReLU(W' * h), from one branch to the next."""

    def __init__(self, source: int, target: int, kernel_size: int) -> None:
        super().__init__()
        self.message = ConvMessage(source, target, kernel_size)
        self.gate = ElementwiseGate(source, target, kernel_size)

    def forward(self, chained: Tensor, source: Tensor) -> Tensor:
        # `chained` is the source with what reached it; the source alone rates it
        return self.gate(source) * self.message(chained)


class GBDTarget(nn.Module):
    """A branch's own convolution for each direction, and the one that merges the two directions."""

    def __init__(self, channels: int, kernel_size: int, identity_init: bool) -> None:
        super().__init__()
        self.own = nn.ModuleList(ConvMessage(channels, channels, kernel_size) for _ in range(2))
        self.merge = ConvMessage(2 * channels, channels, kernel_size)
        self.op = SumOp(channels, identity_init)

    def forward(self, feature: Tensor, forth: Tensor, back: Tensor) -> Tensor:
        return self.op(feature, self.merge(torch.cat([forth, back], dim=1)))


@MODELS.register_module()
class GBDPassing(FeaturePassing):
    """Messages that run along the chain of branches and back, each gated, as in GBD-Net.

    With f_i a block's output, i its place in the order of the tasks, and all of W, Wg and U convolutions with bias::

        G_ji = s(Wg_ji * f_j)
        h1_i = ReLU(W1_i * f_i) + G_ji (.) ReLU(U_ji * h1_j)    from the one before, j = i - 1
        h2_i = ReLU(W2_i * f_i) + G_ji (.) ReLU(U_ji * h2_j)    from the one after, j = i + 1
        f_i <- f_i + beta ReLU(W3_i * [h1_i ; h2_i])

    https://arxiv.org/abs/1610.02579, in the form of the network that its authors released
    (github.com/craftGBD/craftGBD, BN_1k/deploy_GBD.prototxt), where the messages are added behind the ReLU and beta is
    0.1; there the branches are the surroundings of an object at several scales. Ours: beta is learned per channel from
    0, as the scale of ``SumOp``, and is 1 without ``identity_init``; a route that skips a branch adds its message as
    well; and a branch in which no running route ends hands on f_i itself.

    Args:
        kernel_size: Of all convolutions; 3 is the released network's. There are six to a branch, with 9.4 million
            weights each for ResNet's 1024 channels; 1 is a cheap alternative.
        options: See ``FeaturePassing``. The order of ``in_channels`` is that of the chain.
    """

    chained = True
    quantity = OPENING

    def __init__(self, *args: Any, kernel_size: int = 3, **options: Any) -> None:
        super().__init__(*args, **options)
        out = self.out_channels
        for name, (source, target) in self.ends.items():
            self.routes[name] = GBDRoute(out[source], out[target], kernel_size)
            if target not in self.targets:
                self.targets[target] = GBDTarget(out[target], kernel_size, self.identity_init)

    @staticmethod
    def default_routes(tasks: Iterable[str]) -> Iterable[Route]:
        """Neighbours in the chain of ``tasks``, both ways."""
        return [route for first, second in pairwise(tasks) for route in ((first, second), (second, first))]

    def forward(self, inputs: Features, outputs: Features) -> Features:
        chain = [task for task in self.in_channels if task in outputs]
        forth, back = self._chain(chain, outputs, 0), self._chain(chain[::-1], outputs, 1)
        targets = self.running_targets(outputs)
        return outputs | {task: self.targets[task](outputs[task], forth[task], back[task]) for task in targets}

    def _chain(self, chain: list[str], outputs: Features, direction: int) -> Features:
        """Each branch's map with the messages from those before it in ``chain``."""
        chained: Features = {}
        for task in chain:
            routes = {name: source for name, (source, target) in self.running(outputs).items() if target == task}
            own = self.targets[task].own[direction](outputs[task]) if routes else outputs[task]
            for name, source in routes.items():
                if source in chained:
                    maps = (self.brought(name, feature[source]) for feature in (chained, outputs))
                    own = own + resize(self.routes[name](*maps), own)
            chained[task] = own
        return chained

    def gates(self, inputs: Features, outputs: Features) -> dict[str, Tensor]:
        """The rates (N, C, h, w) of each route that runs, at the source's resolution."""
        return {name: self.routes[name].gate(outputs[source]) for name, (source, _) in self.running(outputs).items()}
