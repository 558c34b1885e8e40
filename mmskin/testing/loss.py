"""The contract of losses."""

import torch
from torch import Tensor, nn

from mmskin.testing.contract import SIZES, Contract, close_in_bf16, random, reached

__all__ = ['LossContract', 'loss_batch']


def loss_batch(dims: int, count: int = 2, size: tuple[int, int] = (5, 9)) -> tuple[Tensor, Tensor]:
    """Logits of 2 dimensions, classes, or of 4, pixels, and the target that a task hands to a loss with them."""
    if dims == 2:
        return random(count, 3), torch.arange(count) % 3
    return random(count, 1, *size), torch.ones(count, 1, *size).triu()


class LossContract(Contract):
    """A loss compares logits of classes with labels, or logits of pixels with masks, and gives one number."""

    def dims(self) -> int:
        """Dimensions of the logits that the loss is for: the first that it takes."""
        for dims in (2, 4):
            try:
                self.build()(*loss_batch(dims))
            except (ValueError, RuntimeError, IndexError):
                continue
            return dims
        raise AssertionError(f'{self.cfg} takes neither logits of classes nor of pixels')

    def test_one_number(self) -> None:
        """Finite and not negative, for masks of any size and batches of one."""
        for size in SIZES:
            for count in (1, 3):
                loss = self.build()(*loss_batch(self.dims(), count, size))
                assert loss.shape == ()
                assert loss.isfinite()
                assert loss >= 0

    def test_right_costs_less_than_wrong(self) -> None:
        """And to be sure of what is right costs hardly anything."""
        logits, target = loss_batch(self.dims())
        right = nn.functional.one_hot(target, 3) * 2.0 - 1 if logits.ndim == 2 else target * 2 - 1
        costs = [float(self.build()(right * certainty, target)) for certainty in (20, 1, 0, -1, -20)]
        assert costs == sorted(costs)
        assert costs[0] < 0.1 < costs[-1]

    def test_gradient_points_to_the_target(self) -> None:
        """In every image."""
        logits, target = loss_batch(self.dims())
        logits.requires_grad_()
        self.build()(logits, target).backward()
        gradient = logits.grad
        assert gradient is not None
        on_target = nn.functional.one_hot(target, 3) if logits.ndim == 2 else target
        assert (gradient[on_target == 1] <= 0).all()
        assert (gradient[on_target == 0] >= 0).all()
        assert gradient.flatten(1).any(dim=1).all(), 'an image without gradient'

    def test_gradient_reaches_all(self) -> None:
        """Every parameter of its own, if it has any."""
        loss, (logits, target) = self.build(), loss_batch(self.dims())
        loss(logits.requires_grad_(), target).backward()
        own = dict(loss.named_parameters())
        assert reached(own) == {*own}

    def test_extremes_are_finite(self) -> None:
        """Sure and wrong, or sure and right, with one class alone in the target."""
        for logit in (-1e4, 1e4):
            for value in (0, 1):
                logits, target = loss_batch(self.dims())
                logits = torch.full_like(logits, logit, requires_grad=True)
                loss = self.build()(logits, torch.full_like(target, value))
                loss.backward()
                assert loss.isfinite()
                assert logits.grad is not None
                assert logits.grad.isfinite().all()

    def test_empty_batch(self) -> None:
        """A loss of 0 whose gradient is finite, since a mean over nothing is nan and spoils all weights."""
        logits, target = loss_batch(self.dims())
        loss = self.build()(logits[:0].requires_grad_(), target[:0])
        assert loss == 0
        assert loss.requires_grad

    def test_bf16(self) -> None:
        """Mixed precision gives what single precision gives."""
        logits, target = loss_batch(self.dims(), size=(33, 41))
        assert close_in_bf16(self.build(), logits.bfloat16(), target)
