"""Features of images by any network, a batch at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mmskin.datasets.transforms.loading import LoadImage
from mmskin.datasets.transforms.resize import ResizeImage
from mmskin.errors import Mistake

__all__ = ['ImageFiles', 'pooled_features']


class ImageFiles(Dataset):
    """Images by their files: (index, uint8 RGB tensor (3, size, size)), or (index, None) where one cannot be read."""

    def __init__(self, paths: Sequence[Path], size: int) -> None:
        self.paths = paths
        self.steps = (LoadImage(size), ResizeImage())

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[int, Tensor | None]:
        results: dict[str, Any] = {'img_path': str(self.paths[index])}
        try:
            for step in self.steps:
                results = step.transform(results)
        except (ValueError, FileNotFoundError, cv2.error):
            return index, None
        return index, torch.from_numpy(np.ascontiguousarray(results['img'].transpose(2, 0, 1)))


@dataclass(frozen=True)
class FeatureOptions:
    """How features of images are computed.

    Attributes:
        size: Side of the network's input, in pixels.
        mean: Of red, green and blue, subtracted from the values 0 to 255; ImageNet's by default.
        std: By which they are then divided; likewise.
        batch_size: Images at a time.
        num_workers: Processes that load them.

    Raises:
        Mistake: if a number makes no sense.
    """

    size: int = 224
    mean: Sequence[float] = (123.675, 116.28, 103.53)
    std: Sequence[float] = (58.395, 57.12, 57.375)
    batch_size: int = 32
    num_workers: int = 2

    def __post_init__(self) -> None:
        if min(self.size, self.batch_size) < 1 or self.num_workers < 0:
            given = f'size={self.size}, batch_size={self.batch_size}, num_workers={self.num_workers}'
            raise Mistake(f'{given}: give one or more of the first two, none or more of the last')


def pooled_features(
    network: nn.Module, paths: Sequence[Path], options: FeatureOptions
) -> Iterator[tuple[list[int], np.ndarray]]:
    """The indices of each batch's readable images in ``paths``, and their features (N, C).

    Only one batch is held. What the network gives, or the last of several, is averaged over its pixels if it is a map.

    Args:
        network: from normalised images (N, 3, size, size) to vectors or maps; runs on the GPU if there is one.
        paths: image files.
        options: how.
    """
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    network = network.eval().to(device)
    given = options.mean, options.std
    centre, spread = (torch.tensor(list(values), device=device).view(1, 3, 1, 1) for values in given)
    files = ImageFiles(paths, options.size)
    loader = DataLoader(files, options.batch_size, num_workers=options.num_workers, collate_fn=_readable)
    for indices, images in loader:
        with torch.inference_mode():
            found = network((images.to(device) - centre) / spread) if indices else torch.empty(0, 1)
        yield indices, _pool(found).float().cpu().numpy()


def _readable(batch: list[tuple[int, Tensor | None]]) -> tuple[list[int], Tensor]:
    found = [(index, image) for index, image in batch if image is not None]
    return [index for index, _ in found], torch.stack([image for _, image in found]) if found else torch.empty(0)


def _pool(found: Tensor | Sequence[Tensor]) -> Tensor:
    last = found if isinstance(found, Tensor) else found[-1]
    return last.mean(dim=(2, 3)) if last.ndim == 4 else last
