"""Reading weights without running code from the file."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NoReturn

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
from mmengine.runner import CheckpointLoader, get_external_models, get_torchvision_models
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from mmskin.errors import MissingFile, Mistake

__all__ = [
    'average_weights',
    'download_checkpoint',
    'hash_tensors',
    'load_weights',
    'read_checkpoint',
    'read_metadata',
    'read_weights',
    'without_lookups',
]

HASH = 'sha256'  # of the tensors, in a file's metadata
WEB = ('http://', 'https://')
TABLES = {
    'modelzoo': get_torchvision_models,
    'open-mmlab': get_external_models,
    'openmmlab': get_external_models,
    'torchvision': get_torchvision_models,
}


ATTRIBUTES: dict[Any, tuple[str, ...]] = {
    HistoryBuffer: ('current', 'max', 'mean', 'min'),
    OneCycleParamScheduler: ('_annealing_cos', '_annealing_linear'),
}


def _attribute(owner: type, name: str) -> Any:
    """Stands for ``getattr``, by which mmengine's log names its means and its one-cycle schedule the curve."""
    if name not in ATTRIBUTES.get(owner, ()):
        raise Mistake(f'{name} of {owner} is no statistic of a log, nor a curve of a schedule')
    return getattr(owner, name)


# What mmengine's checkpoints hold beside tensors and plain data: the log's series of numbers, a schedule's curve.
ALLOWED = [
    HistoryBuffer,
    OneCycleParamScheduler,
    (_attribute, 'builtins.getattr'),
    (np.ndarray, 'numpy.ndarray'),
    (np.dtype, 'numpy.dtype'),
    *(type(np.dtype(kind)) for kind in ('f8', 'f4', 'i8', 'i4', 'u4')),
    *((np.zeros(0).__reduce__()[0], f'numpy.{core}.multiarray._reconstruct') for core in ('_core', 'core')),
    *((np.float64().__reduce__()[0], f'numpy.{core}.multiarray.scalar') for core in ('_core', 'core')),
]


def read_checkpoint(path: str | Path, map_location: Any = 'cpu') -> dict[str, Any]:
    """All that a checkpoint of ours, of mmengine's or of plain torch holds; of safetensors the ``state_dict``.

    Without the config's text, which is a program: mmengine would run it as it resumes.

    Raises:
        MissingFile: if there is no such file.
        Mistake: if the file is damaged, its tensors do not have the hash that it states, or it asks for more than
            plain data, which could run code.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise MissingFile(f'{path}: no such checkpoint; train one, or name a work folder that holds one')
    if path.suffix == '.safetensors':
        return {'state_dict': _read_safetensors(path)}
    try:
        with torch.serialization.safe_globals(ALLOWED):
            checkpoint = torch.load(path, map_location, weights_only=True)
        meta = checkpoint.get('meta') or {}
    except Exception as error:  # of bytes that are no pickle the unpickler raises whatever it stumbles over
        raise Mistake(f'{path}: damaged, or no checkpoint that can be read without running code from it') from error
    return (
        {**checkpoint, 'meta': {key: value for key, value in meta.items() if key != 'config'}} if meta else checkpoint
    )


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The weights in a safetensors file, or in a checkpoint of ours, of mmengine's or of plain torch.

    Raises:
        MissingFile: as ``read_checkpoint`` does.
        Mistake: likewise.
    """
    checkpoint = read_checkpoint(path)
    return checkpoint.get('state_dict', checkpoint)


@CheckpointLoader.register_scheme(prefixes=('', *WEB, *(f'{scheme}://' for scheme in TABLES)), force=True)
def load_from_anywhere(source: str, map_location: Any = None) -> dict[str, Any]:
    """What mmengine loads, for a foreign network's ``init_cfg`` as well: its own loaders fall back to running code."""
    scheme, _, name = source.partition('://')
    address = TABLES[scheme]().get(name) if scheme in TABLES else source
    if not address:
        raise Mistake(f'{source}: mmengine knows no such weights; give a file, or an address on the web')
    return (download_checkpoint if address.startswith(WEB) else read_checkpoint)(address, map_location)


