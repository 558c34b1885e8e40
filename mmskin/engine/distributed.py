"""Several processes: networks that keep their own training step."""

from functools import partial
from typing import Any

from mmengine.model import BaseModel, MMDistributedDataParallel, MMFullyShardedDataParallel
from mmengine.optim import OptimWrapper
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from mmskin.errors import Mistake
from mmskin.registry import MODEL_WRAPPERS


class OwnStep:
    """Lets a ``train_step`` of the network's own run inside a wrapper that would replace it by the usual one.

    Each forward pass in it goes through the wrapper, which averages the gradients after it. So a second pass, as of
    sharpness-aware minimization, is that of all processes as well.
    """

    module: Any

    def train_step(self, data: dict | tuple | list, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """The network's own step, if it has one."""
        if type(self.module).train_step is BaseModel.train_step:
            return super().train_step(data, optim_wrapper)  # type: ignore[misc]
        module, forward, is_inside = self.module, self.module.forward, False

        def through(*args: Any, **kwargs: Any) -> Any:
            nonlocal is_inside
            if is_inside:
                return forward(*args, **kwargs)
            is_inside = True
            try:
                return self(*args, **kwargs)  # type: ignore[operator]
            finally:
                is_inside = False

        module.forward, module.no_sync = through, self.no_sync  # type: ignore[attr-defined]
        try:
            return module.train_step(data, optim_wrapper)
        finally:
            del module.forward, module.no_sync


@MODEL_WRAPPERS.register_module()
class DistributedModel(OwnStep, MMDistributedDataParallel):
    """MMEngine's wrapper for DDP, in which a network keeps its own training step."""


@MODEL_WRAPPERS.register_module()
class ShardedModel(OwnStep, MMFullyShardedDataParallel):
    """MMEngine's wrapper for FSDP, in which a network keeps its own training step; parameters are shards between.

    ``clip_grad=dict(max_norm=...)`` is of the whole gradient's norm, where MMEngine clips each process's shards by
    theirs, and the processes' steps would differ.
    """

    def train_step(self, data: dict | tuple | list, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """The network's own step, if it has one."""
        if getattr(optim_wrapper, 'clip_func', None) is clip_grad_norm_:
            optim_wrapper._clip_grad = partial(self._clip_grad, optim_wrapper)
        return super().train_step(data, optim_wrapper)

    def _clip_grad(self, optim_wrapper: OptimWrapper) -> None:
        options = {key: value for key, value in optim_wrapper.clip_grad_kwargs.items() if key != 'foreach'}
        strict = options.pop('error_if_nonfinite', False)
        norm = self.clip_grad_norm_(**options)
        if strict and not norm.isfinite():
            raise Mistake(f'the norm of the gradient is {float(norm)}, which clip_grad.error_if_nonfinite refuses')
        optim_wrapper.message_hub.update_scalar(f'train/{optim_wrapper.grad_name}', float(norm))
