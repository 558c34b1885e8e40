"""The card of a published model: what it is for, how well it does, and where it fails."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from mmengine.config import Config

import mmskin
from mmskin.config import class_names, tested_dataset
from mmskin.errors import Mistake
from mmskin.evaluation.per_image import RESULTS, PerImageTable, read_companion
from mmskin.evaluation.statistics import LEVEL
from mmskin.explain.audit import audit_table
from mmskin.files import markdown_table, read_note, readable
from mmskin.inference.novelty import NOVELTY_FILE
from mmskin.inference.zoo import ModelFolder
from mmskin.models.averaging import member_configs
from mmskin.models.weights import HASH, read_metadata
from mmskin.registry import MODELS
from mmskin.report.figures import THRESHOLD, confusion
from mmskin.report.page import all_groups, class_areas, headline

METRICS = {
    'seg/JA': 'outline: Jaccard index (JA)',
    'seg/DI': 'outline: Dice coefficient (DI)',
    'seg/AC': 'outline: pixel accuracy',
    'seg/sensitivity': 'outline: pixel sensitivity',
    'seg/specificity': 'outline: pixel specificity',
    'cls/AC': 'diagnosis: accuracy (AC)',
    'cls/mAP': 'diagnosis: mean average precision (mAP)',
    'cls/AUC_melanoma': 'diagnosis: AUC, melanoma against the rest',
    'cls/AUC_seborrheic_keratosis': 'diagnosis: AUC, seborrheic keratosis against the rest',
    'cls/AUC_mean': 'diagnosis: mean of these two AUCs',
}
NUM_WORST = 6
DOES = {  # words before and after what a task is about, by its kind
    'masks': ('outlines', ' in an image'),
    'classes': ('tells', ' apart'),
    'labels': ('finds', ''),
    'values': ('measures', ''),
}
USAGE = """```python
from mmskin import LesionInferencer

LesionInferencer('{name}')('photo.jpg')
```

A folder outside mmskin is named by its path. `config.py` is Python and runs as it is read: take it from people you
trust. `weights.safetensors` holds numbers only."""
WARNING = '**Not a medical device.** For research and teaching: no diagnosis or treatment may rest on what it says.'
FORCED = '- Every image is forced into one of {classes}; there is no "none of these".\n'
NOTED = """- Every image gets one of {classes}. One that is unlike the training images, or on which no
  lesion is outlined, has a note that says so; its class means nothing.
"""
LIMITS = """- How well it does on other data than these was not measured.
- Probabilities are not calibrated: 0.9 does not mean nine times out of ten."""
LIMITS_OF_ISIC2017 = """- It has seen dermoscopic images of one lesion each. Photographs without a dermatoscope, several
  lesions and other devices are outside what was measured.
- The ISIC archive shows mostly fair skin. How well the model does on dark skin was not measured.
- Rulers, coloured patches, gel bubbles, hair and dark corners go along with the diagnosis in these data, and the model
  may have learnt that they do.