@CheckpointLoader.register_scheme(prefixes=('mmcls://', 'pavi://', r'(\S+\:)?s3://', r'(\S+\:)?petrel://'), force=True)
def refuse_to_load(source: str, map_location: Any = None) -> NoReturn:
    """Stands for mmengine's loaders of these schemes, which unpickle whatever the file holds."""
    raise Mistake(f'{source}: could not be read without running code from it; give a file, or an address on the web')


def download_checkpoint(url: str, map_location: Any = 'cpu') -> dict[str, Any]:
    """A checkpoint from the web, kept in torch's cache; nothing but weights is unpickled.

    Raises:
        OSError: if it cannot be fetched.
        Mistake: if it holds anything else.
    """
    try:
        return torch.hub.load_state_dict_from_url(url, map_location=map_location, weights_only=True, check_hash=True)
    except UnpicklingError as error:
        raise Mistake(f'{url}: damaged, or no weights that can be read without running code') from error


def _read_safetensors(path: str | Path) -> dict[str, Tensor]:
    metadata = read_metadata(path)
    with safe_open(path, 'pt') as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    if HASH in metadata and metadata[HASH] != hash_tensors(weights):
        raise Mistake(f'{path}: its tensors are not those that were published (wrong {HASH}); copy the file again')
    return weights


def read_metadata(path: str | Path) -> dict[str, str]:
    """What a safetensors file says about itself, such as ``classes``.

    Raises:
        Mistake: if the file is damaged.
    """
    try:
        with safe_open(path, 'pt') as file:
            return file.metadata() or {}
    except SafetensorError as error:
        raise Mistake(f'{path}: damaged, or no safetensors file ({error}); copy the file again') from error


def hash_tensors(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and values, whatever the order: a file's header may change, and this does not."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f'{name} {tensor.dtype} {tuple(tensor.shape)}\n'.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def average_weights(paths: Sequence[str | Path]) -> dict[str, Tensor]:
    """The mean of the weights in several files of the same network; counts are those of the first.

    Raises:
        Mistake: if a file holds other weights than the first.
    """
    total = read_weights(paths[0])
    for path in paths[1:]:
        weights = read_weights(path)
        if {name: tensor.shape for name, tensor in weights.items()} != {
            name: tensor.shape for name, tensor in total.items()
        }:
            raise Mistake(f'{path} does not hold the same weights as {paths[0]}; average networks of one config')
        total = {
            name: tensor + weights[name] if tensor.is_floating_point() else tensor for name, tensor in total.items()
        }
    return {name: tensor / len(paths) if tensor.is_floating_point() else tensor for name, tensor in total.items()}


def is_weighting(name: str) -> bool:
    """Whether a tensor is of a multi-task model's ``weighting``, which works in training alone."""
    return name.removeprefix('module.').startswith('weighting.')


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load the weights at ``path`` into ``model``; what balanced its losses in training is left as it is.

    Raises:
        Mistake: if the file's weights are not those of ``model``; the message names the differences.
    """
    try:
        own = {name: tensor for name, tensor in model.state_dict().items() if is_weighting(name)}
        network = {name: tensor for name, tensor in read_weights(path).items() if not is_weighting(name)}
        model.load_state_dict({**network, **{name.removeprefix('module.'): tensor for name, tensor in own.items()}})
    except RuntimeError as error:
        raise Mistake(f'{path} was trained with another config than this one: {error}') from error


def without_lookups(part: Any) -> Any:
    """A model's config that starts from no weights of others: ``weights=None``, and no ``init_cfg``."""
    if isinstance(part, Mapping):
        kept = {key: without_lookups(value) for key, value in part.items() if key != 'init_cfg'}
        return {**kept, **({'weights': None} if isinstance(kept.get('weights'), str) else {})}
    return type(part)(map(without_lookups, part)) if isinstance(part, list | tuple) else part
