"""What a result depends on beside its method: the data and the way of testing, as short digests."""

import copy
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmskin.evaluation.per_image import PerImageMetric
from mmskin.registry import DATASETS, METRICS

__all__ = ['check_comparable', 'fingerprints', 'settings_digest']

NOT_SETTINGS = ('work_dir', 'data_root', 'launcher', 'filename')


def fingerprints(cfg: Config) -> dict[str, str]:
    """Digests of what all methods have to share, by name.

    ``train`` and ``test`` with ``images``, ``cls`` and ``seg``: ids with the sizes of image files, with labels, and
    with the sizes of mask files. ``scoring cls`` and ``scoring seg``: the metrics' settings, and for masks the size at
    which they are scored. What a config does not use is not there: a network may lack the ground truth of a task.
    """
    found: dict[str, str] = {}
    for part in ('train', 'test'):
        dataset = DATASETS.build(copy.deepcopy(cfg[f'{part}_dataloader'].dataset))
        found |= {f'{part} {kind}': digest(lines) for kind, lines in listing(dataset).items()}
    return found | {f'scoring {kind}': digest(lines) for kind, lines in scoring(cfg.test_evaluator, dataset).items()}


def digest(lines: Iterable[str]) -> str:
    """Sixteen hexadecimal digits for a set of lines."""
    return hashlib.sha256('\n'.join(sorted(set(lines))).encode()).hexdigest()[:16]


def listing(dataset: Any) -> dict[str, list[str]]:
    """A line for each image, label and mask of a dataset."""
    lines: dict[str, list[str]] = defaultdict(list)
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        lines['images'].append(f'{info["image_id"]} {Path(info["img_path"]).stat().st_size}')
        if info.get('seg_map_path'):
            lines['seg'].append(f'{info["image_id"]} {Path(info["seg_map_path"]).stat().st_size}')
        if 'gt_label' in info:
            lines['cls'].append(f'{info["image_id"]} {info["gt_label"]}')
    return lines


def scoring(evaluators: list[dict], dataset: Any) -> dict[str, list[str]]:
    """A line for each metric under its prefix, and the size of the first mask as the metrics get it."""
    lines: dict[str, list[str]] = defaultdict(list)
    for settings in evaluators:
        kind = settings['type'] if isinstance(settings['type'], type) else METRICS.get(settings['type'])
        if issubclass(kind, PerImageMetric):
            lines[str(settings.get('prefix') or kind.default_prefix)].append(as_json(settings))
    masks = [index for index in range(len(dataset)) if dataset.get_data_info(index).get('seg_map_path')]
    if masks and 'seg' in lines:
        lines['seg'].append(f'masks at {tuple(dataset[masks[0]]["data_samples"].gt_sem_seg.shape)}')
    return lines


def settings_digest(cfg: Config) -> str:
    """A digest of a config without its paths; settings that a method's results depend on change it."""
    return digest([as_json(without_paths(cfg.to_dict()))])


def without_paths(settings: Any) -> Any:
    """Nested settings without the entries that differ from machine to machine."""
    if isinstance(settings, dict):
        return {str(key): without_paths(value) for key, value in settings.items() if key not in NOT_SETTINGS}
    return [without_paths(value) for value in settings] if isinstance(settings, (list, tuple)) else settings


def as_json(settings: Any) -> str:
    """Settings as one line; a class by its name."""
    return json.dumps(settings, sort_keys=True, default=lambda value: getattr(value, '__qualname__', repr(value)))


def check_comparable(runs: Mapping[str, Mapping[str, str]], may_differ: Iterable[str] = ()) -> None:
    """Raise if two runs that both have a fingerprint differ in it.

    Args:
        runs: fingerprints by the name of the run.
        may_differ: names of fingerprints that are not compared.
    """
    seen: dict[str, tuple[str, str]] = {}
    for run, found in runs.items():
        for name, value in found.items():
            other, expected = seen.setdefault(name, (run, value))
            if value != expected and name not in may_differ:
                raise ValueError(
                    f'{run} and {other} cannot be compared: they differ in {name!r}. Give both the same data and the '
                    "same metrics; for 'train ...' the suite may say may_differ, which is printed with the table."
                )
