"""Choosing additional training data by its features."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.progress import Progress
from torch import nn

from mmskin.datasets.duplicates import Print, read_folder
from mmskin.datasets.extra_samples import write_extra_samples
from mmskin.datasets.features import FeatureOptions, pooled_features
from mmskin.datasets.ground_truth import read_labels
from mmskin.datasets.isic2017 import (
    IMAGE_SUFFIXES,
    MASK_SUFFIX,
    SPLITS,
    SUPERPIXEL_SUFFIX,
    by_id,
    index_images,
    index_masks,
)
from mmskin.datasets.selection import mean_cosine_distance, nearest_candidates
from mmskin.errors import MissingFile, Mistake
from mmskin.files import write_csv
from mmskin.registry import MODELS
from mmskin.visualization.distance_histogram import distance_histogram

__all__ = ['select_data']

Batch = tuple[list[int], np.ndarray]  # the indices of images, and their features (N, C)


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
        Mistake: if there is no candidate, no readable one, or two of the same name; if the table is wrong, or
            ``count`` negative.
    """
    if count is not None and count < 0:
        raise Mistake(f'count={count}: give how many are taken at most, or leave it out.')
    diagnoses, mask_files = read_ground_truth(labels, masks)
    training = sorted(index_images(Path(data_root, f'{SPLITS["train"]}_Data')).values())
    known = known_images(data_root)
    paths = find_candidates(candidates, {one.path.stem for one in known})
    extractor, options = MODELS.build(network), options or FeatureOptions()
    measured = measure_features(extractor, training, 'training', options)
    references = np.concatenate([features for _, features in measured])
    distances = np.full(len(paths), np.nan)  # of unreadable ones it stays
    for indices, features in measure_features(extractor, paths, 'candidates', options):
        distances[indices] = mean_cosine_distance(features, references)
    ranked = rank(paths, distances)
    samples = with_ground_truth(nearest_candidates(ranked, threshold, count, known), diagnoses, mask_files)
    write_selection(Path(out_dir), samples, ranked, mean_cosine_distance(references, references))
    return samples


def read_ground_truth(
    labels: str | Path | None, masks: str | Path | None
) -> tuple[dict[str, int | None], dict[str, Path]]:
    """The diagnoses in the table and the masks in the folder, by id.

    Raises:
        MissingFile: if one that is named is missing.
        Mistake: if the table is wrong, or an id has two masks.
    """
    if labels and not Path(labels).is_file():
        raise MissingFile(f"{labels} is missing; name the table with candidates' diagnoses, or leave labels out.")
    if masks and not Path(masks).is_dir():
        raise MissingFile(f"{masks} is no folder; name the one with candidates' masks, or leave masks out.")
    return read_labels(Path(labels)) if labels else {}, index_masks(Path(masks)) if masks else {}


def known_images(data_root: str | Path) -> list[Print]:
    """The prints of all images of all splits that ``data_root`` has."""
    folders = {split: Path(data_root, f'{name}_Data') for split, name in SPLITS.items()}
    return [one for split, folder in folders.items() if folder.is_dir() for one in read_folder(split, folder)]


def find_candidates(folder: str | Path, known: Collection[str]) -> list[Path]:
    """The images below ``folder`` whose names are not among ``known``, sorted by name.

    Raises:
        Mistake: if there is none, or two have the same name.
    """
    paths = (path for path in Path(folder).rglob('*') if path.suffix.lower() in IMAGE_SUFFIXES)
    images = [path for path in paths if not path.name.endswith((MASK_SUFFIX, SUPERPIXEL_SUFFIX))]
    found = by_id(Path(folder), ((path.stem, path) for path in images if path.stem not in known))
    if not found:
        raise Mistake(f'{folder} holds {len(images)} images, none of which is new; name a folder with candidates.')
    return [found[name] for name in sorted(found)]


def measure_features(network: nn.Module, paths: Sequence[Path], title: str, options: FeatureOptions) -> Iterator[Batch]:
    """`pooled_features` of images, with a progress bar; batches without a readable image are left out."""
    with Progress() as progress:
        task = progress.add_task(f'features of {title}', total=len(paths))
        for indices, features in pooled_features(network, paths, options):
            if indices:
                progress.update(task, completed=indices[-1] + 1)
                yield indices, features


def rank(paths: Sequence[Path], distances: np.ndarray) -> list[tuple[Path, float]]:
    """Files and distances, the nearest first; unreadable ones (nan) are named and left out.

    Raises:
        Mistake: if no file could be read.
    """
    unreadable = [str(paths[index]) for index in np.flatnonzero(np.isnan(distances)).tolist()]
    if unreadable:
        print(f'{len(unreadable)} unreadable images are left out: {", ".join(unreadable[:10])}')
    if len(unreadable) == len(paths):
        raise Mistake(f'none of the {len(paths)} candidates can be read, such as {paths[0]}.')
    order = np.argsort(distances, kind='stable').tolist()[: len(paths) - len(unreadable)]  # nan comes last
    return [(paths[index], float(distances[index])) for index in order]


def with_ground_truth(
    chosen: Iterable[tuple[Path, float]], diagnoses: Mapping[str, int | None], mask_files: Mapping[str, Path]
) -> list[dict]:
    """The chosen files as samples, with the diagnosis and the mask that are known of them."""
    samples = []
    for path, distance in chosen:
        sample = dict(image_id=path.stem, img_path=str(path.resolve()), distance=round(distance, 6))
        if path.stem in mask_files:
            sample['seg_map_path'] = str(mask_files[path.stem].resolve())
        samples.append({**sample, 'gt_label': diagnoses.get(path.stem)})
    return samples


def write_selection(
    folder: Path, samples: Sequence[dict], ranked: Sequence[tuple[Path, float]], training: np.ndarray
) -> None:
    """Write the list, every candidate's distance, and the histogram."""
    folder.mkdir(parents=True, exist_ok=True)
    write_extra_samples(folder / 'selected.csv', samples)
    rows = ((path.stem, f'{distance:.6f}') for path, distance in ranked)
    write_csv(folder / 'distances.csv', [('image_id', 'distance'), *rows])
    groups = {'candidates': [distance for _, distance in ranked], 'selected': [s['distance'] for s in samples]}
    distance_histogram({'training': training.tolist(), **groups}, folder / 'histogram.png')
