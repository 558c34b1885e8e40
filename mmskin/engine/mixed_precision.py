"""Training in mixed precision, by the optimizer wrapper that the config names."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper, OptimWrapper, OptimWrapperDict
from torch import nn

from mmskin.errors import Mistake
from mmskin.registry import OPTIM_WRAPPERS


class BFloat16:
    """Runs the forward pass under bfloat16 autocast, which has the range of float32: the loss needs no scaling."""

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast around one training step's forward pass."""
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, dtype=torch.bfloat16):  # type: ignore[misc]
            yield


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(BFloat16, OptimWrapper):
    """A plain wrapper in bfloat16; mmengine's ``AmpOptimWrapper`` refuses to work without an accelerator."""


def in_mixed_precision(cfg: Config) -> None:
    """Let a stage train in mixed precision: float16 with loss scaling on a GPU, bfloat16 on a CPU.

    A wrapper that is not mmengine's plain one stays, in bfloat16 on either; one that is of mixed precision stays as it
    is.
    """
    named: Any = cfg.optim_wrapper.get('type', 'OptimWrapper')
    kind = OPTIM_WRAPPERS.get(named)
    if kind is OptimWrapper:
        cfg.optim_wrapper.type = 'AmpOptimWrapper' if torch.cuda.is_available() else 'BFloat16OptimWrapper'
    elif not (isinstance(kind, type) and issubclass(kind, OptimWrapper)) or issubclass(kind, OptimWrapperDict):
        raise Mistake(f'optim_wrapper.type={named!r} cannot be trained with --amp; leave it out')
    elif not issubclass(kind, AmpOptimWrapper | BFloat16) and 'Apex' not in kind.__name__:
        name, doc = f'BFloat16{kind.__name__}', f'{kind.__name__} that runs the network in bfloat16.'
        OPTIM_WRAPPERS.register_module(name, force=True, module=type(name, (BFloat16, kind), {'__doc__': doc}))
        cfg.optim_wrapper.type = name
