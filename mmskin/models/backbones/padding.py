"""Images of any size for networks that halve theirs several times."""

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ['Padded']


class Padded(nn.Module):
    """Runs ``network`` on images padded to a multiple of its stride, and crops what it gives to their own size.

    Without it, a map that is halved and doubled again comes back smaller than the image, and shifted against it.

    Args:
        network: Gives maps of its input's size.
        multiple: Its largest stride.
    """

    def __init__(self, network: nn.Module, multiple: int) -> None:
        super().__init__()
        self.network = network
        self.multiple = multiple

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) for images (N, 3, H, W); the padding repeats the image's edge."""
        height, width = x.shape[2:]
        padding = (0, -width % self.multiple, 0, -height % self.multiple)
        return self.network(F.pad(x, padding, mode='replicate'))[..., :height, :width]
