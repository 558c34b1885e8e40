"""Reading weights without running code from the file."""

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ['load_weights', 'read_weights']


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
    """The weights in a checkpoint of ours, of mmengine's or of plain torch.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, or asks for more than plain data, which could run code.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'{path}: no such checkpoint; train one, or name a work folder that holds one')
    try:
        with torch.serialization.safe_globals([(Ignored, name) for name in IGNORED]):
            checkpoint = torch.load(path, map_location='cpu', weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f'{path}: damaged, or no checkpoint that can be read without running code from it') from error
    return checkpoint.get('state_dict', checkpoint)


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load the weights at ``path`` into ``model``.

    Raises:
        ValueError: if the file's weights are not those of ``model``; the message names the differences.
    """
    try:
        model.load_state_dict(read_weights(path))
    except RuntimeError as error:
        raise ValueError(f'{path} was trained with another config than this one: {error}') from error
