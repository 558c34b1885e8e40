"""What mmskin finds of itself on a machine: versions, devices, the shipped model, data; and what is wrong.

Each subject imports what it looks at: on a machine where that fails, the others are still told.
"""

import os
import platform
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module, metadata
from pathlib import Path

from packaging.requirements import Requirement

import mmskin

ORIGINALS = (
    'mmcv',
    'mmengine',
    'mmpretrain',
    'mmsegmentation',
)  # what the onedl packages continue, by the same imports


@dataclass
class Section:
    """One subject.

    Attributes:
        title: Of the subject.
        lines: What was found.
        problems: What is wrong, and what to do.
    """

    title: str
    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def diagnose(data_root: str | Path | None = None) -> list[Section]:
    """Look at everything.

    Args:
        data_root: The data's folder; without it, the configs' own is looked at if it is there.
    """
    looks = {'versions': versions, 'devices': devices, 'models': shipped, 'data': lambda: data(data_root)}
    sections = []
    for title, look in looks.items():
        try:
            sections.append(look())
        except Exception as error:  # a system's missing library is an ImportError, a foreign build a RuntimeError
            sections.append(Section(title, problems=[f'{title}: {type(error).__name__}: {error}']))
    return sections


def versions() -> Section:
    """Versions of Python, of mmskin and of what it requires, and whether they go together."""
    place = Path(mmskin.__file__).parent
    section = Section('versions', [f'python {platform.python_version()}', f'mmskin {mmskin.__version__} in {place}'])
    for requirement in required():
        version = installed(requirement.name)
        section.lines.append(f'{requirement.name} {version or "is missing"}')
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            section.problems.append(f'{requirement.name} {version or "is missing"}: pip install "{requirement}"')
    both = [name for name in ORIGINALS if installed(name) and installed(f'onedl-{name}')]
    if both:
        section.problems.append(
            f'{", ".join(both)} next to onedl-...: two packages of one import; pip uninstall {both[0]}'
        )
    names = metadata.metadata('mmskin').get_all('Provides-Extra') or ()
    extras = [name for name in names if all(installed(requirement.name) for requirement in required(name))]
    section.lines.append(f'extras: {", ".join(extras) or "none"}')
    for name in ('cv2', 'torch', 'torchvision', 'timm', 'mmcv', 'mmseg', 'mmpretrain'):
        try:
            import_module(name)
        except Exception as error:  # a torchvision of another torch raises a RuntimeError
            section.problems.append(f'import {name} fails: {error}')
    return section


def required(extra: str = '') -> Iterator[Requirement]:
    """What mmskin needs, or with an ``extra`` what that needs, too."""
    for requirement in map(Requirement, metadata.requires('mmskin') or ()):
        if requirement.marker is None or requirement.marker.evaluate({'extra': extra}):
            yield requirement


def installed(name: str) -> str | None:
    """The version of an installed distribution."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def devices() -> Section:
    """What networks can run on."""
    import torch

    lines = [f'CPU: {os.cpu_count()} cores, {torch.get_num_threads()} threads']
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        lines.append(f'cuda:{number}: {properties.name}, {properties.total_memory / 2**30:.0f} GiB')
    return Section('devices', lines if len(lines) > 1 else [*lines, 'no GPU that torch can use'])


def shipped() -> Section:
    """The models that come with mmskin, and whether their weights are those that were published."""
    from mmskin.inference.zoo import DEFAULT_MODEL, model_folder, shipped_models
    from mmskin.models.weights import HASH, read_metadata, read_weights

    section = Section('models')
    for name in shipped_models():
        try:
            weights = model_folder(name).weights
            read_weights(weights)  # compares the hash
        except (OSError, ValueError) as error:
            section.problems.append(str(error))
        else:
            size = weights.stat().st_size / 1e6
            section.lines.append(f'{name}: {size:.1f} MB, {HASH} {read_metadata(weights).get(HASH, "not stated")}')
    if DEFAULT_MODEL not in shipped_models():
        section.problems.append(f'the model {DEFAULT_MODEL} does not come with this copy of mmskin; install it again')
    return section


def data(data_root: str | Path | None) -> Section:
    """The splits of ISIC-2017 in ``data_root``; only that a folder was named and is not there is wrong."""
    from mmskin.datasets.isic2017 import SPLITS, ISIC2017Dataset
    from mmskin.datasets.tables import CLASSES

    root = Path(data_root or 'data/isic2017')
    section = Section(f'data in {root}')
    splits = [split for split, prefix in SPLITS.items() if (root / f'{prefix}_Data').is_dir()]
    for split in splits:
        try:
            dataset = ISIC2017Dataset(root, split)
            labels = Counter(sample['gt_label'] for sample in map(dataset.get_data_info, range(len(dataset))))
            of_classes = ', '.join(f'{labels[i]} {name}' for i, name in enumerate(CLASSES))
            section.lines.append(f'{split}: {len(dataset)} images with masks, {of_classes}')
        except (OSError, ValueError) as error:
            section.problems.append(str(error))
    if not splits and data_root is None:
        section.lines.append('none; name another folder by --data-root')
    elif not splits:
        names = ', '.join(f'{prefix}_Data' for prefix in SPLITS.values())
        section.problems.append(f'{root} holds none of {names}; see README, "Train on ISIC-2017"')
    return section
