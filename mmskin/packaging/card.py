"""The card of a published model: what it is for, how well it does, and where it fails."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from mmengine.config import Config

import mmskin
from mmskin.config import class_names, tested_dataset
from mmskin.drawing import readable
from mmskin.errors import Mistake
from mmskin.evaluation.per_image import PerImageTable
from mmskin.evaluation.statistics import LEVEL, Estimate
from mmskin.files import markdown_table, read_json
from mmskin.inference.zoo import ModelFolder
from mmskin.models.weights import HASH, read_metadata
from mmskin.registry import MODELS
from mmskin.report.figures import THRESHOLD, confusion
from mmskin.report.page import all_groups, class_areas, headline

__all__ = ['Recipe', 'ModelTest', 'model_card', 'read_test']

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
WARNING = '**Not a medical device.** For research and teaching: no diagnosis or treatment may rest on what it says.'
FORCED = '- Every image is forced into one of {classes}; there is no "none of these".\n'
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
    """What ``tools/test.py`` found.

    Attributes:
        title: Heads the column, such as 'flips at test time'.
        options: Of the command, such as ``--tta``.
        split: The part of the data.
        results: From ``results.json``.
        evaluation: From the files beside it.
    """

    title: str
    options: str
    split: str
    results: dict[str, float | None]
    evaluation: PerImageTable


class Recipe(NamedTuple):
    """What the files do not say of a model."""

    command: str
    text: str = ''
    license: str = 'apache-2.0'


def read_test(results: str | Path, tta: bool) -> ModelTest:
    """Read a test's ``results.json`` and the files beside it.

    Args:
        results: The file.
        tta: Whether it is a test with several views averaged.

    Raises:
        MissingFile: if a file is missing.
        Mistake: if a file is damaged, or the test was made otherwise than ``tta`` says.
    """
    path = Path(results)
    title, option = ('views averaged', '--tta') if tta else ('plain', '--no-tta')
    values = read_json(path)
    note = read_json(path.with_name('test.json'))
    if note['test-time augmentation'].startswith('yes') != tta:
        raise Mistake(f'{path}: the test was made without {option}; test again')
    split = note.get('split') or 'unknown'
    return ModelTest(title, option, split, values, PerImageTable.read(path.parent))


def model_card(folder: ModelFolder, cfg: Config, recipe: Recipe, tests: Sequence[ModelTest] = ()) -> str:
    """The card, in Markdown with Hugging Face's front matter (https://huggingface.co/docs/hub/model-cards).

    Args:
        folder: Whose weights are written already.
        cfg: The model's config.
        recipe: What is said about its training.
        tests: The failure cases are the first one's.
    """
    name = folder.config.resolve().parent.name
    sections = {
        '': f'{purpose(cfg)}\n\n{WARNING}',
        'Use': usage(name),
        'Data': ISIC2017 if dataset_name(cfg) == 'ISIC-2017' else f'{dataset_name(cfg)}.',
        'Training': f'```shell\n{recipe.command}\n```\n\n{recipe.text}'.strip(),
        'Results': results_section(tests) if tests else 'Not measured yet.',
        'Known failure cases': known_failures(tests),
        'Intended use and limits': f'{WARNING}\n\n{limits(cfg)}',
        'Files': files_section(folder),
    }
    body = [f'## {title}\n\n{text}' if title else f'# {name}\n\n{text}' for title, text in sections.items()]
    return front_matter(name, cfg, recipe, tests) + '\n\n'.join(body) + '\n'


def front_matter(name: str, cfg: Config, recipe: Recipe, tests: Sequence[ModelTest]) -> str:
    """The machine-readable head; the metrics are the first test's."""
    dataset = dataset_name(cfg)
    shown = shown_metrics(tests[:1])
    found = [{'type': key, 'name': METRICS[key], 'value': round(float(tests[0].results[key] or 0), 4)} for key in shown]
    result = {
        'task': {'type': 'image-segmentation', 'name': 'Skin lesion outline and diagnosis'},
        'dataset': {'type': dataset.lower(), 'name': dataset, 'split': tests[0].split if tests else ''},
        'metrics': found,
    }
    head = {
        'license': recipe.license,
        'library_name': 'mmskin',
        'pipeline_tag': 'image-segmentation',
        'tags': ['dermoscopy', 'skin-lesion', 'melanoma', 'multi-task', 'image-classification', 'image-segmentation'],
        'datasets': [dataset.lower()],
        'metrics': shown,
        **({'model-index': [{'name': name, 'results': [result]}]} if found else {}),
    }
    return f'---\n{yaml.safe_dump(head, sort_keys=False)}---\n\n'


def purpose(cfg: Config) -> str:
    """What the model does, by its tasks."""
    kinds = task_types(cfg)
    does = ['outlines the lesion in a dermoscopic image'] if 'Segmentation' in kinds else []
    does += [f'tells {listed(class_names(cfg))} apart'] if 'Classification' in kinds else []
    return f'This network {" and ".join(does) or "analyses dermoscopic images"}.'


def limits(cfg: Config) -> str:
    """What the model cannot do."""
    forced = FORCED.format(classes=listed(class_names(cfg))) if 'Classification' in task_types(cfg) else ''
    return forced + (LIMITS_OF_ISIC2017 if dataset_name(cfg) == 'ISIC-2017' else '') + LIMITS


def task_types(cfg: Config) -> list[str]:
    """The types of the model's tasks."""
    return [MODELS.get(task.type).__name__ for task in cfg.model.get('tasks', {}).values()]


