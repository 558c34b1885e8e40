"""Methods that look at the tasks' gradients."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, ClassVar

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn

from mmskin.errors import Mistake, needs
from mmskin.models.weighting.weighting import StepSeed, Weighting, mean_over_processes
from mmskin.registry import MODELS


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
        alpha: Strength of the pull to a common rate: higher for tasks that differ more. 0 makes all norms equal.
        lr: Rate of w.
        layer: Path of a module of the network; W is the last of the parameters below it that is trained and has two
            dimensions or more.
        options: See ``Weighting``.
    """

    task_weights: Tensor
    initial: Tensor

    def __init__(
        self, *args: Any, alpha: float = 1.5, lr: float = 0.025, layer: str = 'backbone.shared', **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self.alpha, self.lr, self.layer = alpha, lr, layer
        self.register_buffer('task_weights', torch.ones(len(self.tasks)))
        self.register_buffer('initial', torch.full((len(self.tasks),), torch.nan))  # the losses at the start

    def combine(self, losses: Mapping[str, Tensor], present: Tensor, network: nn.Module) -> tuple[Tensor, Tensor]:
        values, weights = self.vector(losses), self.task_weights.clone()
        total = (weights * values).sum()
        if self.training and total.requires_grad:
            below = [parameter for name, parameter in network.named_parameters() if name.startswith(f'{self.layer}.')]
            trained = [parameter for parameter in below if parameter.requires_grad and parameter.ndim > 1]
            if not trained:
                raise Mistake(
                    f"GradNorm compares the tasks' gradients at the last weights of {self.layer!r}, and none there are "
                    'trained; name a module that all tasks share in weighting.layer'
                )
            total.register_hook(
                partial(self._look, losses=losses, values=values.detach(), present=present, layer=trained[-1])
            )
        return total, weights

    def _look(
        self, scale: Tensor, losses: Mapping[str, Tensor], values: Tensor, present: Tensor, layer: Tensor
    ) -> None:
        """Take the gradients' norms as backward begins, with its ``scale``, by which float16 gets along."""
        gradients: list[Tensor] = []
        for loss in map(losses.get, self.tasks):
            gradient = None
            if loss is not None and loss.requires_grad:
                gradient = torch.autograd.grad(loss, layer, scale, retain_graph=True, allow_unused=True)[0]
            gradients.append(torch.zeros_like(layer) if gradient is None else gradient)
        by_task = torch.stack(gradients)  # (T, ...)
        all_reduce(by_task, op='mean')
        norms = by_task.flatten(1).norm(dim=1) / scale
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

    Attributes:
        torchjd: The class of ``torchjd.aggregation`` that gives w, unless a subclass has another ``weigh``.
        settings: Its arguments.
    """

    torchjd: ClassVar[str] = ''
    settings: Mapping[str, float] = {}

    @cached_property
    def method(self) -> Callable[[Tensor], Tensor]:
        """From the products of the gradients (K, K) to weights (K,), by TorchJD, which has to be installed."""
        return getattr(needs('torchjd.aggregation', 'torchjd'), self.torchjd)(**self.settings)

    def train(self, mode: bool = True) -> 'GradientWeighting':
        """Switch to training, which needs TorchJD, as tests do not: better now than at the end of the first step."""
        if mode and self.torchjd:
            _ = self.method
        super().train(mode)
        return self

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
        _, present = mean_over_processes(torch.zeros_like(weights), present)
        present = present[self.active]
        table: list[Gradients] = []
        for task in (task for task in self.tasks if task in losses):
            if losses[task].requires_grad:
                # the graph stays for the other tasks, and for a loss of none, such as an operator's penalty
                table.append(torch.autograd.grad(losses[task], parameters, scale, retain_graph=True, allow_unused=True))
            else:
                table.append([None] * len(parameters))

        result: list[Tensor | None] = []
        shared: list[int] = []  # indices of the parameters that two tasks or more reach
        for index, column in enumerate(zip(*table, strict=True)):
            reached = [gradient for gradient in column if gradient is not None]
            tasks = [task for task, gradient in zip(present.tolist(), column, strict=True) if gradient is not None]
            if sum(tasks) > 1:
                shared.append(index)
            result.append(torch.stack(reached).sum(dim=0) if reached and sum(tasks) < 2 else None)
        if not shared:
            return result

        rows = []
        for gradients in table:
            pairs = [(gradients[index], parameters[index]) for index in shared]
            rows.append(torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs]))
        matrix = torch.stack(rows)  # (K, P)
        all_reduce(matrix, op='mean')
        unscaled, weighed = matrix / scale, present.to(matrix)
        gramian = unscaled[present] @ unscaled[present].T
        size = gramian.trace()
        if present.sum() > 1 and size > 0 and size.isfinite():  # not finite: the scale was too large, no step follows
            gramian = (gramian / size).double().cpu()  # TorchJD takes small gradients for zero
            weighed[present] = self.weigh(gramian).to(matrix)
        weights[self.active] = weighed
        sizes = [parameters[index].numel() for index in shared]
        for index, part in zip(shared, (weights[self.active] @ matrix).split(sizes), strict=True):
            result[index] = part.view(parameters[index].shape)
        return result

    def weigh(self, gramian: Tensor) -> Tensor:
        """The weights (K,) by the products of the gradients (K, K), float64 with a trace of 1.

        By default those of a ``method`` that averages, for the sum.
        """
        return len(gramian) * self.method(gramian)


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


@MODELS.register_module()
class PCGrad(GradientWeighting):
    """The sum of the gradients, each without the part that conflicts with another's.

    Yu et al., https://arxiv.org/abs/2001.06782, algorithm 1: g_i loses (g_i . g_j) / |g_j|^2 g_j where that product is
    negative, for all other tasks j in random order, which matters from three tasks on. By TorchJD's PCGradWeighting.
    Training needs ``pip install '.[torchjd]'``.
    """

    torchjd = 'PCGradWeighting'

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.random = StepSeed()

    def weigh(self, gramian: Tensor) -> Tensor:
        seed = int(self.random().integers(2**62))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # not torch.manual_seed, which would seed the GPUs as well
            return self.method(gramian)


@MODELS.register_module()
class CAGrad(GradientWeighting):
    """The step near the average gradient that the task which gains least from it gains most from.

    Liu et al., https://arxiv.org/abs/2110.14048, algorithm 1: d = g_0 + c |g_0| g_w / |g_w|, with g_0 the average of
    the gradients, g_w = sum_i w_i g_i and w on the simplex at the minimum of g_w . g_0 + c |g_0| |g_w|. By
    TorchJD's CAGradWeighting. d is multiplied by the number of tasks, as in the authors' code, so that it is to the
    sum of the losses what the paper's is to their average. Training needs ``pip install '.[torchjd]'``.

    Args:
        c: How far d may be from g_0, in [0, 1): with 0 it is g_0. LibMTL has 0.5.
        options: See ``Weighting``.
    """

    torchjd = 'CAGradWeighting'

    def __init__(self, *args: Any, c: float = 0.5, **options: Any) -> None:
        super().__init__(*args, **options)
        if not 0 <= c < 1:
            raise Mistake(f'c is {c}; it has to be at least 0 and less than 1')
        self.settings = dict(c=c)


@MODELS.register_module()
class UPGrad(GradientWeighting):
    """The sum of the gradients, each projected onto the directions that conflict with none of them.

    Quinton and Rey, https://arxiv.org/abs/2406.16232: these directions d, the dual cone of the gradients, have
    d . g_j >= 0 for all j. By TorchJD's UPGradWeighting, which averages; the sum is ours, to fit the sum of the
    losses. Training needs ``pip install '.[torchjd]'``.
    """

    torchjd = 'UPGradWeighting'
