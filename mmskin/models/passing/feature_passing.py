"""Gated feature passing between branches, eq. 4 to 9 of the paper, and its relatives by chains and by tokens."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmskin.errors import Mistake
from mmskin.models.passing.base import (
    OPENING,
    CarryingPassing,
    FeaturePassing,
    Features,
    Maps,
    Route,
    RoutedPassing,
    resize,
)
from mmskin.models.passing.gates import ConvMessage, ElementwiseGate, SumOp
from mmskin.models.shapes import of_shape
from mmskin.registry import MODELS, as_config

READS = ('source', 'target', 'both')


class GatedRoute(nn.Module):
    """One way from a source to a target branch: its message, gate and op."""

    def __init__(
        self, widths: dict[str, int], out_channels: int, gate: Any, message: Any, op: Any, gate_reads: str
    ) -> None:
        super().__init__()
        self.gate_reads = gate_reads
        self.out_channels = out_channels
        read = {**widths, 'both': sum(widths.values())}[gate_reads]
        source = widths['source']
        self.message: nn.Module = MODELS.build(
            as_config(message, in_channels=source, out_channels=out_channels), kind='messages'
        )
        self.gate: nn.Module | None = None
        if gate:
            self.gate = MODELS.build(as_config(gate, in_channels=read, out_channels=out_channels), kind='gates')
        self.op: nn.Module = MODELS.build(as_config(op, channels=out_channels), kind='ops')

    def rates(self, source: Maps, target: Maps) -> Tensor:
        """What the gate lets through, at the resolution of what it reads."""
        assert self.gate is not None
        reads = {'source': source.x, 'target': target.x}.get(self.gate_reads)
        reads = torch.cat([resize(source.x, target.x), target.x], dim=1) if reads is None else reads
        rates = self.gate(reads)
        return of_shape(rates, self.gate, reads.shape[0], self.out_channels, *reads.shape[2:], broadcasts=True)

    def forward(self, source: Maps, target: Maps, feature: Tensor) -> Tensor:
        """The target's ``feature`` joined with what gets through from ``source``, at the target's resolution."""
        message = self.message(source.x)
        of_shape(message, self.message, source.x.shape[0], self.out_channels, *source.x.shape[2:])
        if self.gate is not None:
            rates = self.rates(source, target)
            message = rates * (message if self.gate_reads == 'source' else resize(message, target.x))
        return of_shape(self.op(feature, resize(message, feature)), self.op, *feature.shape)


@MODELS.register_module()
class GatedFeaturePassing(RoutedPassing):
    """f_i <- op(f_i, G_{j->i} m_j) for every route j -> i at one block, between any number of branches.

    Eq. 4 to 9 of Chen, Wang, Shi, Liu and Yu, *A multi-task framework with feature passing module for skin lesion
    classification and segmentation*, ISBI 2018, https://doi.org/10.1109/ISBI.2018.8363769.

    ``x_j`` is what enters the block in branch j and ``f_i`` what leaves it in branch i. Messages and gates read ``x``
    only, so the order of routes matters only where several end in one branch: they are applied in the order of
    ``routes``. Maps of different width or size are adapted: the convolutions give the target's channels, and a
    bilinear resize its height and width.

    Args:
        gate: Config of the gate, e.g. ``dict(type='ElementwiseGate')``; gets ``in_channels`` and ``out_channels``. With
            None everything gets through: G = 1.
        message: Config of the message; gets the same.
        op: Config of ``SumOp``, ``ProductOp`` or ``ConcatOp``; gets ``channels``, and ``identity_init`` unless it says
            otherwise.
        gate_reads: 'source' is the paper's G(x_j); 'target' lets the receiver decide what it wants, from x_i, and
            'both' compares the two, as attention gates do (https://arxiv.org/abs/1804.03999).
        options: See ``FeaturePassing``.

    Raises:
        ValueError: if ``gate_reads`` is none of the three, or set without a gate.
    """

    quantity = OPENING

    def __init__(
        self,
        *args: Any,
        gate: dict | str | None = {'type': 'ElementwiseGate'},  # noqa: B006 (never changed)
        message: dict | str = {'type': 'ConvMessage'},  # noqa: B006
        op: dict | str = {'type': 'SumOp'},  # noqa: B006
        gate_reads: str = 'source',
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        if gate_reads not in READS:
            raise Mistake(f'gate_reads is {gate_reads!r}; it can be {", ".join(READS)}')
        if gate is None:
            self.quantity = ''
            if gate_reads != 'source':
                raise Mistake(f'gate_reads is {gate_reads!r}, but there is no gate; leave it out')
        op = {'identity_init': self.identity_init, **as_config(op)}
        for name, (source, target) in self.ends.items():
            widths = dict(source=self.in_channels[source], target=self.in_channels[target])
            self.routes[name] = GatedRoute(widths, self.out_channels[target], gate, message, op, gate_reads)


@MODELS.register_module()
class UngatedPassing(GatedFeaturePassing):
    """f_i <- f_i + ReLU(w * x_j + b): the paper's eq. 4 to 7 with every gate open, G = 1, to see what gates are for.

    The paper is https://doi.org/10.1109/ISBI.2018.8363769; this ablation of it is ours.

    Args:
        options: See ``GatedFeaturePassing``, of whose options it has ``message`` and ``op``.
    """

    quantity = ''

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, gate=None, **options)


@MODELS.register_module()
class ShuffledPassing(GatedFeaturePassing):
    """Gated passing whose messages come from the batch's next image, to see whether their content matters.

    A control of ours. What is left of a gain over no passing, when what is passed says nothing about the image, is due
    to further parameters and to noise. In a batch of one image it is gated passing.

    Args:
        options: See ``GatedFeaturePassing``.
    """

    mixes_images = True

    def brought(self, route: str, feature: Tensor) -> Tensor:
        """The source's feature of the next image in the batch."""
        return super().brought(route, feature.roll(-1, dims=0))


class BottleneckRoute(nn.Module):
    """What a target's tokens take from a source's map."""

    def __init__(self, source: int, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width, bias=False)
        self.key, self.value = (nn.Conv2d(source, width, 1, bias=False) for _ in range(2))

    def forward(self, tokens: Tensor, source: Tensor) -> Tensor:
        """(N, num_tokens, width) from the tokens and the map (N, C, h, w)."""
        keys, values = (layer(source).flatten(2).transpose(1, 2) for layer in (self.key, self.value))
        return F.scaled_dot_product_attention(self.query(tokens), keys, values)


class BottleneckTarget(nn.Module):
    """A target's tokens, and what its map takes from them."""

    def __init__(self, channels: int, num_tokens: int, width: int, identity_init: bool) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.randn(num_tokens, width) * 0.02)
        self.query = nn.Conv2d(channels, width, 1, bias=False)
        self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.out = nn.Conv2d(width, channels, 1)
        self.op = SumOp(channels, identity_init)

    def forward(self, feature: Tensor, tokens: Tensor) -> Tensor:
        """The map (N, C, H, W) after attending to the tokens (N, num_tokens, width)."""
        queries = self.query(feature).flatten(2).transpose(1, 2)  # (N, HW, width)
        attended = F.scaled_dot_product_attention(queries, self.key(tokens), self.value(tokens))
        return self.op(feature, self.out(attended.transpose(1, 2).unflatten(2, feature.shape[2:])))


