"""Passing with one module per route."""

from torch import Tensor

from mmskin.models.passing.passing import FeaturePassing, Features

__all__ = ['RoutedPassing']


class RoutedPassing(FeaturePassing):
    """f_i <- r_{j->i}(f_j, f_i) for every route j -> i, where r is the route's own module.

    A subclass fills ``self.routes`` with modules that are called with the source's map, the target's map and the
    target's output so far, and give the new output. Routes that end in one branch are applied in the order of
    ``routes``, each on the outcome of the one before; what they read stays as it left the block.
    """

    def read(self, inputs: Features, outputs: Features) -> Features:
        """The maps that routes read: what leaves the block, unless a subclass says otherwise."""
        return outputs

    def forward(self, inputs: Features, outputs: Features) -> Features:
        """New outputs of the block, by task; routes from or to a branch that is not running are left out."""
        read, new = self.read(inputs, outputs), dict(outputs)
        for name, (source, target) in self.running(inputs).items():
            new[target] = self.routes[name](self.brought(name, read[source]), read[target], new[target])
        return new

    def gates(self, inputs: Features, outputs: Features) -> dict[str, Tensor]:
        """What each gated route's ``rates`` gives for the maps of its source and target, by the route's name."""
        read, gated = self.read(inputs, outputs), self.gated(inputs).items()
        return {name: self.routes[name].rates(read[source], read[end]) for name, (source, end) in gated}  # type: ignore[operator]
