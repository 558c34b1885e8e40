"""What a result depends on besides its method: the data and the way of testing, as short digests."""

import copy
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmskin.config import texts_in
from mmskin.datasets.task_dataset import read_folds
from mmskin.engine.stages import stage_configs
from mmskin.errors import Mistake
from mmskin.evaluation.per_image import PerImageMetric
from mmskin.registry import DATASETS, METRICS

ENDS = 4096  # bytes of an image that are read, at its head and tail: all of a large set would take minutes
OF_TRAINING = ('train images', 'train cls', 'train seg')
FOLDS, WEIGHTS = 'folds', 'files of the model'
LOGGING = ('visualizer', 'vis_backends', 'visualization', 'log_metric_by_epoch', 'log_with_hierarchy', 'log_level')
LOADING = ('cache', 'num_workers', 'persistent_workers', 'pin_memory', 'prefetch_factor', 'mp_cfg')
PLACES = ('work_dir', 'data_root', 'launcher', 'filename', 'out_file', 'command_line_options', 'keep_stages')
NOT_SETTINGS = frozenset((*LOGGING, *LOADING, *PLACES, 'experiment_name', 'resume', 'logger', 'timer', 'stage'))


def fingerprints(cfg: Config) -> dict[str, str]:
    """Digests of what all methods have to share, by name.

    ``train`` and ``test`` with ``images``, ``cls`` and ``seg``: ids with image files, with labels, and with mask files;
    for files ``sizes+contents``. Training data are those of all stages. ``scoring cls`` and ``scoring seg``: the
    metrics' settings, and for masks the size at which they are scored. ``folds``: fold and group of each image. What a
    config does not use is not there: a network may lack the ground truth of a task. ``files of the model``, which
    methods need not share: contents of the files that the model is built from.
    """
    test = build_dataset(cfg.test_dataloader.dataset)
    stages = stage_configs(cfg)
    training = [stage.train_dataloader.dataset for stage in stages if stage.get('train_dataloader')]
    train = [build_dataset(settings) for settings in {_as_json(settings): settings for settings in training}.values()]
    digests = {}
    for part, datasets in (('train', train), ('test', [test])):
        infos = [dataset.get_data_info(index) for dataset in datasets for index in range(len(dataset))]
        digests[f'{part} images'] = _files_digest([(info['image_id'], info['img_path']) for info in infos], ENDS)
        if masks := [(info['image_id'], info['seg_map_path']) for info in infos if info.get('seg_map_path')]:
            digests[f'{part} seg'] = _files_digest(masks)
        if labels := [f'{info["image_id"]} {info["gt_label"]}' for info in infos if 'gt_label' in info]:
            digests[f'{part} cls'] = _digest(labels)
    scoring: dict[str, list[str]] = defaultdict(list)  # by prefix
    for settings in cfg.test_evaluator if isinstance(cfg.test_evaluator, list) else [cfg.test_evaluator]:
        kind = settings['type'] if isinstance(settings['type'], type) else METRICS.get(settings['type'])
        if issubclass(kind, PerImageMetric):
            prefix = settings.get('task') or settings.get('prefix') or kind.default_prefix
            scoring[str(prefix)].append(_as_json(settings))
    with_mask = [index for index in range(len(test)) if test.get_data_info(index).get('seg_map_path')]
    if with_mask and 'seg' in scoring:  # masks are scored at the size at which the pipeline gives them
        scoring['seg'].append(f'masks at {tuple(test[with_mask[0]]["data_samples"].gt_sem_seg.shape)}')
    digests |= {f'scoring {prefix}': _digest(lines) for prefix, lines in scoring.items()}
    if table := cfg.test_dataloader.dataset.get('folds'):
        digests[FOLDS] = folds_digest(table)
    texts = {text for stage in stages for text in texts_in([stage.model, stage.get('load_from')])}
    if files := sorted(text for text in texts if '\n' not in text and len(text) < 999 and Path(text).is_file()):
        digests[WEIGHTS] = _digest(f'{Path(file).name} {_content(file)}' for file in files)
    return digests


def folds_digest(path: str | Path) -> str:
    """The fingerprint of a table of folds."""
    return _digest(' '.join(map(str, (name, *place))) for name, place in read_folds(path).items())


def build_dataset(settings: dict) -> Any:
    """The dataset of a config, which stays as it is."""
    return DATASETS.build(copy.deepcopy(settings))


def _digest(lines: Iterable[str]) -> str:
    """Sixteen hexadecimal digits for a set of lines."""
    return hashlib.sha256('\n'.join(sorted(set(lines))).encode()).hexdigest()[:16]


def _files_digest(files: Sequence[tuple[str, str]], ends: int | None = None) -> str:
    """``sizes+contents`` of files, each an image id and a path."""
    sizes = _digest(f'{image_id} {Path(path).stat().st_size}' for image_id, path in files)
    return f'{sizes}+{_digest(f"{image_id} {_content(path, ends)}" for image_id, path in files)}'


def _content(path: str | Path, ends: int | None = None) -> str:
    """A digest of a file, or of so many bytes at both of its ends; a file is read once as long as it stays the same."""
    stat = Path(path).stat()
    return _read_content(path, ends, stat.st_size, stat.st_mtime_ns)


@cache
def _read_content(path: str | Path, ends: int | None, size: int, changed: int) -> str:
    """See ``_content``; ``size`` and ``changed`` are there for the cache."""
    with open(path, 'rb') as file:
        read = file.read(ends)
        if ends is not None:
            file.seek(max(size - ends, 0))
            read += file.read(ends)
    return hashlib.sha256(read).hexdigest()[:16]


def settings_digest(cfg: Config) -> str:
    """A digest of the stages that a config trains and of how it tests: of what a method's results depend on.

    Where files are, how they are loaded and what is logged leave it as it is; so does a setting's place, in the config,
    the stage or the suite. Of a path it takes the file's name; what is in the file is a matter of ``fingerprints``.
    """
    return _digest([_as_json([_what_counts(stage.to_dict()) for stage in stage_configs(cfg)])])


def _what_counts(settings: Any) -> Any:
    """Nested settings without the entries that a result does not depend on."""
    if isinstance(settings, dict):
        kept = (key for key in settings if NOT_SETTINGS.isdisjoint(str(key).split('.')))
        return {str(key): _what_counts(settings[key]) for key in kept}
    if isinstance(settings, str) and '/' in settings and '://' not in settings and '\n' not in settings:
        return Path(settings).name
    return [_what_counts(value) for value in settings] if isinstance(settings, (list, tuple)) else settings


def _as_json(settings: Any) -> str:
    """Settings as one line; a class by its name."""
    return json.dumps(settings, sort_keys=True, default=lambda value: getattr(value, '__qualname__', repr(value)))


def check_comparable(runs: Mapping[str, Mapping[str, str]], may_differ: Iterable[str] = ()) -> None:
    """Raise if two runs that both have a fingerprint differ in it.

    Args:
        runs: fingerprints by the name of the run.
        may_differ: names of fingerprints that are not compared.
    """
    seen: dict[str, tuple[str, str]] = {}
    for run, digests in runs.items():
        for name, value in digests.items():
            other, expected = seen.setdefault(name, (run, value))
            if value != expected and name not in (WEIGHTS, *may_differ):
                raise Mistake(
                    f'{run} and {other} cannot be compared: they differ in {name!r}. Give both the same data and the '
                    "same metrics; for 'train ...' the suite may say may_differ, which is printed with the table."
                )
