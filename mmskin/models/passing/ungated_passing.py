"""Feature passing without gates."""

from collections.abc import Iterable, Mapping

from mmskin.models.passing.feature_passing import GatedFeaturePassing
from mmskin.registry import MODELS

__all__ = ['UngatedPassing']


@MODELS.register_module()
class UngatedPassing(GatedFeaturePassing):
    """f_i <- f_i + ReLU(w * x_j + b): the paper's eq. 4 to 7 with every gate open, G = 1, to see what gates are for.

    The paper is https://doi.org/10.1109/ISBI.2018.8363769; this ablation of it is ours.

    Args:
        in_channels: Channels that enter the block, by task.
        out_channels: Channels that leave the block, by task.
        routes: Pairs (source, target) of task names; by default every ordered pair.
        detach: Those of the routes through which no gradient flows back to the source.
        message: Config of the message; gets ``in_channels`` and ``out_channels``.
        op: Config of ``SumOp``, ``ProductOp`` or ``ConcatOp``; gets ``channels``.
        identity_init: Start from f alone, unless ``op`` says otherwise.
    """

    quantity = ''

    def __init__(
        self,
        in_channels: Mapping[str, int],
        out_channels: Mapping[str, int],
        routes: Iterable[tuple[str, str]] | None = None,
        detach: Iterable[tuple[str, str]] = (),
        message: dict = {'type': 'ConvMessage'},  # noqa: B006 (never changed)
        op: dict = {'type': 'SumOp'},  # noqa: B006
        identity_init: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, routes, detach, None, message, op, identity_init=identity_init)
