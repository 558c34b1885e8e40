"""Weights that come from elsewhere."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn
from torchvision.models import get_model_weights, list_models

from mmskin.errors import MissingFile, Mistake, near_matches
from mmskin.models.weights import download_checkpoint, read_weights, refuse_whole_numbers

COMMON = {'weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked'}  # which every library calls so
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
        name = source.removeprefix('torchvision://')
        if name not in list_models():
            hint = near_matches(name, list_models(), 'torchvision.models.list_models() lists them')
            raise Mistake(f'torchvision has no network {name!r}. {hint}.')
        addresses = [weights.url for weights in get_model_weights(name) if weights.name.startswith('IMAGENET1K')]
        if not addresses:
            raise Mistake(f'torchvision has no ImageNet weights of {name}; name a file, or another network')
        source = addresses[0]
    if source.startswith(('http://', 'https://')):
        try:
            return download_checkpoint(source)
        except OSError as error:
            raise MissingFile(f'The weights {source!r} could not be fetched ({error}). {OFFLINE}') from error
    if not Path(source).is_file():
        raise MissingFile(f'There is no file with weights at {source!r}. {OFFLINE}')
    return read_weights(source)


def fit_weights(
    network: nn.Module,
    state: Mapping[str, Tensor],
    source: str,
    kind: str,
    unused: Sequence[str] = (),
    by_order: bool = False,
) -> None:
    """Load ``state`` into ``network`` by name, or by the order of its tensors.

    Args:
        network: Gets the weights.
        state: Has to hold all that the network has, and nothing else.
        source: Where it is from, for errors.
        kind: What the network is called there.
        unused: How names of what nobody needs begin, as ``fc.`` of a classifier; these may differ, or be absent.
        by_order: Where the names are another library's; see ``match_by_order``.
    """
    own, spare = network.state_dict(), tuple(unused)
    wanted = {name: tensor for name, tensor in own.items() if not name.startswith(spare)}
    given = {name: tensor for name, tensor in state.items() if not name.startswith(spare)}
    buffers = {name for name, _ in network.named_buffers() if 'running_' not in name}  # which older files may lack
    lacking, others = [*wanted.keys() - given.keys() - buffers], [*given.keys() - wanted.keys()]
    if by_order and (lacking or others):
        given = match_by_order(state, own, unused)
        lacking, others = [], []
    unlike = [name for name in wanted.keys() & given.keys() if given[name].shape != wanted[name].shape]
    faults = [f'{name} is {tuple(given[name].shape)}, not {tuple(wanted[name].shape)}' for name in sorted(unlike)[:1]]
    faults += [f'{len(lacking)} tensors are absent, such as {min(lacking)}'] if lacking else []
    faults += [f'{len(others)} of its tensors, such as {min(others)}, are of no part of the network'] if others else []
    if faults:
        raise Mistake(f'The weights {source!r} are not those of {kind}: {"; ".join(faults)}')
    refuse_whole_numbers(own, given, source)
    network.load_state_dict({**own, **given})


def match_by_order(
    state: Mapping[str, Tensor], target: Mapping[str, Tensor], unused: Sequence[str] = ()
) -> dict[str, Tensor]:
    """Rename the tensors of ``state`` as in ``target``, which has the same ones in the same order.

    So a linear layer may stand for a convolution of one pixel, and a network's own kind of parameter for another's.
    Those of the target that begin like ``unused`` are left out, whatever their shape.
    """
    if len(state) != len(target):
        raise Mistake(f'The weights hold {len(state)} tensors, the network {len(target)}: not the same network')
    renamed = {}
    for (theirs, tensor), (ours, own) in zip(state.items(), target.items(), strict=True):
        if unused and ours.startswith(tuple(unused)):
            continue
        kinds = {name.rpartition('.')[2] for name in (theirs, ours)}
        if (len(kinds) > 1 and kinds & COMMON) or tensor.squeeze().shape != own.squeeze().shape:
            raise Mistake(
                f'{theirs} {tuple(tensor.shape)} of the weights would become {ours} {tuple(own.shape)}: '
                'not the same network'
            )
        renamed[ours] = tensor.reshape(own.shape)
    return renamed
