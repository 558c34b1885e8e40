"""Choosing additional training data: the images from elsewhere whose features are nearest to the training set's."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from matplotlib.figure import Figure
from rich.progress import Progress
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mmskin.datasets.duplicates import THRESHOLD, fingerprint, nearest, read_folder
from mmskin.datasets.isic2017 import (
    IMAGE_SUFFIXES,
    MASK_SUFFIX,
    SPLITS,
    SUPERPIXEL_SUFFIX,
    by_id,
    index_images,
    index_masks,
)
from mmskin.datasets.tables import read_labels, write_extra_samples
from mmskin.datasets.transforms.loading import LoadImage, ResizeImage
from mmskin.drawing import save_figure
from mmskin.errors import MissingFile, Mistake
from mmskin.files import write_csv
from mmskin.registry import MODELS


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


def select_data(
    candidates: str | Path,
    data_root: str | Path,
    out_dir: str | Path,
    network: dict,
    threshold: float | None = None,
    count: int | None = None,
    labels: str | Path | None = None,
    masks: str | Path | None = None,
    options: FeatureOptions | None = None,
) -> list[dict]:
    """List the candidates nearest to the training split in ``selected.csv``, for ``ISIC2017Dataset(extra=...)``.

    The paper's method (section 3.1): the mean cosine distance of an image's convolutional features to those of all
    training images. Candidates that have the name of an image of ``data_root``, or show the same as one, are left out.
    The folder also gets ``distances.csv`` with every candidate, and ``histogram.png``. Of a candidate, no more is held
    than its path and distance.

    Args:
        candidates: Folder with images, at any depth.
        data_root: The official-layout folder.
        out_dir: Where the files go.
        network: Config of the feature network, e.g. ``dict(type='VGGChain', weights='torchvision://vgg16')``.
        threshold: Largest distance that is taken.
        count: How many are taken at most.
        labels: A table like Part 3's, with diagnoses of candidates, not necessarily all.
        masks: A folder with masks of candidates, ``<id>_segmentation.png``.
        options: How features are computed.

    Returns:
        The selected samples, the nearest first.

    Raises:
        MissingFile: if a folder or the table is missing.
        Mistake: if there is no candidate, no readable one, or two of the same name; if the table is wrong, an id has
            two masks, or ``count`` is negative.
    """
    if count is not None and count < 0:
        raise Mistake(f'count={count}: give how many are taken at most, or leave it out')
    if labels and not Path(labels).is_file():
        raise MissingFile(f"{labels} is missing; name the table with candidates' diagnoses, or leave labels out")
    if masks and not Path(masks).is_dir():
        raise MissingFile(f"{masks} is not a folder; name the one with candidates' masks, or leave masks out")
    diagnoses = read_labels(Path(labels)) if labels else {}
    mask_files = index_masks(Path(masks)) if masks else {}
    training = sorted(index_images(Path(data_root, f'{SPLITS["train"]}_Data')).values())
    folders = {split: Path(data_root, f'{name}_Data') for split, name in SPLITS.items()}
    known = [image for split, folder in folders.items() if folder.is_dir() for image in read_folder(split, folder)]
    paths = find_candidates(Path(candidates), {image.path.stem for image in known})

    extractor, options = MODELS.build(network), options or FeatureOptions()
    references = np.concatenate([batch for _, batch in features(extractor, training, 'training', options)])
    distances = np.full(len(paths), np.nan)  # of unreadable ones it stays
    for indices, batch in features(extractor, paths, 'candidates', options):
        distances[indices] = mean_cosine_distance(batch, references)
    ranked = rank(paths, distances)

    # An archive holds the challenge's own images too, and a copy of a validation image must not be trained on.
    bank, digests = np.stack([image.detail for image in known]), {image.digest for image in known}
    samples: list[dict] = []
    for path, distance in ranked:
        if len(samples) == count or (threshold is not None and distance > threshold):
            break
        image = fingerprint('candidates', path)
        if image.digest in digests or 1 - float(nearest(image.detail[None], bank).max()) <= THRESHOLD:
            continue
        sample = dict(image_id=path.stem, img_path=str(path.resolve()), distance=round(distance, 6))
        if path.stem in mask_files:
            sample['seg_map_path'] = str(mask_files[path.stem].resolve())
        samples.append({**sample, 'gt_label': diagnoses.get(path.stem)})

    folder = Path(out_dir)
    write_extra_samples(folder / 'selected.csv', samples)
    rows = ((path.stem, f'{distance:.6f}') for path, distance in ranked)
    write_csv(folder / 'distances.csv', [('image_id', 'distance'), *rows])
    groups = {
        'training': mean_cosine_distance(references, references).tolist(),
        'candidates': [distance for _, distance in ranked],
        'selected': [sample['distance'] for sample in samples],
    }
    write_histogram(groups, folder / 'histogram.png')
    return samples


def mean_cosine_distance(features: np.ndarray, references: np.ndarray) -> np.ndarray:
    """The mean over ``references`` (M, C) of each of ``features``' (N, C) cosine distance to them, (N,).

    The distance to one is 1 - u v with u and v of length 1, so the mean over all is 1 - u times the mean of v: each
    image is compared with one vector, however many references there are. Zeros are at distance 1 from everything.
    """
    units = [rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12) for rows in (features, references)]
    return 1 - units[0] @ units[1].mean(axis=0)


def find_candidates(folder: Path, known: set[str]) -> list[Path]:
    """The images below ``folder`` whose names are not among ``known``, sorted by name."""
    paths = (path for path in folder.rglob('*') if path.suffix.lower() in IMAGE_SUFFIXES)
    images = [path for path in paths if not path.name.lower().endswith((MASK_SUFFIX, SUPERPIXEL_SUFFIX))]
    new = by_id(folder, ((path.stem, path) for path in images if path.stem not in known))
    if not new:
        raise Mistake(f'{folder} holds {len(images)} images, none of which is new; name a folder with candidates')
    return [new[name] for name in sorted(new)]


def features(
    network: nn.Module, paths: Sequence[Path], title: str, options: FeatureOptions
) -> Iterator[tuple[list[int], np.ndarray]]:
    """The indices of each batch's readable images in ``paths``, and their features (N, C), with a progress bar.

    Only one batch is held. The network runs on the GPU if there is one. What it gives for normalised images, or the
    last of several, is averaged over its pixels if it is a map.
    """
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    network = network.eval().to(device)
    given = options.mean, options.std
    mean, std = (torch.tensor(list(values), device=device).view(1, 3, 1, 1) for values in given)
    files = ImageFiles(paths, options.size)
    loader = DataLoader(files, options.batch_size, num_workers=options.num_workers, collate_fn=list)
    with Progress() as progress:
        task = progress.add_task(f'features of {title}', total=len(paths))
        for batch in loader:
            readable = [(index, image) for index, image in batch if image is not None]
            if readable:
                images = torch.stack([image for _, image in readable])
                with torch.inference_mode():
                    output = network((images.to(device) - mean) / std)
                last = output if isinstance(output, Tensor) else output[-1]
                pooled = last.mean(dim=(2, 3)) if last.ndim == 4 else last
                progress.update(task, completed=readable[-1][0] + 1)
                yield [index for index, _ in readable], pooled.float().cpu().numpy()


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


def rank(paths: Sequence[Path], distances: np.ndarray) -> list[tuple[Path, float]]:
    """Files and distances, the nearest first; unreadable ones (nan) are named and left out."""
    unreadable = [str(paths[index]) for index in np.flatnonzero(np.isnan(distances)).tolist()]
    if unreadable:
        print(f'{len(unreadable)} unreadable images are left out: {", ".join(unreadable[:10])}')
    if len(unreadable) == len(paths):
        raise Mistake(f'none of the {len(paths)} candidates can be read, such as {paths[0]}')
    order = np.argsort(distances, kind='stable').tolist()[: len(paths) - len(unreadable)]  # nan comes last
    return [(paths[index], float(distances[index])) for index in order]


def write_histogram(groups: Mapping[str, Sequence[float]], out_file: Path) -> None:
    """Draw how groups of images spread over mean cosine distance; an empty group is left out."""
    filled = {name: np.asarray(values) for name, values in groups.items() if len(values)}
    everything = np.concatenate(list(filled.values()))
    bins = np.linspace(everything.min(), everything.max(), 60).tolist()
    figure = Figure(figsize=(7, 4), layout='constrained', dpi=110)
    axis = figure.subplots()
    for name, values in filled.items():
        label = f'{name}: {len(values)}, up to {values.max():.4f}'
        axis.hist(values, bins, histtype='stepfilled', alpha=0.4, label=label)
    axis.set(xlabel='mean cosine distance to all training images', ylabel='images', yscale='symlog')
    axis.legend(frameon=False)
    save_figure(figure, out_file)
