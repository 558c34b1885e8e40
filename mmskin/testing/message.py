"""The contract of messages."""

import torch

from mmskin.testing.contract import SIZES, Contract, close, close_in_bf16, random, randomised, reached

__all__ = ['MessageContract']


class MessageContract(Contract):
    """A message turns a map into one of ``out_channels`` at the same size."""

    given = dict(in_channels=5, out_channels=7)

    def test_shape(self) -> None:
        """For maps of any size and batches of one."""
        for size in SIZES:
            for count in (1, 3):
                assert self.build()(random(count, 5, *size)).shape == torch.Size((count, 7, *size))

    def test_an_image_does_not_depend_on_its_batch(self) -> None:
        """In evaluation."""
        message, x = randomised(self.build()).eval(), random(3, 5, 5, 9)
        assert close(message(x)[:1], message(x[:1]))

    def test_gradient_reaches_all(self) -> None:
        """What is read, and every parameter, as distributed training demands."""
        message, x = randomised(self.build()), random(2, 5, 5, 9).requires_grad_()
        message(x).square().sum().backward()
        tensors = dict(message.named_parameters(), x=x)
        assert reached(tensors) == {*tensors}

    def test_bf16(self) -> None:
        """Mixed precision gives what single precision gives."""
        assert close_in_bf16(randomised(self.build(), std=0.2).eval(), random(2, 5, 5, 9))
