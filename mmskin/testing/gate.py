"""The contract of gates."""

import torch
from torch import Tensor

from mmskin.registry import MODELS
from mmskin.testing.contract import SIZES, Contract, close, close_in_bf16, random, randomised, reached

__all__ = ['GateContract']


class GateContract(Contract):
    """A gate turns a map into rates in [0, 1] that a message of ``out_channels`` can be multiplied with."""

    given = dict(in_channels=5, out_channels=7)

    def test_rates_fit_the_message(self) -> None:
        """For maps of any size and batches of one, in training and after."""
        for size in SIZES:
            for x in (random(count, 5, *size) for count in (1, 3)):
                for gate in (self.build(), self.build().eval()):
                    self.check_rates(gate(x), (len(x), 7, *size))

    def check_rates(self, rates: Tensor, shape: tuple[int, ...]) -> None:
        """Four axes, each of the message's length or 1, and values in [0, 1]."""
        assert rates.ndim == 4, f'rates have the shape {tuple(rates.shape)}; a gate gives (N, C, H, W), C, H, W or 1'
        assert torch.broadcast_shapes(rates.shape, shape) == shape, f'{tuple(rates.shape)} does not fit {shape}'
        assert rates.min() >= 0, 'a rate is negative'
        assert rates.max() <= 1, 'a rate is above 1'

    def test_gradient_reaches_all(self) -> None:
        """What is read, and every parameter, as distributed training demands."""
        gate, x = randomised(self.build()), random(2, 5, 5, 9).requires_grad_()
        (self.message() * gate(x)).square().sum().backward()
        tensors = dict(gate.named_parameters(), x=x)
        assert reached(tensors) == {*tensors}

    @staticmethod
    def message() -> Tensor:
        """What is rated."""
        return random(2, 7, 5, 9, seed=3)

    def test_an_image_does_not_depend_on_its_batch(self) -> None:
        """In evaluation."""
        gate, x = randomised(self.build()).eval(), random(3, 5, 5, 9)
        assert close(gate(x)[:1], gate(x[:1]))

    def test_bf16(self) -> None:
        """Mixed precision gives what single precision gives."""
        assert close_in_bf16(randomised(self.build(), std=0.2).eval(), random(2, 5, 5, 9))

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
