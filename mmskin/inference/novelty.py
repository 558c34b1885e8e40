"""How unlike the training images an image is: a distance of features, with a threshold set on images left out of it.

A network names a disease for anything. The features of its first, shared blocks tell other images from dermoscopic
ones: their means and spreads over the image, whose distance from the training images' is measured as Mahalanobis's
(https://arxiv.org/abs/1807.03888), here without classes.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from mmskin.errors import Mistake, in_one_line
from mmskin.files import write_whole
from mmskin.models.multitask import MultiTaskModel
from mmskin.models.weights import HASH, hash_tensors, read_metadata, read_weights

NOVELTY_FILE = 'novelty.safetensors'  # next to the weights, in a model folder
FORMAT_VERSION = '1'
FOLDS = 5


@dataclass(frozen=True)
class Novelty:
    """What the features of training images are like.

    Attributes:
        mean: Of the features (D,).
        whitening: (D, D): features less their mean, times this, have variance 1 in each direction.
        threshold: Of the distance: that of the training images, each left out of what it is compared with, below
            which ``share`` of them are.
        share: From 0 to 1.
        num_images: How many training images there were.
        network: The hash of the network's weights; another network's features are others.
    """

    mean: Tensor
    whitening: Tensor
    threshold: float
    share: float
    num_images: int
    network: str

    def of(self, features: Tensor) -> Tensor:
        """The novelty (N,) of images with ``features`` (N, D): 1 at the threshold, more beyond it."""
        return distances(features.double().cpu(), self.mean.double(), self.whitening.double()) / self.threshold

    @classmethod
    def fit(cls, features: Tensor, network: str, share: float = 0.98) -> 'Novelty':
        """From the features (N, D) of training images.

        Args:
            features: Of N images, more than there are features.
            network: The hash of the weights.
            share: How many of the training images, each left out of what it is compared with, shall pass.
        """
        features = features.double().cpu()
        if len(features) <= features.shape[1]:
            raise Mistake(f'{len(features)} training images for {features.shape[1]} features; give more images')
        apart = torch.empty(len(features), dtype=torch.float64)
        for fold in range(FOLDS):
            out = torch.arange(len(features)) % FOLDS == fold
            apart[out] = distances(features[out], *moments(features[~out]))
        mean, whitening = moments(features)
        return cls(mean.float(), whitening.float(), float(apart.quantile(share)), share, len(features), network)

    @classmethod
    def read(cls, path: str | Path, network: str) -> 'Novelty':
        """What ``write`` wrote.

        Raises:
            Mistake: if the file is damaged, or was made for other weights than those with the hash ``network``.
        """
        metadata = read_metadata(path)
        if metadata.get('format_version') != FORMAT_VERSION or metadata.get('network') != network:
            raise Mistake(
                f'{path}: was not made for these weights; make it again by tools/fit_novelty.py, or remove it'
            )
        tensors = read_weights(path)  # which have their hash
        try:
            values = json.loads(metadata['values'])
            return cls(tensors['mean'].float(), tensors['whitening'].float(), **values, network=network)
        except (KeyError, TypeError, ValueError) as error:
            raise Mistake(f'{path}: damaged ({in_one_line(error)}); copy it again, or remove it') from error

    def write(self, path: str | Path) -> None:
        """Write it; whitening in half precision, in which distances change by less than a thousandth."""
        tensors = {'mean': self.mean, 'whitening': self.whitening.half().contiguous()}
        values = {'threshold': self.threshold, 'share': self.share, 'num_images': self.num_images}
        metadata = {'format_version': FORMAT_VERSION, 'network': self.network, 'values': json.dumps(values)}
        write_whole(Path(path), save(tensors, metadata={**metadata, HASH: hash_tensors(tensors)}))


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and whitening of ``features`` (N, D), whose covariance is shrunk as Ledoit and Wolf do."""
    from sklearn.covariance import ledoit_wolf

    mean, spread = features.mean(dim=0), features.std(dim=0).clamp(min=1e-6)
    covariance = torch.from_numpy(ledoit_wolf(((features - mean) / spread).numpy(), assume_centered=True)[0])
    values, vectors = torch.linalg.eigh(covariance)
    return mean, (vectors / values.clamp(min=1e-6).sqrt()) / spread[:, None]


def distances(features: Tensor, mean: Tensor, whitening: Tensor) -> Tensor:
    """Mahalanobis distances (N,), over the root of the number of features: about 1 for an image like the others."""
    return ((features - mean) @ whitening).square().mean(dim=1).sqrt()


@torch.inference_mode()
def shared_features(network: MultiTaskModel, inputs: Tensor) -> Tensor:
    """The features (N, D) of normalised images (N, 3, H, W): logarithms of spreads, and means, of shared blocks' maps.

    It runs the shared blocks alone. A block counts if it is the last one of its size.
    """
    if network.compiled and network.compiled.features and inputs.shape[2:] == network.compiled.size:
        return network.compiled.features(inputs)
    blocks = [*network.backbone.shared.items()]
    features: list[Tensor] = []
    x = inputs
    for index, (_, block) in enumerate(blocks):
        before, x = x, block(x)
        if x.shape[2:] != before.shape[2:] and index:
            features.append(before)
    return torch.cat([statistics(maps) for maps in (*features, x)], dim=1)


def statistics(maps: Tensor) -> Tensor:
    """Means and logarithms of the standard deviations over the positions of maps (N, C, h, w): (N, 2 C)."""
    flat = maps.flatten(2).float()
    mean = flat.mean(dim=2)
    spread = torch.linalg.vector_norm(flat - mean[..., None], dim=2) / (flat.shape[2] - 1) ** 0.5  # faster than std
    return torch.cat([mean, (spread + 1e-3).log()], dim=1)
