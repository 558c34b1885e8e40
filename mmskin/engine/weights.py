"""Reading weights without running code from the file."""

import pickle
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor, nn

__all__ = ['load_weights', 'read_weights']

numpy_core = getattr(np, '_core', None) or np.core  # its name up to numpy 1.26

# What mmengine's checkpoints hold beside tensors: its log's number series. All are plain data.
PLAIN_DATA = [
    HistoryBuffer,
    np.ndarray,
    np.dtype,
    numpy_core.multiarray._reconstruct,
    numpy_core.multiarray.scalar,
    *(type(np.dtype(name)) for name in ('float64', 'float32', 'int64', 'int32', 'uint32')),
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
        with torch.serialization.safe_globals(PLAIN_DATA):
            checkpoint = torch.load(path, map_location='cpu', weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f'{path}: not a checkpoint that can be read without running code from it: {error}') from error
    return checkpoint.get('state_dict', checkpoint)


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load the weights at ``path`` into ``model``.

    Raises:
        ValueError: if the file's weights are not those of ``model``; the message names the first differences.
    """
    try:
        model.load_state_dict(read_weights(path))
    except RuntimeError as error:
        raise ValueError(f'{path} was trained with another config than this one: {error}') from error
