"""Optimizers that look at the loss more than once in a step, as SAM and LBFGS do."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from torch.distributed import all_reduce
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.optim import Optimizer

from mmskin.errors import Mistake
from mmskin.models.watch import unwrap
from mmskin.registry import OPTIM_WRAPPERS, OPTIMIZERS


@OPTIM_WRAPPERS.register_module()
class ClosureOptimWrapper(OptimWrapper):
    """Gives the optimizer's ``step`` a closure: zero the gradients, repeat the forward pass of the batch, go backward.

    The closure calls what training called, so gradients are averaged over processes by DDP and FSDP in each of its
    passes. Under FSDP each process has shards of them: an optimizer that compares whole gradients has to have an
    attribute ``group``, and gets the processes there which hold the other shards; one without is refused. The
    gradients of the first pass are there before the step, as SAM's authors have it. Draws such as dropout's are those
    of the first pass, or a line search would compare losses of different networks.

    Args:
        options: As ``OptimWrapper`` takes them; ``accumulative_counts`` has to be 1, since a closure is of one batch.
    """

    _call: Callable[[], Any]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self._accumulative_counts != 1:
            raise Mistake('ClosureOptimWrapper: a closure is of one batch; leave accumulative_counts out')

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Note how the model is called in a training step."""

        def note(module: nn.Module, args: tuple, kwargs: dict) -> None:
            self._call = lambda: module(*args, **kwargs)
            self._draws = torch.get_rng_state(), torch.cuda.get_rng_state_all()

        self._model = model
        handle = model.register_forward_pre_hook(note, with_kwargs=True)
        try:
            with super().optim_context(model):
                yield
        finally:
            handle.remove()

    def update_params(self, loss: Tensor, step_kwargs: dict | None = None, zero_kwargs: dict | None = None) -> None:
        """Go backward, and let the optimizer step with the closure."""
        draws, model = self._draws, self._model
        call: Callable[[], Any] = self._call

        @torch.enable_grad()
        def closure() -> Tensor:
            with torch.random.fork_rng(range(torch.cuda.device_count())):
                torch.set_rng_state(draws[0])
                torch.cuda.set_rng_state_all(draws[1])
                self.optimizer.zero_grad()
                with self.optim_context(model):
                    losses = call()
                again = unwrap(model).parse_losses(losses)[0]  # type: ignore[operator]
                self.backward(again)
                if self.clip_grad_kwargs:
                    self._clip_grad()
            return again.detach()

        if isinstance(model, FullyShardedDataParallel):
            if not hasattr(self.optimizer, 'group'):
                raise Mistake(
                    f'{type(self.optimizer).__name__} compares whole gradients, and under FSDP each process has a part '
                    "of them; set strategy.type='DDPStrategy'"
                )
            self.optimizer.group = model.process_group
        self.backward(loss)
        self.step(**{**(step_kwargs or {}), 'closure': closure})
        self.zero_grad(**(zero_kwargs or {}))


@OPTIMIZERS.register_module()
class SAM(Optimizer):
    """Sharpness-aware minimization: the step of another optimizer, by the gradient at the worst point nearby.

    Foret et al., https://arxiv.org/abs/2010.01412, equations 2 and 3, and Kwon et al., https://arxiv.org/abs/2102.11600
    for ``adaptive``: e = rho * g / |g|, and the gradient is that at w + e. Each step costs two passes. It goes with
    ``ClosureOptimWrapper``. The network's batch-norm statistics see both points.

    Args:
        params: Parameters, or groups of them.
        base: Name of the optimizer that steps, of ``torch.optim`` or registered.
        rho: Radius of the neighbourhood. The authors' is 0.05; for ``adaptive`` ten times as much.
        adaptive: Whether the neighbourhood is wider along larger weights.
        options: Of the base, as ``lr``.
    """

    def __init__(
        self, params: Any, base: str = 'SGD', rho: float = 0.05, adaptive: bool = False, **options: Any
    ) -> None:
        if rho <= 0:
            raise Mistake(f'SAM(rho={rho}): give a radius above 0')
        self.rho, self.adaptive = rho, adaptive
        self.group: Any = None  # the processes with the other shards of the parameters, where these are shards
        self.base = OPTIMIZERS.build(dict(type=base, params=params, **options))
        super().__init__(self.base.param_groups, self.base.defaults)
        self.base.param_groups = self.param_groups  # schedulers set rates here

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor:  # type: ignore[override]
        """Climb to the worst point nearby, take the gradient there, come back and step."""
        if closure is None:
            raise Mistake("SAM looks at the loss twice in a step; set optim_wrapper.type='ClosureOptimWrapper'")
        moved = [weight for group in self.param_groups for weight in group['params'] if weight.grad is not None]
        scales = [weight.abs() if self.adaptive else torch.ones((), device=weight.device) for weight in moved]
        squares = [(scale * weight.grad).square().sum() for weight, scale in zip(moved, scales, strict=True)]
        before = [weight.clone() for weight in moved]
        if squares or self.group is not None:
            device = self.param_groups[0]['params'][0].device
            total = sum((square.to(device) for square in squares), torch.zeros((), device=device))
            if self.group is not None:
                all_reduce(total, group=self.group)
            size = total.sqrt() + 1e-12
            for weight, scale in zip(moved, scales, strict=True):
                weight.add_(scale**2 * weight.grad * (self.rho / size.to(weight.device)))
        loss = closure()
        for weight, start in zip(moved, before, strict=True):
            weight.copy_(start)
        self.base.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """That of the base."""
        return self.base.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Into the base."""
        self.base.load_state_dict(dict(state_dict))
        self.param_groups = self.base.param_groups
