"""What a result depends on beside its method: the data and the way of testing, as short digests."""

import copy
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmskin.engine.stages import stage_configs
from mmskin.errors import Mistake
from mmskin.evaluation.per_image import PerImageMetric
from mmskin.registry import DATASETS, METRICS

__all__ = ['OF_TRAINING', 'build_dataset', 'check_comparable', 'fingerprints', 'same', 'settings_digest']

LOGGING = ('visualizer', 'vis_backends', 'visualization', 'log_metric_by_epoch', 'log_with_hierarchy')
ENDS = 4096  # bytes of an image that are read, at its head and tail: all of a large set would take minutes
OF_TRAINING = ('train images', 'train cls', 'train seg')
NOT_SETTINGS = frozenset(('work_dir', 'data_root', 'launcher', 'filename', *LOGGING))


def fingerprints(cfg: Config) -> dict[str, str]:
    """Digests of what all methods have to share, by name.

    ``train`` and ``test`` with ``images``, ``cls`` and ``seg``: ids with image files, with labels, and with mask files;
    for files ``sizes+contents``, where an earlier version noted sizes alone. Training data are those of all stages.
    ``scoring cls`` and ``scoring seg``: the metrics' settings, and for masks the size at which they are scored. What a
    config does not use is not there: a network may lack the ground truth of a task.
    """
    test = build_dataset(cfg.test_dataloader.dataset)
    train = [build_dataset(dataset) for dataset in training_sets(cfg)]
    found = {f'train {kind}': value for kind, value in data_digests(train).items()}
    found |= {f'test {kind}': value for kind, value in data_digests([test]).items()}
    return found | {f'scoring {kind}': digest(lines) for kind, lines in scoring(cfg.test_evaluator, test).items()}


def build_dataset(settings: dict) -> Any:
    """The dataset of a config, which stays as it is."""
    return DATASETS.build(copy.deepcopy(settings))


def training_sets(cfg: Config) -> list[dict]:
    """The datasets that the stages of a config train on, each once."""
    stages = [stage.train_dataloader.dataset for stage in stage_configs(cfg) if stage.get('train_dataloader')]
    return list({as_json(dataset): dataset for dataset in stages}.values())


def digest(lines: Iterable[str]) -> str:
    """Sixteen hexadecimal digits for a set of lines."""
    return hashlib.sha256('\n'.join(sorted(set(lines))).encode()).hexdigest()[:16]


def data_digests(datasets: Iterable[Any]) -> dict[str, str]:
    """Digests of the images, labels and masks of all ``datasets`` together."""
    infos = [dataset.get_data_info(index) for dataset in datasets for index in range(len(dataset))]
    found = {'images': files_digest([(info['image_id'], info['img_path']) for info in infos], ENDS)}
    if masks := [(info['image_id'], info['seg_map_path']) for info in infos if info.get('seg_map_path')]:
        found['seg'] = files_digest(masks)
    if labels := [f'{info["image_id"]} {info["gt_label"]}' for info in infos if 'gt_label' in info]:
        found['cls'] = digest(labels)
    return found


def files_digest(files: Sequence[tuple[str, str]], ends: int | None = None) -> str:
    """``sizes+contents`` of files, each an image id and a path."""
    sizes = digest(f'{image_id} {Path(path).stat().st_size}' for image_id, path in files)
    return f'{sizes}+{digest(f"{image_id} {content(path, ends)}" for image_id, path in files)}'


def content(path: str | Path, ends: int | None = None) -> str:
    """A digest of a file, or of so many bytes at both of its ends; a file is read once as long as it stays the same."""
    stat = Path(path).stat()
    return read_content(path, ends, stat.st_size, stat.st_mtime_ns)


@cache
def read_content(path: str | Path, ends: int | None, size: int, changed: int) -> str:
    """See ``content``; ``size`` and ``changed`` are there for the cache."""
    with open(path, 'rb') as file:
        read = file.read(ends)
        if ends is not None:
            file.seek(max(size - ends, 0))
            read += file.read(ends)
    return hashlib.sha256(read).hexdigest()[:16]


def scoring(evaluators: list[dict] | dict, dataset: Any) -> dict[str, list[str]]:
    """A line for each metric under its prefix, and the size of the first mask as the metrics get it."""
    lines: dict[str, list[str]] = defaultdict(list)
    for settings in evaluators if isinstance(evaluators, list) else [evaluators]:
        kind = settings['type'] if isinstance(settings['type'], type) else METRICS.get(settings['type'])
        if issubclass(kind, PerImageMetric):
            lines[str(settings.get('prefix') or kind.default_prefix)].append(as_json(settings))
    masks = [index for index in range(len(dataset)) if dataset.get_data_info(index).get('seg_map_path')]
    if masks and 'seg' in lines:
        lines['seg'].append(f'masks at {tuple(dataset[masks[0]]["data_samples"].gt_sem_seg.shape)}')
    return lines


def settings_digest(cfg: Config) -> str:
    """A digest of a config without its paths and what it logs; settings that a method's results depend on change it."""
    return digest([as_json(without_paths(cfg.to_dict()))])


def without_paths(settings: Any) -> Any:
    """Nested settings without the entries that a result does not depend on."""
    if isinstance(settings, dict):
        kept = (key for key in settings if NOT_SETTINGS.isdisjoint(str(key).split('.')))  # a.b=c, on a command line
        return {str(key): without_paths(settings[key]) for key in kept}
    return [without_paths(value) for value in settings] if isinstance(settings, (list, tuple)) else settings


def as_json(settings: Any) -> str:
    """Settings as one line; a class by its name."""
    return json.dumps(settings, sort_keys=True, default=lambda value: getattr(value, '__qualname__', repr(value)))


def same(first: str, second: str) -> bool:
    """Whether two digests agree in the parts that both have; an earlier version noted fewer."""
    return all(one == other for one, other in zip(first.split('+'), second.split('+'), strict=False))


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
            if len(value) > len(expected):
                seen[name] = run, value
            if not same(value, expected) and name not in may_differ:
                raise Mistake(
                    f'{run} and {other} cannot be compared: they differ in {name!r}. Give both the same data and the '
                    "same metrics; for 'train ...' the suite may say may_differ, which is printed with the table."
                )
