"""A mixture of experts with a gate for each task."""

from typing import Any

import torch
from torch import Tensor, nn

from mmskin.models.passing.base import Adapter, MixingPassing, Streams, WeighedMixture
from mmskin.models.passing.gates import ConvMessage
from mmskin.registry import MODELS


class ExpertStream(Adapter):
    """What one expert says, and its row of the target's gate."""

    def __init__(self, source: int, target: int) -> None:
        super().__init__(source, target)
        self.gate = nn.Linear(target, 1, bias=False)


class ExpertMixture(WeighedMixture):
    """f_i + s (sum_e g_ie E_e(f_e) - f_i)."""

    def shares(self, feature: Tensor, streams: Streams) -> tuple[Tensor, ...]:
        pooled = feature.mean(dim=(2, 3))
        logits = torch.stack([stream.gate(pooled)[..., None, None] for stream, _ in streams])
        return logits.softmax(dim=0).unbind()  # g_ie (N, 1, 1, 1) of each expert


@MODELS.register_module()
class MMoEPassing(MixingPassing):
    """y_i = sum_e g_ie E_e(f_e), g_i = softmax(W_i GAP f_i): a gate of each task weighs experts that all share.

    Multi-gate mixture-of-experts, eq. 6 to 8 of https://doi.org/10.1145/3219819.3220007, in which experts and gates
    read the one input of all tasks. Ours: no map here is shared, so that there is one expert for each task, which reads
    its map, and a task's gate reads the task's own map, averaged over positions; an expert is a 1x1 convolution with
    ReLU; and the start from the identity, f_i + s (y_i - f_i) with s as in ``SumOp``.

    Args:
        options: See ``FeaturePassing``. ``routes`` say whose experts a target's gate weighs besides its own; the expert
            of a detached source still learns; without ``identity_init`` there is no s.
    """

    quantity = (
        "the weight of the source's expert, where the weights of all sum to 1: of two experts, 0.5 favours neither"
    )

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        out = self.out_channels
        read = {task for ends in self.ends.values() for task in ends}
        for task in (task for task in out if task in read):
            self.sources[task] = ConvMessage(out[task], out[task])
        self.mix_by(
            lambda source, target: ExpertStream(out[source], out[target]),
            lambda target, own: ExpertMixture(own, out[target], self.identity_init),
        )
