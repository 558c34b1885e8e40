"""The card of a published model: what it is for, how well it does, and where it fails."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from mmengine.config import Config

import mmskin
from mmskin.apis.config import class_names, innermost_datasets
from mmskin.apis.zoo import ModelFolder
from mmskin.benchmark.collect import NUM_RESAMPLES
from mmskin.benchmark.metrics import Columns, agreement, read_columns, resampled_metric
from mmskin.benchmark.report import table
from mmskin.benchmark.statistics import LEVEL, image_counts, interval
from mmskin.engine.weights import HASH, read_metadata

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
LIMITS = """- It has seen dermoscopic images of one lesion each. Photographs without a dermatoscope, several lesions and
  other devices are outside what was measured.
- The ISIC archive shows mostly fair skin. How well the model does on dark skin was not measured.
- Rulers, coloured patches, gel bubbles, hair and dark corners go along with the diagnosis in these data, and the model
  may have learnt that they do.
- Probabilities are not calibrated: 0.9 does not mean nine times out of ten."""
ISIC2017 = """Training split of the ISIC-2017 challenge: 2000 dermoscopic images with outline and diagnosis, of which
374 are melanomas, 1372 nevi and 254 seborrheic keratoses (<https://challenge.isic-archive.com/data/#2017>,
<https://arxiv.org/abs/1710.05006>). The ISIC archive released images and ground truth under CC0 1.0. Models were chosen
on the validation split (150 images), so figures on it are a little better than those on images never seen will be."""


class ModelTest(NamedTuple):
    """What ``tools/test.py`` found.

    Attributes:
        title: Heads the column, such as 'flips at test time'.
        options: Of the command, such as ``--tta``.
        results: From ``results.json``.
        image_ids: From ``per_image.csv``, as are the columns, arrays (N,).
    """

    title: str
    options: str
    results: dict[str, float | None]
    image_ids: list[str]
    columns: Columns


class Recipe(NamedTuple):
    """What the files do not say of a model."""

    command: str
    text: str = ''
    split: str = 'val'
    licence: str = 'apache-2.0'


def read_test(results: str | Path, title: str, options: str = '') -> ModelTest:
    """Read a test's ``results.json`` and the ``per_image.csv`` beside it.

    Raises:
        FileNotFoundError: if one of them is missing.
    """
    path = Path(results)
    for file in (path, path.with_name('per_image.csv')):
        if not file.is_file():
            raise FileNotFoundError(f'{file}: missing; tools/test.py writes it into its --work-dir')
    return ModelTest(title, options, json.loads(path.read_text()), *read_columns(path.with_name('per_image.csv')))


def model_card(folder: ModelFolder, cfg: Config, recipe: Recipe, tests: Sequence[ModelTest] = ()) -> str:
    """The card, in Markdown with Hugging Face's front matter (https://huggingface.co/docs/hub/model-cards).

    Args:
        folder: Whose weights are written already.
        cfg: The model's config.
        recipe: What is said about its training.
        tests: The failure cases are the first one's.
    """
    name, classes = folder.config.resolve().parent.name, class_names(cfg)
    sections = {
        '': f'{purpose(cfg)}\n\n{WARNING}',
        'Use': usage(name),
        'Data': ISIC2017 if dataset_name(cfg) == 'ISIC-2017' else f'{dataset_name(cfg)}.',
        'Training': f'```shell\n{recipe.command}\n```\n\n{recipe.text}'.strip(),
        'Results': results_section(recipe.split, tests) if tests else 'Not measured yet.',
        'Known failure cases': failures(tests[0], classes) if tests else 'Not looked for yet.',
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
        'dataset': {'type': dataset.lower(), 'name': dataset, 'split': recipe.split},
        'metrics': found,
    }
    head = {
        'license': recipe.licence,
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
    return forced + LIMITS


def task_types(cfg: Config) -> list[str]:
    """The types of the model's tasks."""
    return [task.type for task in cfg.model.get('tasks', {}).values()]


def dataset_name(cfg: Config) -> str:
    """What the data are called: as their folder, since the demo's synthetic lesions are laid out like ISIC-2017."""
    name = Path(next(innermost_datasets(cfg.test_dataloader)).data_root).name
    return 'ISIC-2017' if name.startswith('isic2017') else name


def usage(name: str) -> str:
    """How to predict with the model."""
    return f"""```python
from mmskin.apis import LesionInferencer

LesionInferencer('{name}')('photo.jpg')
```

A folder outside mmskin is named by its path. `config.py` is Python and runs as it is read: take it from people you
trust. `weights.safetensors` holds numbers only."""


def results_section(split: str, tests: Sequence[ModelTest]) -> str:
    """The table of metrics with intervals, and the command of each column."""
    head = ['', *(test.title for test in tests)]
    rows = [[METRICS[key], *(with_interval(key, test) for test in tests)] for key in shown_metrics(tests)]
    commands = [
        f'python tools/test.py config.py weights.safetensors --data-root DATA --split {split} {test.options}'.rstrip()
        for test in tests
    ]
    return (
        f'{len(tests[0].image_ids)} images of the split `{split}`, {LEVEL:.0%} bootstrap intervals over images.\n\n'
        f'{table(head, rows)}\n\n```shell\n' + '\n'.join(commands) + '\n```'
    )


def shown_metrics(tests: Sequence[ModelTest]) -> list[str]:
    """The metrics that every test has, in the card's order."""
    return [key for key in METRICS if tests and all(test.results.get(key) is not None for test in tests)]


def with_interval(key: str, test: ModelTest) -> str:
    """A metric as ``0.787 (0.765 to 0.808)``."""
    counts = image_counts(len(test.image_ids), NUM_RESAMPLES, np.random.default_rng(0))
    draws = resampled_metric(key, test.columns, counts)
    ends = '' if draws is None else ' ({:.3f} to {:.3f})'.format(*interval(draws))
    return f'{test.results[key]:.3f}{ends}'


def failures(test: ModelTest, classes: Sequence[str]) -> str:
    """Groups of images that fare worse, and the worst images."""
    columns, parts = test.columns, []
    groups = {**groups_by_class(columns, classes), **groups_by_size(columns)}
    if groups:
        head = ['images', 'number', 'JA', 'outlines with JA below 0.65', 'right diagnoses']
        parts.append(table(head, [group_row(name, chosen, columns) for name, chosen in groups.items()]))
    if {'cls/gt_label', 'cls/pred_label'} <= columns.keys():
        parts.append('Diagnoses, by what was found:\n\n' + confusion(columns, classes))
        parts.append('The most confident wrong diagnoses: ' + confident_errors(test, classes) + '.')
    if 'seg/JA' in columns:
        parts.append('The worst outlines: ' + worst_outlines(test) + '.')
    return '\n\n'.join(parts)


def groups_by_class(columns: Columns, classes: Sequence[str]) -> dict[str, np.ndarray]:
    """The images (N,) of each class."""
    if 'cls/gt_label' not in columns:
        return {}
    return {spelled(name): columns['cls/gt_label'] == index for index, name in enumerate(classes)}


def groups_by_size(columns: Columns) -> dict[str, np.ndarray]:
    """The images (N,) in thirds, by the true lesion's share of the image."""
    share = columns.get('seg/lesion_share')
    if share is None:
        return {}
    low, high = np.nanquantile(share, [1 / 3, 2 / 3])
    return {
        f'lesion below {low:.0%} of the image': share < low,
        f'lesion of {low:.0%} to {high:.0%}': (share >= low) & (share < high),
        f'lesion above {high:.0%}': share >= high,
    }


def group_row(name: str, chosen: np.ndarray, columns: Columns) -> list[str]:
    """The cells of one group of images."""
    scores = columns.get('seg/JA', np.full(len(chosen), np.nan))[chosen]
    right = agreement(columns)[chosen] if 'cls/pred_label' in columns else np.full(chosen.sum(), np.nan)
    low = np.where(np.isnan(scores), np.nan, scores < 0.65)  # the challenge of 2018 counts an outline below it as none
    return [name, str(chosen.sum()), mean_cell(scores, '{:.3f}'), mean_cell(low, '{:.0%}'), mean_cell(right, '{:.0%}')]


def mean_cell(values: np.ndarray, form: str) -> str:
    """The mean of the defined values, or a dash."""
    return '–' if np.isnan(values).all() else form.format(np.nanmean(values))


def confusion(columns: Columns, classes: Sequence[str]) -> str:
    """Numbers of images by true (rows) and predicted class."""
    pairs = list(zip(columns['cls/gt_label'], columns['cls/pred_label'], strict=True))
    head = ['true', *(f'called {spelled(name)}' for name in classes)]
    rows = [[spelled(name), *(str(pairs.count((i, j))) for j in range(len(classes)))] for i, name in enumerate(classes)]
    return table(head, rows)


def confident_errors(test: ModelTest, classes: Sequence[str]) -> str:
    """The wrong diagnoses with the highest probability."""
    columns = test.columns
    scores = np.array([columns[f'cls/score_{name}'] for name in classes]).max(axis=0)

    def words(image: int) -> str:
        true, called = (spelled(classes[int(columns[f'cls/{kind}_label'][image])]) for kind in ('gt', 'pred'))
        return f'{test.image_ids[image]} ({true} called {called} at {scores[image]:.2f})'

    return worst(np.where(agreement(columns) == 0, -scores, np.nan), words)


def worst_outlines(test: ModelTest) -> str:
    """The images with the lowest JA."""
    scores = test.columns['seg/JA']
    return worst(scores, lambda image: f'{test.image_ids[image]} (JA {scores[image]:.2f})')


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


def spelled(name: str) -> str:
    """A class as a reader writes it."""
    return name.replace('_', ' ')


def listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    *first, last = map(spelled, names)
    return f'{", ".join(first)} and {last}' if first else last