@MODELS.register_module()
class BottleneckPassing(CarryingPassing):
    """z_i <- z_i + mean_j A(z_i, f_j), then f_i <- f_i + A(f_i, z_i): all that branches tell goes through a few tokens.

    Attention bottlenecks, https://arxiv.org/abs/2107.00135, eq. 8 and 9: streams exchange nothing but through tokens
    z, which are few, so that each has to condense what the others need; tokens are updated by each stream and averaged
    (eq. 9), and go on to the next layer. Here they go on to the next site of a tuple, such as
    ``{('/8', '/16', '/32'): dict(type='BottleneckPassing')}``, whatever the widths there: z_i starts at a site from
    what it was at the one before plus the site's own tokens. A(q, x) is attention by queries of q to keys and values of
    x (https://arxiv.org/abs/1706.03762, eq. 1). Ours: z of each target's own, which reads along its routes alone; one
    attention in each direction, with one head, where the paper's streams are transformers; and the start from the
    identity by ``SumOp``.

    Args:
        num_tokens: Of each target; 4 in the paper.
        width: Of a token, at all sites.
        options: See ``FeaturePassing``.
    """

    def __init__(self, *args: Any, num_tokens: int = 4, width: int = 64, **options: Any) -> None:
        super().__init__(*args, **options)
        out = self.out_channels
        for target in {target: None for _, target in self.ends.values()}:
            self.targets[target] = BottleneckTarget(out[target], num_tokens, width, self.identity_init)
        for name, (source, _) in self.ends.items():
            self.routes[name] = BottleneckRoute(out[source], width)

    def forward(
        self, inputs: Features, outputs: Features, state: Features | None = None
    ) -> tuple[Features, dict[str, Tensor]]:
        """The maps, and the tokens (N, num_tokens, width) of each target that there has been, by task."""
        tokens, new = dict(state or {}), dict(outputs)
        running = self.running(outputs).items()
        for target in self.running_targets(outputs):
            own = self.targets[target].tokens.expand(outputs[target].shape[0], -1, -1)
            z = tokens[target] + own if target in tokens else own
            messages = [
                self.routes[r](z, self.brought(r, outputs[source])) for r, (source, end) in running if end == target
            ]
            tokens[target] = z + torch.stack(messages).mean(dim=0)
            new[target] = self.targets[target](outputs[target], tokens[target])
        return new, tokens


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