def dataset_name(cfg: Config) -> str:
    """What the data are called: as their folder, since the demo's synthetic lesions are laid out like ISIC-2017."""
    name = Path(tested_dataset(cfg).get('data_root') or 'data of your own').name
    return 'ISIC-2017' if name.startswith('isic2017') else name


def usage(name: str) -> str:
    """How to predict with the model."""
    return f"""```python
from mmskin import LesionInferencer

LesionInferencer('{name}')('photo.jpg')
```

A folder outside mmskin is named by its path. `config.py` is Python and runs as it is read: take it from people you
trust. `weights.safetensors` holds numbers only."""


def results_section(tests: Sequence[ModelTest]) -> str:
    """The table of metrics with intervals, and the command of each column."""
    head, found = ['', *(test.title for test in tests)], [intervals(test.evaluation) for test in tests]
    rows = [
        [
            METRICS[key],
            *(with_interval(test.results[key], one.get(key)) for test, one in zip(tests, found, strict=True)),
        ]
        for key in shown_metrics(tests)
    ]
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


def intervals(evaluation: PerImageTable) -> dict[str, Estimate]:
    """The estimates of the evaluation report, by the keys of ``results.json``."""
    areas = class_areas(evaluation, 'AUC')
    return headline(evaluation) | {f'cls/AUC_{name}': area for name, area in areas.items()}


def with_interval(value: float | None, found: Estimate | None) -> str:
    """A metric as ``0.787 (0.765 to 0.808)``."""
    ends = '' if found is None or math.isnan(found.low) else f' ({found.low:.3f} to {found.high:.3f})'
    return f'{value:.3f}{ends}'


def known_failures(tests: Sequence[ModelTest]) -> str:
    """Those of the first test."""
    return f'{tests[0].title.capitalize()}:\n\n{failures(tests[0].evaluation)}' if tests else 'Not looked for yet.'


def failures(evaluation: PerImageTable) -> str:
    """Groups of images that fare worse, and the worst images."""
    parts, groups = [], all_groups(evaluation)
    if groups:
        head = ['group', 'images', 'JA', f'outlines with JA below {THRESHOLD}', 'right diagnoses']
        parts.append(markdown_table(head, [group_row(name, chosen, evaluation) for name, chosen in groups.items()]))
        parts.append("Small, medium and large are thirds of the images, by the true lesion's share of the image.")
    if evaluation.judged.any():
        parts.append('Diagnoses, by what was found:\n\n' + confusion_table(evaluation))
        parts.append('The most confident wrong diagnoses: ' + confident_errors(evaluation) + '.')
    if evaluation.outlined.any():
        parts.append('The worst outlines: ' + worst_outlines(evaluation) + '.')
    return '\n\n'.join(parts)


def group_row(name: str, chosen: np.ndarray, evaluation: PerImageTable) -> list[str]:
    """The cells of one group of images."""
    scores, right = evaluation.overlap.get('JA', np.full(len(chosen), np.nan))[chosen], evaluation.right[chosen]
    low = np.where(np.isnan(scores), np.nan, scores < THRESHOLD)
    return [name, str(chosen.sum()), mean_cell(scores, '{:.3f}'), mean_cell(low, '{:.0%}'), mean_cell(right, '{:.0%}')]


def mean_cell(values: np.ndarray, form: str) -> str:
    """The mean of the defined values, or a dash."""
    return '–' if np.isnan(values).all() else form.format(np.nanmean(values))


def confusion_table(evaluation: PerImageTable) -> str:
    """Numbers of images by true (rows) and predicted class."""
    names, (counts, _) = [readable(name) for name in evaluation.classes], confusion(evaluation)
    head = ['true', *(f'called {name}' for name in names)]
    return markdown_table(head, [[name, *map(str, row)] for name, row in zip(names, counts, strict=True)])


def confident_errors(evaluation: PerImageTable) -> str:
    """The wrong diagnoses with the highest probability."""
    scores = evaluation.scores.max(axis=1)

    def words(image: int) -> str:
        true, called = (
            readable(evaluation.classes[int(labels[image])]) for labels in (evaluation.labels, evaluation.predicted)
        )
        return f'{evaluation.image_ids[image]} ({true} called {called} at {scores[image]:.2f})'

    return worst(np.where(evaluation.right == 0, -scores, np.nan), words)


def worst_outlines(evaluation: PerImageTable) -> str:
    """The images with the lowest JA."""
    scores = evaluation.overlap['JA']
    return worst(scores, lambda image: f'{evaluation.image_ids[image]} (JA {scores[image]:.2f})')


def worst(scores: np.ndarray, words: Callable[[int], str]) -> str:
    """The few images with the lowest ``scores`` (N,), in words; those with nan are passed over."""
    order = [int(image) for image in np.argsort(scores) if not np.isnan(scores[image])]
    return ', '.join(map(words, order[:NUM_WORST])) or 'none'


def files_section(folder: ModelFolder) -> str:
    """What is in the folder, and how to tell that it is whole."""
    metadata: dict[str, Any] = read_metadata(folder.weights)
    size = folder.weights.stat().st_size / 2**20
    return (
        f'Written by mmskin {mmskin.__version__}, format {metadata["format_version"]}. `weights.safetensors` holds '
        f'{size:.1f} MiB ({metadata["dtype"]}).\nSHA-256 of its tensors, which is checked whenever they are read: '
        f'`{metadata[HASH]}`.'
    )


def listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    *first, last = map(readable, names)
    return f'{", ".join(first)} and {last}' if first else last
