"""Several processes: a network that keeps its own training step."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from torch import Tensor

from mmskin.registry import MODEL_WRAPPERS

__all__ = ['DistributedModel']


@MODEL_WRAPPERS.register_module()
class DistributedModel(MMDistributedDataParallel):
    """MMEngine's wrapper, which would replace a ``train_step`` of the network's own by the usual one.

    Such a step runs, and each forward pass in it goes through DDP, which averages the gradients after it. So a second
    pass, as of sharpness-aware minimization, is that of all processes as well.
    """

    def train_step(self, data: dict | tuple | list, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """The network's own step, if it has one."""
        if type(self.module).train_step is BaseModel.train_step:
            return super().train_step(data, optim_wrapper)
        with self._passes_through():
            return self.module.train_step(data, optim_wrapper)

    @contextmanager
    def _passes_through(self) -> Iterator[None]:
        """Inside the block a call of the network is one of this wrapper."""
        module, forward, is_inside = self.module, self.module.forward, False

        def through(*args: Any, **kwargs: Any) -> Any:
            nonlocal is_inside
            if is_inside:
                return forward(*args, **kwargs)
            is_inside = True
            try:
                return self(*args, **kwargs)
            finally:
                is_inside = False

        module.forward, module.no_sync = through, self.no_sync
        try:
            yield
        finally:
            del module.forward, module.no_sync
