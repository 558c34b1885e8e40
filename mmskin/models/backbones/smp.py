"""A network of segmentation_models.pytorch, so that the same data, tests and tables apply to it as to ours."""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from mmskin.errors import Mistake, needs
from mmskin.models.backbones.pretrained import match_by_order
from mmskin.models.backbones.split import Backbone
from mmskin.registry import MODELS

LIBRARY, EXTRA = 'segmentation_models_pytorch', 'smp'
PLACES = ('encoder', 'decoder')


@MODELS.register_module()
class SMPBackbone(Backbone):
    """Encoder and decoder of a network of segmentation_models.pytorch, in a ``SplitBackbone``'s place.

    https://github.com/qubvel-org/segmentation_models.pytorch. The encoder is the shared part. A task reads its last
    map, as SMP's auxiliary classification head does, or the decoder's, as its segmentation head does; see ``SMPHead``.

    Args:
        encoder: Of SMP's encoders; ``tu-`` and a name for one of timm's.
        chain: Config of a ``BlockChain`` whose weights, the same tensors in the same order, the encoder starts from, so
            that its network and ours start alike.
        architecture: A class of SMP's with encoder and decoder.
        branches: Where each task reads: 'encoder' or 'decoder'.
        options: SMP's, such as ``encoder_output_stride``.

    Raises:
        MissingLibrary: if SMP is not installed.
        Mistake: if a branch is neither of the two, or SMP has no such architecture or encoder.
    """

    def __init__(
        self,
        encoder: str,
        chain: dict | None = None,
        architecture: str = 'DeepLabV3Plus',
        branches: Mapping[str, str] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.chain = chain
        self.places = dict(branches or {'cls': 'encoder', 'seg': 'decoder'})
        if wrong := {*self.places.values()} - {*PLACES}:
            raise Mistake(f'branches={self.places}: {", ".join(sorted(wrong))} is not one of {", ".join(PLACES)}')
        kind = getattr(needs(LIBRARY, EXTRA), architecture, None)
        if kind is None:
            raise Mistake(f'architecture={architecture!r}: SMP has none of this name; DeepLabV3Plus is one')
        try:
            network = kind(encoder_name=encoder, encoder_weights=None, **(options or {}))
        except KeyError as error:
            raise Mistake(f'encoder={encoder!r}: {error.args[0]}') from error
        self.shared = network.encoder
        self.branches = nn.ModuleDict(
            {task: network.decoder if place == 'decoder' else nn.Identity() for task, place in self.places.items()}
        )
        self.multiple = network.encoder.output_stride

    def init_weights(self) -> None:
        """Load the weights that the chain's config names into the encoder."""
        if self.chain and self.chain.get('weights'):
            theirs, own = MODELS.build(self.chain).state_dict(), self.shared.state_dict()
            self.shared.load_state_dict(match_by_order(dict(islice(theirs.items(), len(own))), own))

    @torch.no_grad()
    def maps_of(self, task: str) -> list[tuple[int, int]]:
        """Channels and stride of the map that the head of ``task`` gets."""
        training = self.training
        side = 2 * self.multiple
        (feature,) = self.eval()(torch.zeros(1, 3, side, side), [task])[task]
        self.train(training)
        return [(feature.shape[1], side // feature.shape[2])]

    def forward(
        self, images: Tensor, tasks: Sequence[str], passing: Mapping[str, Any] | None = None
    ) -> dict[str, tuple[Tensor, ...]]:
        """The map (N, C, h, w) of each of ``tasks`` for normalised images (N, 3, H, W)."""
        height, width = images.shape[2:]
        if height % self.multiple or width % self.multiple:
            raise Mistake(
                f'images of {height}x{width} pixels: this network needs sides that are multiples of {self.multiple}; '
                'set the size of LoadImage in all pipelines to one'
            )
        features = self.shared(images)
        decoded = {task: self.branches[task](features) for task in tasks if self.places[task] == 'decoder'}
        return {task: (decoded[task] if task in decoded else features[-1],) for task in tasks}


@MODELS.register_module()
class SMPHead(nn.Module):
    """A head of segmentation_models.pytorch, unchanged.

    https://github.com/qubvel-org/segmentation_models.pytorch, ``base/heads.py``.

    Args:
        in_channels: Channels of the last feature map.
        kind: 'ClassificationHead' or 'SegmentationHead'.
        options: SMP's, such as ``dict(classes=3, dropout=0.2)``.

    Raises:
        MissingLibrary: if SMP is not installed.
        Mistake: if SMP has no such head.
    """

    def __init__(self, in_channels: int, kind: str, options: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        head = getattr(needs(f'{LIBRARY}.base', EXTRA), kind, None)
        if head is None:
            raise Mistake(f'kind={kind!r}: SMP has ClassificationHead and SegmentationHead')
        self.head = head(in_channels, **(options or {}))

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Logits from the last map of ``feats``: (N, classes), or (N, out_channels, H, W) of pixels."""
        return self.head(feats[-1])
