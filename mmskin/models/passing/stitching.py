"""Operators that mix the branches' channels, and a mixture of experts for all of them."""

from itertools import combinations
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmskin.errors import Mistake
from mmskin.models.passing.base import (
    Adapter,
    BatchNorm,
    Features,
    MixingPassing,
    Mixture,
    Streams,
    WeighedMixture,
    resize,
)
from mmskin.models.passing.gates import ConvMessage, SumOp
from mmskin.registry import MODELS


class ScaledStream(Adapter):
    """a (.) x: one weight per channel."""

    def __init__(self, source: int, target: int, value: float) -> None:
        super().__init__(source, target)
        self.weight = nn.Parameter(torch.full((target, 1, 1), float(value)))

    def forward(self, source: Tensor, feature: Tensor) -> Tensor:
        return self.weight * super().forward(source, feature)


@MODELS.register_module()
class CrossStitchPassing(MixingPassing):
    """y_i = a_ii (.) f_i + sum_j a_ij (.) f_j: every branch becomes a learned mix of all, channel by channel.

    Cross-stitch units, eq. 1 of https://arxiv.org/abs/1604.03539, which are linear, unbounded weights of maps of one
    depth and therefore have no gates. The paper writes it for two tasks; the sum over routes is the usual extension.
    Ours: the start from the identity, and a 1x1 convolution and a resize where maps differ.

    The paper trains its units at a much higher rate than the network, whose rate hardly moves them; the
    reimplementation that came with MTI-Net (github.com/SimonVandenhende/Multi-Task-Learning-PyTorch) takes 100 times
    the network's, with SGD. Here that is the optimiser's:
    ``optim_wrapper.paramwise_cfg=dict(custom_keys={'passing.': dict(lr_mult=100)})``.

    Args:
        own: Initial a_ii without ``identity_init``, where the sources share the rest; the paper tries 0.1 to 0.9. With
            it, a_ii = 1 and a_ij = 0.
        options: See ``FeaturePassing``.
    """

    def __init__(self, *args: Any, own: float = 0.9, **options: Any) -> None:
        super().__init__(*args, **options)
        own = 1.0 if self.identity_init else own
        out, count = self.out_channels, self.num_sources()

        def stream(source: str, target: str) -> nn.Module:
            return ScaledStream(out[source], out[target], own if source == target else (1 - own) / count[target])

        self.mix_by(stream, lambda _, own_stream: Mixture(own_stream))


class SubspaceStream(Adapter):
    """alpha: how much of each subspace of a map goes into each of the target's."""

    def __init__(self, source: int, target: int, num_subspaces: int, value: float) -> None:
        super().__init__(source, target)
        self.alpha = nn.Parameter(value * torch.eye(num_subspaces))

    def forward(self, source: Tensor, feature: Tensor) -> Tensor:
        subspaces = split(super().forward(source, feature), len(self.alpha))  # (N, S, c, H, W)
        # a sum of products, as a matrix product would round under autocast even where alpha is the identity
        mixed = (self.alpha[:, :, None, None, None] * subspaces[:, None]).sum(dim=2)
        return mixed.flatten(1, 2)[:, : feature.shape[1]]


