"""Weights: read without running code from the file, and written so that damage shows."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit
from zipfile import ZipFile, is_zipfile

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
from mmengine.runner import CheckpointLoader, get_external_models, get_torchvision_models
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from mmskin.errors import MissingFile, Mistake
from mmskin.files import check_readable, whole_file

HASH = 'sha256'  # of the tensors, in the metadata of safetensors
BLOCK = 32  # values with a factor of their own, where a file holds 8 bits of each
SCALE = '@scale'  # behind a tensor's name: those factors
HASH_OF_ALL = 'mmskin_sha256'  # of all tensors of a checkpoint, the optimizer's included; a key of its own
WRAPPERS = ('module.', '_orig_mod.')  # of DataParallel and its like, and of torch.compile
WEIGHTING = ('weighting.', 'module.weighting.')  # of a multi-task model, which works in training alone
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


# What mmengine's checkpoints hold besides tensors and plain data: the log's series of numbers, a schedule's curve.
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

    What ``write_checkpoint`` wrote is checked against its hash. Every other that torch wrote as an archive, which it
    does not check itself, is checked against the archive's sums.

    Raises:
        MissingFile: if there is no such file.
        Mistake: if the file is damaged, its tensors do not have the hash that it states, or it asks for more than
            plain data, which could run code.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise MissingFile(f'{path}: no such checkpoint; train one, or name a work folder that holds one')
    if path.suffix == '.safetensors':
        return _read_safetensors(path)
    check_readable(path)
    try:
        changed = None
        if is_zipfile(path):
            with ZipFile(path) as archive:  # which has no sums where torch was told to leave them out
                changed = archive.testzip() if any(part.CRC for part in archive.infolist()) else None
        with torch.serialization.safe_globals(ALLOWED):
            checkpoint = torch.load(path, map_location, weights_only=True)
        meta = checkpoint.get('meta') or {}
        if meta:
            checkpoint['meta'] = {key: value for key, value in meta.items() if key != 'config'}
    except Exception as error:  # of bytes that are no pickle the unpickler raises whatever it stumbles over
        raise Mistake(f'{path}: damaged, or no checkpoint that can be read without running code from it') from error
    stated = checkpoint.pop(HASH_OF_ALL, None)
    if changed or (stated is not None and stated != hash_tensors(dict(_tensors(checkpoint)))):
        what = f'the checksum of {changed} in it' if changed else f'the {HASH} of its tensors'
        raise Mistake(f'{path}: damaged since it was written ({what} is wrong); copy it again, or take another')
    return checkpoint


def _tensors(part: Any, name: str = '') -> Iterator[tuple[str, Tensor]]:
    """The tensors in nested dicts and lists, each with the keys that lead to it."""
    if isinstance(part, Tensor):
        yield name, part
    elif isinstance(part, Mapping | list | tuple):
        for key, inner in part.items() if isinstance(part, Mapping) else enumerate(part):
            yield from _tensors(inner, f'{name}/{key}')


def write_checkpoint(path: str | Path, checkpoint: Mapping[str, Any]) -> None:
    """Write a checkpoint, whole or not at all, with a hash of all tensors in it."""
    with whole_file(path) as file:
        torch.save({**checkpoint, HASH_OF_ALL: hash_tensors(dict(_tensors(checkpoint)))}, file)


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The weights in a safetensors file, or in a checkpoint of ours, of mmengine's or of plain torch.

    Names are the network's own, without what torch puts before all of them where the network was wrapped.

    Raises:
        MissingFile: as ``read_checkpoint`` does.
        Mistake: likewise, and if there are none.
    """
    return _weights_in(read_checkpoint(path), path)


def _weights_in(checkpoint: Mapping[str, Any], path: str | Path) -> dict[str, Tensor]:
    """The weights of what ``read_checkpoint`` read."""
    weights = checkpoint.get('state_dict', checkpoint)
    if not isinstance(weights, Mapping) or not all(isinstance(name, str) for name in weights):
        raise Mistake(f'{path}: holds no weights by name; name a checkpoint of a network')
    for wrapper in WRAPPERS * 2:
        if weights and all(name.startswith(wrapper) for name in weights):
            weights = {name.removeprefix(wrapper): tensor for name, tensor in weights.items()}
    return dict(weights)


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
    name = Path(urlsplit(url).path).name
    file = Path(torch.hub.get_dir(), 'checkpoints', name)
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        start_of_hash = torch.hub.HASH_REGEX.search(name)
        try:
            torch.hub.download_url_to_file(url, str(file), start_of_hash and start_of_hash[1])
        except RuntimeError as error:
            raise Mistake(f'{url}: {error}; the download was damaged, so try again') from error
    try:
        return read_checkpoint(file, map_location)
    except Mistake as error:
        raise Mistake(
            f'{url}: damaged, or no weights that can be read without running code; remove {file} to fetch it again'
        ) from error


