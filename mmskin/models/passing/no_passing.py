"""No passing at all: what every operator is compared with."""

from collections.abc import Iterable, Mapping

from mmskin.models.passing.passing import FeaturePassing, Features
from mmskin.registry import MODELS

__all__ = ['NoPassing']


@MODELS.register_module()
class NoPassing(FeaturePassing):
    """y_i = f_i: branches share what lies before their split and nothing after it, which is hard sharing.

    It takes an operator's options, so that a comparison changes nothing but the type, and leaves them alone.

    Args:
        in_channels: Channels that enter the block, by task.
        out_channels: Channels that leave the block, by task.
        routes: Pairs (source, target) of task names; by default every ordered pair.
        detach: Those of the routes through which no gradient flows back to the source.
        identity_init: It is the identity always.
    """

    def __init__(
        self,
        in_channels: Mapping[str, int],
        out_channels: Mapping[str, int],
        routes: Iterable[tuple[str, str]] | None = None,
        detach: Iterable[tuple[str, str]] = (),
        identity_init: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, routes, detach)
        self.ends = {}

    def forward(self, inputs: Features, outputs: Features) -> Features:
        """The block's outputs as they are."""
        return dict(outputs)
