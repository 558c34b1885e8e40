"""The contract of heads."""

import torch

from mmskin.testing.contract import SIZES, Contract, close, close_in_bf16, random, reached

__all__ = ['HeadContract']


class HeadContract(Contract):
    """A head gives logits of an image (N, classes), or of pixels (N, channels, H, W), from the last of several maps."""

    given = dict(in_channels=6)

    def dims(self) -> int:
        """Dimensions of its logits: 2 or 4."""
        return self.build().eval()((torch.zeros(2, 6, 5, 5),)).ndim

    def test_logits(self) -> None:
        """For maps of any size and batches of one; pixels' are as large as the map."""
        head, dims = self.build().eval(), self.dims()
        assert dims in (2, 4)
        for size in SIZES:
            for count in (1, 3):
                last = random(count, 6, *size)
                logits = head((random(count, 2, 8, 8), last))
                assert (logits.shape[0], logits.ndim) == (count, dims)
                assert dims == 2 or logits.shape[2:] == size
                assert close(head([last]), logits), 'it reads another map than the last'

    def test_an_image_does_not_depend_on_its_batch(self) -> None:
        """In evaluation."""
        head, last = self.build().eval(), random(3, 6, 5, 9)
        assert close(head((last,))[:1], head((last[:1],)))

    def test_gradient_reaches_all(self) -> None:
        """The map and every parameter."""
        head, feature = self.build(), random(2, 6, 5, 9).requires_grad_()
        head((feature,)).square().sum().backward()
        tensors = dict(head.named_parameters(), feature=feature)
        assert reached(tensors) == {*tensors}

    def test_trains_on_one_image(self) -> None:
        """Whose logits and gradients are finite."""
        for size in SIZES:
            head = self.build().train()
            logits = head((random(1, 6, *size),))
            logits.square().sum().backward()
            gradients = [p.grad for p in head.parameters() if p.grad is not None]
            assert all(tensor.isfinite().all() for tensor in (logits, *gradients))

    def test_bf16(self) -> None:
        """Mixed precision gives what single precision gives."""
        assert close_in_bf16(self.build().eval(), (random(2, 6, 5, 9),))
