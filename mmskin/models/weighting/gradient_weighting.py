"""What the methods that combine the tasks' gradients, in place of their losses, have in common."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn

from mmskin.models.weighting.weighting import Weighting, mean_over_processes

__all__ = ['GradientWeighting']

Gradients = Sequence[Tensor | None]  # one per parameter, None where the loss does not reach


class GradientWeighting(Weighting):
    """Gives the shared parameters the gradient sum_i w_i g_i, where w comes from the products g_i . g_j.

    g_i is task i's gradient with respect to all shared parameters, as one vector. A parameter is shared if the losses
    of two tasks or more that have labels reach it: with feature passing that includes what lies before a passing block
    in the branches. Any other parameter gets its own task's gradient as it is.

    It happens as the backward pass of the loss, so that all around it stays as it is: the scaling of a float16 loss,
    gradient accumulation (each batch by itself), averaging over processes, clipping, the optimiser. Each task costs a
    backward pass of its own. With several processes w comes from the averaged gradients. Tasks without a label in the
    batch take no part, and one task alone has weight 1. A loss of no task, such as an operator's penalty, is added to
    the result and has its own gradient.
    """

    def combine(self, losses: Mapping[str, Tensor], present: Tensor, network: nn.Module) -> tuple[Tensor, Tensor]:
        values = self.vector(losses)
        weights = torch.ones_like(values).detach()
        if not (self.training and values.requires_grad):
            return values.sum(), weights
        parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        gradients = partial(self._gradients, losses=losses, present=present, parameters=parameters, weights=weights)
        return _WithGradients.apply(values.detach().sum(), gradients, *parameters), weights

    def _gradients(
        self,
        scale: Tensor,
        losses: Mapping[str, Tensor],
        present: Tensor,
        parameters: Sequence[Tensor],
        weights: Tensor,
    ) -> Gradients:
        """The gradients of the parameters, times ``scale``; fills in ``weights`` (T,) in time for the log."""
        tasks = [task for task in self.tasks if task in losses]
        table = [_gradient(losses[task], parameters, scale) for task in tasks]
        _, present = mean_over_processes(torch.zeros_like(weights), present)
        present = present[self.active]
        columns = list(zip(*table, strict=True))
        shared = _shared(columns, present.tolist())
        result = [None if is_shared else _total(column) for column, is_shared in zip(columns, shared, strict=True)]
        if not any(shared):
            return result
        rows = torch.stack([_one_vector(gradients, parameters, shared) for gradients in table])  # (K, P)
        all_reduce(rows, op='mean')
        weights[self.active] = self._of_rows(rows / scale, present)
        return _put_in(weights[self.active] @ rows, result, parameters, shared)

    def _of_rows(self, rows: Tensor, present: Tensor) -> Tensor:
        """The weights (K,) of the gradients (K, P), zero for tasks that are not ``present`` (K,)."""
        weights = present.to(rows)
        gramian = rows[present] @ rows[present].T
        size = gramian.trace()
        if present.sum() > 1 and size > 0 and size.isfinite():  # not finite: the scale was too large, no step follows
            gramian = (gramian / size).double().cpu()  # TorchJD takes small gradients for zero
            weights[present] = self.weigh(gramian).to(rows)
        return weights

    def weigh(self, gramian: Tensor) -> Tensor:
        """The weights (K,) by the products of the gradients (K, K), float64 with a trace of 1."""
        raise NotImplementedError(f'{type(self).__name__} does not say how it weighs')


class _WithGradients(torch.autograd.Function):
    """A value with gradients that a function gives, from the gradient of the value."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: Callable[[Tensor], Gradients], *parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple:
        gradients, ctx.gradients = ctx.gradients, None  # the log keeps the value, but need not keep the maps
        return None, None, *gradients(scale)


def _gradient(loss: Tensor, parameters: Sequence[Tensor], scale: Tensor) -> Gradients:
    if not loss.requires_grad:
        return [None] * len(parameters)
    # the graph stays for the other tasks, and for a loss of none, such as an operator's penalty
    return torch.autograd.grad(loss, parameters, scale, retain_graph=True, allow_unused=True)


def _shared(columns: Sequence[Gradients], present: Sequence[bool]) -> list[bool]:
    """Which parameters more than one of the tasks that are ``present`` reach; a column has each task's gradient."""
    reached = ([here and one is not None for one, here in zip(column, present, strict=True)] for column in columns)
    return [sum(tasks) > 1 for tasks in reached]


def _total(gradients: Gradients) -> Tensor | None:
    """The sum of the tasks' gradients, if there is any."""
    found = [gradient for gradient in gradients if gradient is not None]
    return torch.stack(found).sum(dim=0) if found else None


def _one_vector(gradients: Gradients, parameters: Sequence[Tensor], shared: Sequence[bool]) -> Tensor:
    """The gradients of the shared parameters (P,)."""
    rows = zip(gradients, parameters, shared, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p, is_shared in rows if is_shared])


def _put_in(
    vector: Tensor, gradients: Sequence[Tensor | None], parameters: Sequence[Tensor], shared: Sequence[bool]
) -> Gradients:
    """The ``gradients`` with those of the shared parameters taken from the ``vector`` (P,)."""
    sizes = [parameter.numel() for parameter, is_shared in zip(parameters, shared, strict=True) if is_shared]
    parts = iter(vector.split(sizes))
    pairs = zip(gradients, parameters, shared, strict=True)
    return [next(parts).view(parameter.shape) if is_shared else own for own, parameter, is_shared in pairs]
