"""Checking every image, mask and label of a split by the dataset that will read them."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import track

from mmskin.datasets.isic2017 import SPLITS, ISIC2017Dataset
from mmskin.datasets.lesion_dataset import CLASSES
from mmskin.datasets.transforms.loading import LoadImage, LoadMask

OFFICIAL_COUNTS = dict(train=2000, val=150, test=600)


@dataclass
class SplitCheck:
    """What was found in a split.

    Attributes:
        images: how many there are.
        classes: how many of each class.
        sizes: width and height of each image that can be read, by id.
        without_lesion: ids of images whose mask is empty.
        problems: what is wrong, each naming the file and the mend.
    """

    images: int = 0
    classes: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    without_lesion: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass
class Finding:
    """What was found in one image and its mask; see ``SplitCheck``."""

    size: tuple[int, int] | None = None
    has_lesion: bool = True
    problem: str = ''


def check_split(data_root: str | Path, split: str, workers: int | None = None) -> SplitCheck:
    """Read every image and mask of a split in full, in ``workers`` threads: OpenCV decodes outside Python's lock."""
    try:
        dataset = ISIC2017Dataset(data_root, split)
    except (FileNotFoundError, ValueError) as error:
        return SplitCheck(problems=[str(error)])
    samples = [dataset.get_data_info(index) for index in range(len(dataset))]
    with ThreadPoolExecutor(workers) as pool:
        title = f'checking {len(samples)} images of {Path(data_root).name}, {SPLITS[split]}'
        checks = pool.map(check_sample, samples)
        found = list(track(checks, title, len(samples), transient=True, console=Console(stderr=True)))
    return summarise(samples, found)


def check_sample(sample: dict) -> Finding:
    """Read one image and its mask as training does."""
    try:
        results = LoadMask().transform(LoadImage().transform(dict(sample)))
    except (FileNotFoundError, ValueError) as error:
        return Finding(problem=str(error))
    height, width = results['ori_shape']
    return Finding((width, height), bool(results['gt_seg_map'].any()))


def summarise(samples: Sequence[dict], found: Sequence[Finding]) -> SplitCheck:
    """The findings of all samples together."""
    pairs = list(zip([sample['image_id'] for sample in samples], found, strict=True))
    counts = Counter(CLASSES[sample['gt_label']] for sample in samples)
    return SplitCheck(
        images=len(samples),
        classes={name: counts[name] for name in CLASSES},
        sizes={image_id: one.size for image_id, one in pairs if one.size},
        without_lesion=[image_id for image_id, one in pairs if not one.has_lesion],
        problems=[one.problem for one in found if one.problem],
    )
