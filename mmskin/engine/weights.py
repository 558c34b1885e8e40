"""Reading weights without running code from the file."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.runner import CheckpointLoader
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

__all__ = ['average_weights', 'hash_tensors', 'load_weights', 'mmengine_address', 'read_metadata', 'read_weights']

SCHEME = 'safetensors:'
HASH = 'sha256'  # of the tensors, in a file's metadata


class Ignored:
    """Stands in for what mmengine's checkpoints hold beside weights: its log's number series, made of these parts."""

    def __new__(cls, *args: Any) -> 'Ignored':
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass


IGNORED = [
    'mmengine.logging.history_buffer.HistoryBuffer',
    'builtins.getattr',
    'numpy.ndarray',
    'numpy.dtype',
    *(f'numpy.{core}.multiarray.{name}' for core in ('_core', 'core') for name in ('_reconstruct', 'scalar')),
    *(f'numpy.dtypes.{name}DType' for name in ('Float64', 'Float32', 'Int64', 'Int32', 'UInt32')),
]


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The weights in a safetensors file, or in a checkpoint of ours, of mmengine's or of plain torch.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, its tensors do not have the hash that it states, or it asks for more than
            plain data, which could run code.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'{path}: no such checkpoint; train one, or name a work folder that holds one')
    return _read_safetensors(path) if Path(path).suffix == '.safetensors' else _read_pickle(path)


def _read_pickle(path: str | Path) -> dict[str, Tensor]:
    try:
        with torch.serialization.safe_globals([(Ignored, name) for name in IGNORED]):
            checkpoint = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # of bytes that are no pickle the unpickler raises whatever it stumbles over
        raise ValueError(f'{path}: damaged, or no checkpoint that can be read without running code from it') from error
    return checkpoint.get('state_dict', checkpoint)


def _read_safetensors(path: str | Path) -> dict[str, Tensor]:
    metadata = read_metadata(path)
    with safe_open(path, 'pt') as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    if HASH in metadata and metadata[HASH] != hash_tensors(weights):
        raise ValueError(f'{path}: its tensors are not those that were published (wrong {HASH}); copy the file again')
    return weights


def read_metadata(path: str | Path) -> dict[str, str]:
    """What a safetensors file says about itself, such as ``classes``.

    Raises:
        ValueError: if the file is damaged.
    """
    try:
        with safe_open(path, 'pt') as file:
            return file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f'{path}: damaged, or no safetensors file ({error}); copy the file again') from error


def hash_tensors(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and values, whatever the order: a file's header may change, and this does not."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f'{name} {tensor.dtype} {tuple(tensor.shape)}\n'.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def mmengine_address(path: str | Path) -> str:
    """``path`` as mmengine's loader needs it, which takes every file for a pickle unless a scheme says otherwise."""
    return f'{SCHEME}{path}' if Path(path).suffix == '.safetensors' else str(path)


@CheckpointLoader.register_scheme(prefixes=SCHEME, force=True)
def _load_for_mmengine(address: str, map_location: Any = None) -> dict[str, dict[str, Tensor]]:
    return {'state_dict': read_weights(address.removeprefix(SCHEME))}


def average_weights(paths: Sequence[str | Path]) -> dict[str, Tensor]:
    """The mean of the weights in several files of the same network; counts are those of the first.

    Raises:
        ValueError: if a file holds other weights than the first.
    """
    total = read_weights(paths[0])
    for path in paths[1:]:
        weights = read_weights(path)
        if {name: tensor.shape for name, tensor in weights.items()} != {
            name: tensor.shape for name, tensor in total.items()
        }:
            raise ValueError(f'{path} does not hold the same weights as {paths[0]}; average networks of one config')
        total = {
            name: tensor + weights[name] if tensor.is_floating_point() else tensor for name, tensor in total.items()
        }
    return {name: tensor / len(paths) if tensor.is_floating_point() else tensor for name, tensor in total.items()}


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load the weights at ``path`` into ``model``.

    Raises:
        ValueError: if the file's weights are not those of ``model``; the message names the differences.
    """
    try:
        model.load_state_dict(read_weights(path))
    except RuntimeError as error:
        raise ValueError(f'{path} was trained with another config than this one: {error}') from error