"""
ISIC2017 = """Training split of the ISIC-2017 challenge: 2000 dermoscopic images with outline and diagnosis, of which
374 are melanomas, 1372 nevi and 254 seborrheic keratoses (<https://challenge.isic-archive.com/data/#2017>,
<https://arxiv.org/abs/1710.05006>). The ISIC archive released images and ground truth under CC0 1.0. Models were chosen
on the validation split (150 images), so figures on it are a little better than those on images never seen will be."""


class ModelTest(NamedTuple):
    """What ``mmskin test`` found.

    Attributes:
        title: Heads the column, such as 'flips at test time'.
        options: Of the command, such as ``--tta``.
        split: The part of the data.
        results: From ``results.json``.
        evaluation: From the files next to it.
        networks: The hashes of its weights; none of a test by an earlier version.
    """

    title: str
    options: str
    split: str
    results: dict[str, float | None]
    evaluation: PerImageTable
    networks: frozenset[str] = frozenset()


class Recipe(NamedTuple):
    """What the files do not say of a model."""

    command: str
    text: str = ''
    license: str = 'apache-2.0'


def read_test(results: str | Path, tta: bool) -> ModelTest:
    """Read a test's ``results.json`` and the files next to it.

    Args:
        results: The file.
        tta: Whether it is a test with several views averaged.
    """
    path = Path(results)
    title, option = ('views averaged', '--tta') if tta else ('plain', '--no-tta')
    values = read_note(path, RESULTS)
    note = read_companion(path.with_name('test.json'))
    if note['test-time augmentation'].startswith('yes') != tta:
        raise Mistake(f'{path}: the test was made without {option}; test again')
    split = note.get('split') or 'unknown'
    return ModelTest(title, option, split, values, PerImageTable.read(path.parent), networks_of(note))


def networks_of(note: Mapping[str, Any]) -> frozenset[str]:
    """The hashes of the weights that a test or an audit notes; none of one by an earlier version."""
    return frozenset(filter(None, note.get('weights', '').split(', ')))


def model_card(
    folder: ModelFolder,
    cfg: Config,
    recipe: Recipe,
    tests: Sequence[ModelTest] = (),
    shortcuts: Mapping[str, Any] | None = None,
) -> str:
    """The card, in Markdown with Hugging Face's front matter (https://huggingface.co/docs/hub/model-cards).

    Args:
        folder: Whose weights are written already.
        cfg: The model's config.
        recipe: What is said about its training.
        tests: The failure cases are the first one's.
        shortcuts: What ``mmskin audit`` found: its ``audit.json``.
    """
    name = folder.config.resolve().parent.name
    dataset, does, forced = dataset_name(cfg), [], ''
    tasks: dict[str, Any] = {}
    for model in member_configs(cfg.model):
        tasks = {**model.get('tasks', {}), **tasks}
    kinds = {task_name: getattr(MODELS.get(task.type), 'kind', '') for task_name, task in tasks.items()}
    for task_name, kind in sorted(kinds.items(), key=lambda pair: pair[1] != 'masks'):
        task = tasks[task_name]
        target = task.get('target') or getattr(MODELS.get(task.type), 'target', '')
        names = class_names(cfg, target)
        what = listed(names) if names else 'the lesion' if target == 'gt_sem_seg' else readable(task_name)
        if kind in DOES:
            before, after = DOES[kind]
            does.append(f'{before} {what}{after}')
        if kind == 'classes' and target == 'gt_label':
            has_notes = folder.weights.with_name(NOVELTY_FILE).is_file()
            forced = (NOTED if has_notes else FORCED).format(classes=what)
    limits = forced + (LIMITS_OF_ISIC2017 if dataset == 'ISIC-2017' else '') + LIMITS
    purpose = f'This network {" and ".join(does) or "analyses images"}.'
    metadata: dict[str, Any] = read_metadata(folder.weights)
    size = folder.weights.stat().st_size / 2**20
    files = (
        f'Written by mmskin {mmskin.__version__}, format {metadata["format_version"]}. `weights.safetensors` holds '
        f'{size:.1f} MiB ({metadata["dtype"]}).\nSHA-256 of its tensors, which is checked whenever they are read: '
        f'`{metadata[HASH]}`.'
    )
    results, known = 'Not measured yet.', 'Not looked for yet.'
    if tests:
        results = results_section(tests)
        known = f'{tests[0].title.capitalize()}:\n\n{failures(tests[0].evaluation)}'
    trained = f'```shell\n{recipe.command}\n```' if recipe.command else 'The command is not recorded.'
    sections = {
        'Use': USAGE.format(name=name),
        'Data': ISIC2017 if dataset == 'ISIC-2017' else f'{dataset}.',
        'Training': f'{trained}\n\n{recipe.text}'.strip(),
        'Results': results,
        'Known failure cases': known,
        'Shortcuts': audit_table(shortcuts) if shortcuts else 'Not looked for yet (`mmskin audit`).',
        'Intended use and limits': f'{WARNING}\n\n{limits}',
        'Files': files,
    }
    body = [f'# {name}\n\n{purpose}\n\n{WARNING}', *(f'## {title}\n\n{text}' for title, text in sections.items())]
    return front_matter(name, cfg, recipe, tests) + '\n\n'.join(body) + '\n'


def front_matter(name: str, cfg: Config, recipe: Recipe, tests: Sequence[ModelTest]) -> str:
    """The machine-readable head; the metrics are the first test's."""
    dataset = dataset_name(cfg)
    shown = shown_metrics(tests[:1])
    values = [
        {'type': key, 'name': METRICS[key], 'value': round(float(tests[0].results[key] or 0), 4)} for key in shown
    ]
    result = {
        'task': {'type': 'image-segmentation', 'name': 'Skin lesion outline and diagnosis'},
        'dataset': {'type': dataset.lower(), 'name': dataset, 'split': tests[0].split if tests else ''},
        'metrics': values,
    }
    head = {
        'license': recipe.license,
        'library_name': 'mmskin',
        'pipeline_tag': 'image-segmentation',
        'tags': ['dermoscopy', 'skin-lesion', 'melanoma', 'multi-task', 'image-classification', 'image-segmentation'],
        'datasets': [dataset.lower()],
        'metrics': shown,
        **({'model-index': [{'name': name, 'results': [result]}]} if values else {}),
    }
    return f'---\n{yaml.safe_dump(head, sort_keys=False)}---\n\n'


def dataset_name(cfg: Config) -> str:
    """What the data are called: as their folder, since the demo's synthetic lesions are laid out like ISIC-2017."""
    name = Path(tested_dataset(cfg).get('data_root') or 'data of your own').name
    return 'ISIC-2017' if name.startswith('isic2017') else name


def results_section(tests: Sequence[ModelTest]) -> str:
    """The table of metrics with intervals, and the command of each column."""
    columns = []
    for test in tests:
        areas = class_areas(test.evaluation, 'AUC')
        intervals = headline(test.evaluation) | {f'cls/AUC_{name}': area for name, area in areas.items()}
        cells = {}
        for key in shown_metrics(tests):
            interval = intervals.get(key)
            ends = ''
            if interval is not None and not math.isnan(interval.low):
                ends = f' ({interval.low:.3f} to {interval.high:.3f})'
            cells[key] = f'{test.results[key]:.3f}{ends}'
        columns.append(cells)
    head = ['', *(test.title for test in tests)]
    rows = [[METRICS[key], *(cells[key] for cells in columns)] for key in shown_metrics(tests)]
    commands = [
        f'python tools/test.py config.py weights.safetensors --data-root DATA --split {test.split} {test.options}'
        for test in tests
    ]
    images = f'{len(tests[0].evaluation)} images of the split `{tests[0].split}`'
    return (
        f'{images}, {LEVEL:.0%} bootstrap intervals over images.\n\n'
        f'{markdown_table(head, rows)}\n\n```shell\n' + '\n'.join(commands) + '\n```'
    )


def shown_metrics(tests: Sequence[ModelTest]) -> list[str]:
    """The metrics that every test has, in the card's order."""
    return [key for key in METRICS if tests and all(test.results.get(key) is not None for test in tests)]


def failures(evaluation: PerImageTable) -> str:
    """Groups of images that fare worse, and the worst images."""
    parts, groups = [], all_groups(evaluation)
    names, ids = [readable(name) for name in evaluation.classes], evaluation.image_ids
    jaccard = evaluation.overlap.get('JA', np.full(len(evaluation), np.nan))
    if groups:
        low = np.where(np.isnan(jaccard), np.nan, jaccard < THRESHOLD)
        forms = [(jaccard, '{:.3f}'), (low, '{:.0%}'), (evaluation.right, '{:.0%}')]
        rows = []
        for name, chosen in groups.items():
            means = [
                '–' if np.isnan(values[chosen]).all() else form.format(np.nanmean(values[chosen]))
                for values, form in forms
            ]
            rows.append([name, str(chosen.sum()), *means])
        head = ['group', 'images', 'JA', f'outlines with JA below {THRESHOLD}', 'right diagnoses']
        parts.append(markdown_table(head, rows))
        parts.append("Small, medium and large are thirds of the images, by the true lesion's share of the image.")
    if evaluation.judged.any():
        head = ['true', *(f'called {name}' for name in names)]
        counts = [[name, *map(str, row)] for name, row in zip(names, confusion(evaluation)[0], strict=True)]
        parts.append(f'Diagnoses, by what was found:\n\n{markdown_table(head, counts)}')
        scores = evaluation.scores.max(axis=1)
        errors = []
        for image in worst(np.where(evaluation.right == 0, -scores, np.nan)):
            true, called = (names[int(labels[image])] for labels in (evaluation.labels, evaluation.predicted))
            errors.append(f'{ids[image]} ({true} called {called} at {scores[image]:.2f})')
        parts.append(f'The most confident wrong diagnoses: {", ".join(errors) or "none"}.')
    if evaluation.outlined.any():
        outlines = [f'{ids[image]} (JA {jaccard[image]:.2f})' for image in worst(jaccard)]
        parts.append(f'The worst outlines: {", ".join(outlines) or "none"}.')
    return '\n\n'.join(parts)


def worst(scores: np.ndarray) -> list[int]:
    """The few images with the lowest ``scores`` (N,); those with nan are passed over."""
    return [int(image) for image in np.argsort(scores) if not np.isnan(scores[image])][:NUM_WORST]


def listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    *first, last = map(readable, names)
    return f'{", ".join(first)} and {last}' if first else last