def _read_safetensors(path: Path) -> dict[str, Any]:
    """The weights, and the names of the classes that a published file states; none of a foreign one."""
    metadata = read_metadata(path)
    with safe_open(path, 'pt') as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    if HASH in metadata and metadata[HASH] != hash_tensors(stored):
        raise Mistake(f'{path}: its tensors are not those that were published (wrong {HASH}); copy the file again')
    weights = {name: tensor for name, tensor in stored.items() if not name.endswith(SCALE)}
    for key in stored.keys() - weights.keys():  # those of ``pack``, back in float32
        name, scale = key.removesuffix(SCALE), stored[key].float()
        if name not in weights or weights[name].numel() != BLOCK * scale.numel():
            raise Mistake(f'{path}: the factors of {key} fit no tensor; copy the file again')
        weights[name] = (weights[name].reshape(-1, BLOCK) * scale[:, None]).reshape(weights[name].shape)
    try:
        names = {'classes': json.loads(metadata['classes'])} if {HASH, 'classes'} <= metadata.keys() else {}
    except (RecursionError, ValueError) as error:
        raise Mistake(f'{path}: damaged, its classes are {metadata["classes"][:40]!r}; copy the file again') from error
    return {'state_dict': weights, 'meta': {'dataset_meta': names}}


def pack(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """A floating-point tensor in 8 bits: whole numbers from -127 to 127, and a float16 for each ``BLOCK`` of them.

    Blocks are cut from the values in their order, and what a number is multiplied by is its block's largest over 127:
    as Q8_0 of llama.cpp (https://github.com/ggml-org/llama.cpp).

    Args:
        name: In the file; the factors are under the same with ``SCALE`` behind it.
        tensor: Of any shape, with a multiple of ``BLOCK`` values.
    """
    blocks = tensor.float().reshape(-1, BLOCK)
    scale = (blocks.abs().amax(dim=1, keepdim=True) / 127).half()
    whole = torch.where(scale > 0, blocks / scale, 0).round().clamp(-127, 127)
    return {name: whole.to(torch.int8).reshape(tensor.shape), name + SCALE: scale.flatten()}


def read_metadata(path: str | Path) -> dict[str, str]:
    """What a safetensors file says about itself, such as ``classes``."""
    check_readable(path)
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
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def stated_hash(path: str | Path) -> str:
    """The hash of the tensors in a file of weights; of a published one, as they are stored."""
    stated = read_metadata(path).get(HASH) if Path(path).suffix == '.safetensors' else None
    return stated or hash_tensors(read_weights(path))


def average_weights(paths: Sequence[str | Path]) -> dict[str, Tensor]:
    """The mean of the weights in several files of the same network; counts are those of the first."""
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


def load_weights(model: nn.Module, path: str | Path, metainfo: Mapping[str, Any] | None = None) -> None:
    """Load the weights at ``path`` into ``model``; what balanced its losses in training is left as it is.

    Args:
        model: The network.
        path: Anything that ``read_weights`` reads.
        metainfo: Of the data set whose names the outputs will have.

    Raises:
        Mistake: if the file's weights are not those of ``model``; the message names the differences. Likewise if the
            training had a name of ``metainfo`` in another place.
    """
    checkpoint = read_checkpoint(path)
    trained = (checkpoint.get('meta') or {}).get('dataset_meta')
    check_order(trained, metainfo or {}, f'{path}: was trained')
    state = model.state_dict()
    own = {name: tensor for name, tensor in state.items() if name.startswith(WEIGHTING)}
    network = {name: tensor for name, tensor in _weights_in(checkpoint, path).items() if not name.startswith(WEIGHTING)}
    refuse_whole_numbers({name.removeprefix('module.'): tensor for name, tensor in state.items()}, network, str(path))
    try:
        model.load_state_dict({**network, **{name.removeprefix('module.'): tensor for name, tensor in own.items()}})
    except RuntimeError as error:
        raise Mistake(f'{path} was trained with another config than this one: {error}') from error


def check_order(
    trained: Any, named: Mapping[str, Any], source: str, whose: str = 'the data set', exactly: bool = False
) -> None:
    """Make sure that no class has another place among its target's than it had in training.

    Args:
        trained: The metainfo of the training set, or what another program's checkpoint has in its place.
        named: That of the data set that is to go with it.
        source: The begin of the error.
        whose: What the error calls the second.
        exactly: Whether both have to have the same classes.
    """
    for key in trained.keys() & named.keys() if isinstance(trained, Mapping) else ():
        are_names = key == 'classes' or key.startswith('gt_')
        before, now = (metainfo[key] if are_names else () for metainfo in (trained, named))
        if not isinstance(before, list | tuple):  # of another program's checkpoint
            continue
        before, now = [*map(str, before)], [*map(str, now)]
        moved = any(name in now and now.index(name) != place for place, name in enumerate(before))
        if moved or (exactly and before != now):
            raise Mistake(
                f'{source} with {key}={before}, and {whose} has {now}; name them in the order of the training: '
                f'metainfo=dict({key}=...)'
            )


def refuse_whole_numbers(own: Mapping[str, Tensor], given: Mapping[str, Tensor], source: str) -> None:
    """Make sure that no fraction of ``own`` would be given whole numbers, as torch does without a word."""
    for name in sorted(own.keys() & given.keys()):
        if own[name].is_floating_point() and not given[name].is_floating_point():
            raise Mistake(
                f'{source}: {name} holds {str(given[name].dtype).removeprefix("torch.")}, not fractions; publish the '
                'network again, or take its checkpoint'
            )


def without_lookups(part: Any) -> Any:
    """A model's config that starts from no weights of others: ``weights=None``, and no ``init_cfg``."""
    if isinstance(part, Mapping):
        kept = {key: without_lookups(value) for key, value in part.items() if key != 'init_cfg'}
        return {**kept, **({'weights': None} if isinstance(kept.get('weights'), str) else {})}
    return type(part)(map(without_lookups, part)) if isinstance(part, list | tuple) else part