class SluiceMixture(Mixture):
    """The target's own alpha, and its beta: how much of the block's output and input goes on."""

    def __init__(self, stream: nn.Module, entering: int, leaving: int, own: float) -> None:
        super().__init__(stream)
        self.adapter = Adapter(entering, leaving)
        self.beta = nn.Parameter(torch.tensor([own, 1 - own]))


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
        own: Initial a_ii and b without ``identity_init``; with it they are 1. Sources share the rest of a, and b' is
            the rest of b. Without subspaces, this is the authors' imbalanced start; with them each takes from its like.
        num_subspaces: The authors' code allows 2 at most.
        orthogonality: Weight of the penalty, ours; it joins the losses as ``<block>/loss_orthogonality``.
        options: See ``FeaturePassing``.

    Raises:
        Mistake: if ``num_subspaces`` is less than 1, or more than the channels of a target.
    """

    def __init__(
        self, *args: Any, own: float = 0.9, num_subspaces: int = 2, orthogonality: float = 0.1, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self.num_subspaces, self.orthogonality = num_subspaces, orthogonality
        own = 1.0 if self.identity_init else own
        entering, out, count = self.in_channels, self.out_channels, self.num_sources()
        for target in count:
            if not 1 <= num_subspaces <= out[target]:
                raise Mistake(f'num_subspaces is {num_subspaces}; {target} has {out[target]} channels')

        def stream(source: str, target: str) -> nn.Module:
            value = own if source == target else (1 - own) / count[target]
            return SubspaceStream(out[source], out[target], num_subspaces, value)

        self.mix_by(stream, lambda target, stream: SluiceMixture(stream, entering[target], out[target], own))

    def forward(self, inputs: Features, outputs: Features) -> Features:
        new = super().forward(inputs, outputs)
        for task in self.running_targets(outputs):
            mixture = self.targets[task]
            new[task] = mixture.beta[0] * new[task] + mixture.beta[1] * mixture.adapter(inputs[task], new[task])
        return new

    def losses(self, inputs: Features, outputs: Features) -> dict[str, Tensor]:
        """The penalty on subspaces that are not orthogonal, summed over the targets."""
        targets = self.running_targets(outputs)
        if not (targets and self.orthogonality and self.num_subspaces > 1):
            return {}
        overlaps = torch.stack([overlap(outputs[task], self.num_subspaces) for task in targets])
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
        return torch.stack([(first @ second.mT).square().mean() for first, second in pairs]).mean()


class DiagonalStream(nn.Module):
    """W_ij f_j, a 1x1 convolution that starts as ``value`` times the identity; without bias, as batch norm follows."""

    def __init__(self, source: int, target: int, value: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(source, target, 1, bias=False)
        nn.init.dirac_(self.conv.weight)
        self.conv.weight.data *= value

    def forward(self, source: Tensor, feature: Tensor) -> Tensor:
        return resize(self.conv(source), feature)


class NDDRMixture(Mixture):
    """f_i + s (ReLU(BN(sum_j W_ij f_j)) - f_i)."""

    def __init__(self, stream: nn.Module, channels: int, identity_init: bool) -> None:
        super().__init__(stream)
        self.norm = BatchNorm(channels)
        self.op = SumOp(channels, identity_init)

    def forward(self, feature: Tensor, streams: Streams) -> Tensor:
        fused = self.norm(super().forward(feature, streams)).relu()
        return self.op(feature, fused - feature)


@MODELS.register_module()
class NDDRPassing(MixingPassing):
    """y_i = ReLU(BN(W_i [f_1; ...; f_T])): all tasks' maps are concatenated and reduced to one's width.

    The layer of NDDR-CNN, https://arxiv.org/abs/1801.08297: W_i is a 1x1 convolution that starts with alpha on the
    diagonal of a task's own part and beta on that of the others'. Weight decay belongs to it, and the authors train it
    at 100 times the network's rate (https://github.com/ethanygao/NDDR-CNN): both are the optimiser's. It is held as a
    sum over routes, W_i [f_1; ...; f_T] = sum_j W_ij f_j, which is the same and lets routes be left out. Ours: several
    sources share beta, and the start from the identity, f_i + s (y_i - f_i) with s as in ``SumOp``, since ReLU and
    batch norm have no natural one.

    Args:
        alpha: Initial weight of a task's own map; 0.9 and 0.1 are the values of the authors' code.
        beta: Initial weight of the others', together.
        options: See ``FeaturePassing``; without ``identity_init`` there is no s.
    """

    def __init__(self, *args: Any, alpha: float = 0.9, beta: float = 0.1, **options: Any) -> None:
        super().__init__(*args, **options)
        out, count = self.out_channels, self.num_sources()

        def stream(source: str, target: str) -> nn.Module:
            return DiagonalStream(out[source], out[target], alpha if source == target else beta / count[target])

        self.mix_by(stream, lambda target, own: NDDRMixture(own, out[target], self.identity_init))


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
