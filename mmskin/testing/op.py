"""The contract of what joins a message to a feature."""

import torch

from mmskin.testing.contract import SIZES, Contract, close, close_in_bf16, random, randomised, reached

__all__ = ['OpContract']


class OpContract(Contract):
    """An op joins a feature and a message of the same shape, and starts from the feature alone unless told not to."""

    given = dict(channels=6)

    def test_shape(self) -> None:
        """For maps of any size and batches of one."""
        for size in SIZES:
            for count in (1, 3):
                feature, message = random(2, count, 6, *size)
                assert randomised(self.build())(feature, message).shape == feature.shape

    def test_starts_as_identity(self) -> None:
        """By default."""
        feature, message = random(2, 2, 6, 5, 9)
        assert torch.equal(self.build()(feature, message), feature)
        assert torch.equal(self.build(identity_init=True)(feature, message), feature)

    def test_passes_at_once_without_identity(self) -> None:
        """What it then gives is up to the plugin's own tests."""
        feature, message = random(2, 2, 6, 5, 9)
        assert not torch.allclose(self.build(identity_init=False)(feature, message), feature)

    def test_an_image_does_not_depend_on_its_batch(self) -> None:
        """In evaluation."""
        op, (feature, message) = randomised(self.build()).eval(), random(2, 3, 6, 5, 9)
        assert close(op(feature, message)[:1], op(feature[:1], message[:1]))

    def test_gradient_reaches_all(self) -> None:
        """Feature, message, and every parameter."""
        op, feature, message = randomised(self.build()), *(random(2, 6, 5, 9, seed=seed) for seed in (2, 3))
        tensors = dict(op.named_parameters(), feature=feature.requires_grad_(), message=message.requires_grad_())
        op(feature, message).square().sum().backward()
        assert reached(tensors) == {*tensors}

    def test_bf16(self) -> None:
        """Mixed precision gives what single precision gives."""
        assert close_in_bf16(randomised(self.build(), std=0.2), *random(2, 2, 6, 5, 9))
