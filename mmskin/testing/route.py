"""The contracts of what a gated route is made of: gates, messages and ops."""

from itertools import product

import torch
from torch import Tensor

from mmskin.registry import MODELS
from mmskin.testing.contract import SIZES, LayerContract, random, randomised


class GateContract(LayerContract):
    """A gate turns a map into rates in [0, 1] that a message of ``out_channels`` can be multiplied with."""

    given = dict(in_channels=5, out_channels=7)

    def test_rates_fit_the_message(self) -> None:
        """They have four axes, each of the message's length or 1, for maps of any size, in training and after."""
        for size, count, training in product(SIZES, (1, 3), (True, False)):
            rates, shape = self.build().train(training)(random(count, 5, *size)), (count, 7, *size)
            given = tuple(rates.shape)
            assert rates.ndim == 4, f'rates have the shape {given}; a gate gives (N, C, H, W), C, H, W or 1'
            assert torch.broadcast_shapes(rates.shape, shape) == shape, f'{given} does not fit {shape}'
            assert rates.min() >= 0, 'a rate is negative'
            assert rates.max() <= 1, 'a rate is above 1'

    def test_in_an_operator(self) -> None:
        """It reads the source, the target or both, whose maps differ in width and size."""
        inputs, outputs = (
            {'a': random(2, width, 5, 9), 'b': random(2, width + 1, 9, 17), 'c': random(2, width, 1, 1)}
            for width in (3, 5)
        )
        widths = dict(in_channels=dict(a=3, b=4, c=3), out_channels=dict(a=5, b=6, c=5))
        for reads in ('source', 'target', 'both'):
            operator = MODELS.build(dict(type='GatedFeaturePassing', gate=self.cfg, gate_reads=reads, **widths))
            new = randomised(operator)(inputs, outputs)
            assert all(new[task].shape == outputs[task].shape for task in outputs)
            assert not any(torch.equal(new[task], outputs[task]) for task in outputs)


class MessageContract(LayerContract):
    """A message turns a map into one of ``out_channels`` at the same size."""

    given = dict(in_channels=5, out_channels=7)

    def test_shape(self) -> None:
        """For maps of any size and batches of one."""
        for size, count in product(SIZES, (1, 3)):
            assert self.build()(random(count, 5, *size)).shape == torch.Size((count, 7, *size))


class OpContract(LayerContract):
    """An op joins a feature and a message of the same shape, and starts from the feature alone unless told not to."""

    given = dict(channels=6)

    def maps(self, count: int = 2, size: tuple[int, int] = (5, 9)) -> tuple[Tensor, ...]:
        """A feature and a message."""
        return random(count, 6, *size, seed=2), random(count, 6, *size, seed=3)

    def test_shape(self) -> None:
        """For maps of any size and batches of one."""
        for size, count in product(SIZES, (1, 3)):
            assert randomised(self.build())(*self.maps(count, size)).shape == (count, 6, *size)

    def test_starts_as_identity(self) -> None:
        """By default."""
        feature, message = self.maps()
        assert torch.equal(self.build()(feature, message), feature)
        assert torch.equal(self.build(identity_init=True)(feature, message), feature)

    def test_passes_at_once_without_identity(self) -> None:
        """What it then gives is up to the plugin's own tests."""
        feature, message = self.maps()
        assert not torch.allclose(self.build(identity_init=False)(feature, message), feature)
