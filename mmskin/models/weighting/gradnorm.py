"""Gradient normalisation."""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn

from mmskin.errors import Mistake
from mmskin.models.weighting.weighting import Weighting, mean_over_processes
from mmskin.registry import MODELS

__all__ = ['GradNorm']


@MODELS.register_module()
class GradNorm(Weighting):
    """Weights that bring the norms of the tasks' gradients to where the tasks train at similar rates.

    Chen et al., https://arxiv.org/abs/1711.02257, eq. 1 and 2, algorithm 1. W is the last shared layer of weights,
    G_i = |grad_W w_i L_i|, G their mean, r_i the relative inverse training rate, (L_i / L_i(0)) over its mean. After
    each step w goes down the gradient of sum_i |G_i - G r_i^alpha|, in which G and r are constants, and is scaled to
    a sum of K, the number of tasks. As G_i = w_i |grad_W L_i|, that gradient is
    sign(G_i - G r_i^alpha) |grad_W L_i|: the network need not be differentiated twice.

    Ours: w takes plain steps of its own, apart from the network's optimiser; it stays above `FLOOR`; L_i(0) is the
    first batch's; tasks without a label in the batch take no part; several processes average losses and
    gradients. With gradient accumulation w moves at every batch.

    Args:
        tasks: See ``Weighting``.
        active_tasks: See ``Weighting``.
        alpha: Strength of the pull to a common rate: higher for tasks that differ more. 0 makes all norms equal.
        lr: Rate of w.
        layer: Path of a module of the network; W is the last of the parameters below it that is trained and has two
            dimensions or more.
    """

    task_weights: Tensor
    initial: Tensor

    def __init__(
        self,
        tasks: Sequence[str],
        active_tasks: Sequence[str],
        alpha: float = 1.5,
        lr: float = 0.025,
        layer: str = 'backbone.shared',
    ) -> None:
        super().__init__(tasks, active_tasks)
        self.alpha = alpha
        self.lr = lr
        self.layer = layer
        self.register_buffer('task_weights', torch.ones(len(tasks)))
        self.register_buffer('initial', torch.full((len(tasks),), torch.nan))  # the losses at the start

    def combine(self, losses: Mapping[str, Tensor], present: Tensor, network: nn.Module) -> tuple[Tensor, Tensor]:
        values, weights = self.vector(losses), self.task_weights.clone()
        total = (weights * values).sum()
        if self.training and total.requires_grad:
            layer = self._weight(network)
            total.register_hook(
                partial(self._look, losses=losses, values=values.detach(), present=present, layer=layer)
            )
        return total, weights

    def _weight(self, network: nn.Module) -> Tensor:
        below = [parameter for name, parameter in network.named_parameters() if name.startswith(f'{self.layer}.')]
        weights = [parameter for parameter in below if parameter.requires_grad and parameter.ndim > 1]
        if not weights:
            raise Mistake(
                f"GradNorm compares the tasks' gradients at the last weights of {self.layer!r}, and none there are "
                'trained; name a module that all tasks share in weighting.layer'
            )
        return weights[-1]

    def _look(
        self, scale: Tensor, losses: Mapping[str, Tensor], values: Tensor, present: Tensor, layer: Tensor
    ) -> None:
        """Take the gradients' norms as backward begins, with its ``scale``, by which float16 gets along."""
        gradients = torch.stack([_gradient(losses.get(task), layer, scale) for task in self.tasks])  # (T, ...)
        all_reduce(gradients, op='mean')
        norms = gradients.flatten(1).norm(dim=1) / scale
        if norms.isfinite().all():  # or else the scale was too large, and there will be no step
            self.adapt(*mean_over_processes(values, present), norms)

    @torch.no_grad()
    def adapt(self, values: Tensor, present: Tensor, norms: Tensor) -> None:
        """Move the weights by a step's losses ``values`` (T,) and the ``norms`` (T,) of their gradients at W."""
        self.initial.copy_(torch.where(present & self.initial.isnan(), values, self.initial))
        if present.sum() < 2:
            return
        weighted = self.task_weights * norms
        progress = values / self.initial.clamp(min=FLOOR)
        rates = progress / progress[present].mean()
        slope = torch.sign(weighted - weighted[present].mean() * rates**self.alpha) * norms
        moved = (self.task_weights - self.lr * slope).clamp(min=FLOOR)
        moved = torch.where(present, moved, self.task_weights)
        self.task_weights.copy_(torch.where(self.active, moved * self.active.sum() / moved[self.active].sum(), moved))


FLOOR = 1e-3  # of weights, which must not become negative, and of the losses that are divided by


def _gradient(loss: Tensor | None, layer: Tensor, scale: Tensor) -> Tensor:
    if loss is None or not loss.requires_grad:
        return torch.zeros_like(layer)
    gradient = torch.autograd.grad(loss, layer, scale, retain_graph=True, allow_unused=True)[0]
    return torch.zeros_like(layer) if gradient is None else gradient
