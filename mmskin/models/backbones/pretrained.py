"""Weights that come from elsewhere."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor
from torchvision.models import get_model_weights

from mmskin.errors import MissingFile, Mistake
from mmskin.models.weights import download_checkpoint, read_weights

__all__ = ['read_pretrained', 'match_by_order']

OFFLINE = (
    'Without a network, put the file in place and name it, or start from random initialisation: '
    '--cfg-options model.backbone.chain.weights=None.'
)


def read_pretrained(source: str) -> dict[str, Tensor]:
    """Read a state dict on the CPU, without running code from it.

    Args:
        source: ``torchvision://resnet101`` (its first ImageNet weights), an http(s) address, or a file as
            ``read_weights`` takes it.

    Raises:
        MissingFile: if the file is missing or the download fails; the message says how to do without.
        Mistake: if the file is damaged, or asks for more than plain data.
    """
    if source.startswith('torchvision://'):
        source = get_model_weights(source.removeprefix('torchvision://'))['IMAGENET1K_V1'].url
    if source.startswith(('http://', 'https://')):
        return _download(source)
    if not Path(source).is_file():
        raise MissingFile(f'There is no file with weights at {source!r}. {OFFLINE}')
    return read_weights(source)


def _download(url: str) -> dict[str, Tensor]:
    try:
        return download_checkpoint(url)
    except OSError as error:
        raise MissingFile(f'The weights {url!r} could not be fetched ({error}). {OFFLINE}') from error


def match_by_order(state: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of ``state`` as in ``target``, which has the same ones in the same order.

    Raises:
        Mistake: if the numbers of tensors differ, or two paired ones in shape or in the last part of their name.
    """
    if len(state) != len(target):
        raise Mistake(f'The weights hold {len(state)} tensors, the network {len(target)}: not the same network.')
    for (theirs, tensor), (ours, own) in zip(state.items(), target.items(), strict=True):
        same_kind = theirs.rpartition('.')[2] == ours.rpartition('.')[2]
        if not same_kind or tensor.shape != own.shape:
            raise Mistake(
                f'{theirs} {tuple(tensor.shape)} of the weights would become {ours} {tuple(own.shape)}: '
                'not the same network.'
            )
    return dict(zip(target, state.values(), strict=True))
