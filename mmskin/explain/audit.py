"""Shortcuts: what a diagnosis is worth where the lesion is gone, the background is, or what is next to it is.

In ISIC-2017 coloured patches appear next to nevi alone, and rulers, gel and dark corners go along with diagnoses, so
networks learn them; https://arxiv.org/abs/1904.08818 shows it by removing the lesion.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.figure import Figure

from mmskin.config import set_in_datasets, tested_dataset
from mmskin.drawing import read_thumbnail, save_figure
from mmskin.errors import Mistake
from mmskin.evaluation.statistics import NUM_RESAMPLES, image_counts, interval, weighted_auc, weighted_mean
from mmskin.files import markdown_table, readable, write_csv, write_note, write_unless_edited
from mmskin.inference.image_sources import ImageSource
from mmskin.inference.inferencer import LesionInferencer
from mmskin.inference.prediction import LesionPrediction
from mmskin.models.weights import stated_hash
from mmskin.readers.masks import read_mask
from mmskin.registry import DATASETS, checked

SIZE = 320  # pixels on the longer side; networks see fewer
MARGIN = 0.06  # by which a lesion is widened before it is painted over, as a share of the image's longer side


@dataclass(frozen=True)
class Variant:
    """A changed image.

    Attributes:
        name: As the table has it.
        meaning: What a good diagnosis on it says.
        change: From image, RGB (h, w, 3), and mask of the lesion (h, w), widened, to the changed image.
    """

    name: str
    meaning: str
    change: Callable[[np.ndarray, np.ndarray], np.ndarray]


def without_lesion(image: np.ndarray, lesion: np.ndarray) -> np.ndarray:
    """The lesion in the colour of the skin around it; its outline's shape is hidden by its box."""
    rows, columns = np.nonzero(lesion)
    if not len(rows):
        return image
    box = np.zeros_like(lesion)
    box[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
    return np.where(box[..., None], skin_of(image, lesion), image).astype(np.uint8)


def without_things(image: np.ndarray, lesion: np.ndarray) -> np.ndarray:
    """Patches, and the marks of rulers and hairs, painted over by what is around them; the lesion stays."""
    things = things_beside(image, lesion)
    return cv2.inpaint(image, things.astype(np.uint8), 5, cv2.INPAINT_TELEA) if things.any() else image


def with_patch(image: np.ndarray, lesion: np.ndarray) -> np.ndarray:
    """A blue and an orange patch in the two corners with the least lesion, as they lie next to nevi in ISIC-2017."""
    height, width = lesion.shape
    radius = int(0.16 * min(height, width))
    corners = [(y, x) for y in (0, height - 1) for x in (0, width - 1)]
    grid = np.mgrid[:height, :width]
    discs = [np.hypot(grid[0] - y, grid[1] - x) < 2 * radius for y, x in corners]
    order = sorted(range(4), key=lambda index: int((discs[index] & lesion).sum()))
    image = image.copy()
    for index, color in zip(order[:2], ((60, 120, 190), (230, 150, 60)), strict=True):
        image[discs[index] & ~lesion] = color
    return image


def tinted(gains: tuple[float, float, float]) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The image in another light, by gains of red, green and blue."""
    return lambda image, lesion: np.clip(image * np.array(gains) + 0.5, 0, 255).astype(np.uint8)


VARIANTS = (
    Variant('as it is', '', lambda image, lesion: image),
    Variant('background alone', 'anything better than chance comes from outside the lesion', without_lesion),
    Variant(
        'lesion alone',
        'what is lost came from outside the lesion, or from the skin around it',
        lambda image, lesion: np.where(lesion[..., None], image, skin_of(image, lesion)).astype(np.uint8),
    ),
    Variant('ruler, hair, patch painted over', 'what is lost came from them', without_things),
    Variant('patches added', 'what moves is what patches mean to the network', with_patch),
    Variant('warmer light', 'what moves depends on the lamp', tinted((1.10, 1.0, 0.82))),
    Variant('cooler light', 'likewise', tinted((0.88, 1.0, 1.16))),
)


def skin_of(image: np.ndarray, lesion: np.ndarray) -> np.ndarray:
    """The median colour (3,) outside the lesion, of pixels that are neither black nor a thing."""
    skin = ~lesion & (image.max(axis=2) > 60)
    outside = image[skin] if skin.sum() > 50 else image.reshape(-1, 3)
    return np.median(outside, axis=0)


def things_beside(image: np.ndarray, lesion: np.ndarray) -> np.ndarray:
    """Where there are patches, far from the skin in colour, or thin dark lines (h, w), outside the lesion."""
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float32)
    skin = lab[~lesion] if (~lesion).any() else lab.reshape(-1, 3)
    away = np.linalg.norm(lab[..., 1:] - np.median(skin, axis=0)[1:], axis=2)
    odd = (away > 22) & (image.max(axis=2) > 40)  # dark corners stay
    patches = cv2.morphologyEx(odd.astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    lines = (cv2.morphologyEx(grey, cv2.MORPH_BLACKHAT, np.ones((9, 9), np.uint8)) > 18).astype(np.uint8)
    return (cv2.dilate(np.maximum(patches, lines), np.ones((3, 3), np.uint8)) > 0) & ~lesion


@checked
def audit(
    inferencer: LesionInferencer, out_dir: str | Path, data_root: str | None = None, split: str | None = None
) -> Path:
    """Diagnose a test set's images and their changed versions, by what they show: inputs beside them are unknown.

    Args:
        inferencer: Whose config names the test set; images need a diagnosis, and an outline, true or else predicted.
        out_dir: Gets ``audit.md``, ``audit.json``, ``audit.csv`` with each image's probabilities, and ``audit.png``.
        data_root: In place of the config's.
        split: Likewise.

    Returns:
        The path of ``audit.md``.

    Raises:
        Mistake: if the network names no disease, or no image has a diagnosis.
    """
    if not inferencer.classes:
        raise Mistake('this network gives no diagnosis to audit')
    cfg = inferencer.cfg
    if data_root:
        set_in_datasets(cfg.test_dataloader, 'data_root', data_root)
    if split:
        set_in_datasets(cfg.test_dataloader, 'split', split)
    dataset = DATASETS.build(tested_dataset(cfg))
    samples = [info for info in map(dataset.get_data_info, range(len(dataset))) if 'gt_label' in info]
    if not samples:
        raise Mistake('no image of this test set has a diagnosis; name another split')
    labels = np.array([sample['gt_label'] for sample in samples])
    scores = {variant.name: np.empty((len(samples), len(inferencer.classes))) for variant in VARIANTS}
    painted = 0
    for index, sample in enumerate(samples):
        image, lesion = _image_and_lesion(inferencer, sample)
        painted += bool(things_beside(image, lesion).sum() > 0.002 * lesion.size)
        sources = [ImageSource(f'variant_{n}', v.change(image, lesion)) for n, v in enumerate(VARIANTS)]
        predictions = inferencer(sources)
        assert isinstance(predictions, list)
        for variant, prediction in zip(VARIANTS, predictions, strict=True):
            scores[variant.name][index] = list((prediction.probabilities or {}).values())
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    rows = _rows(scores, labels, inferencer.classes)
    tested = split or tested_dataset(cfg).get('split') or ''
    networks = ', '.join(map(stated_hash, inferencer.files))
    note = {'images': len(samples), 'split': tested, 'painted': painted, 'rows': rows, 'weights': networks}
    write_note(out_dir / 'audit.json', note)
    cells = [['image_id', 'gt_label', *(f'{name}/score_{kind}' for name in scores for kind in inferencer.classes)]]
    for index, sample in enumerate(samples):
        numbers = [f'{value:.6f}' for values in scores.values() for value in values[index]]
        cells.append([sample['image_id'], sample['gt_label'], *numbers])
    write_csv(out_dir / 'audit.csv', cells)
    table = write_unless_edited(out_dir / 'audit.md', audit_table(note))
    _draw(out_dir / 'audit.png', inferencer, samples, scores)
    return table


def _image_and_lesion(inferencer: LesionInferencer, sample: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """The image, at most ``SIZE`` pixels, and its lesion (h, w), widened: the true one, or else the predicted."""
    image = read_thumbnail(sample['img_path'], SIZE)
    height, width = image.shape[:2]
    if 'seg_map_path' in sample:
        mask = read_mask(sample['seg_map_path'])
    else:
        prediction = inferencer(ImageSource(sample['image_id'], image))
        assert isinstance(prediction, LesionPrediction), 'one source is one image'
        mask = np.zeros((height, width), np.uint8) if prediction.mask is None else prediction.mask.astype(np.uint8)
    mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
    side = 2 * round(MARGIN * max(height, width) / 2) + 1
    return image, cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))) > 0


def _rows(scores: Mapping[str, np.ndarray], labels: np.ndarray, classes: Sequence[str]) -> list[dict[str, Any]]:
    """What the table has of each variant."""
    counts = image_counts(len(labels), NUM_RESAMPLES, np.random.default_rng(0))
    plain = scores[VARIANTS[0].name]
    told_apart = [index for index in range(len(classes)) if 0 < (labels == index).sum() < len(labels)]
    rows = []
    for variant in VARIANTS:
        values = scores[variant.name]
        right = (values.argmax(axis=1) == labels).astype(float)
        areas = {
            index: weighted_auc(labels == index, values[:, index], np.vstack([np.ones_like(counts[:1]), counts]))
            for index in told_apart
        }
        mean = np.mean(list(areas.values()), axis=0) if areas else np.full(len(counts) + 1, np.nan)
        rows.append(
            {
                'variant': variant.name,
                'meaning': variant.meaning,
                'AC': float(right.mean()),
                'AC_interval': interval(weighted_mean(right, counts)),
                'AUC_mean': float(mean[0]),
                'AUC_mean_interval': interval(mean[1:]),
                **{f'AUC_{classes[index]}': float(area[0]) for index, area in areas.items()},
                'decided_otherwise': int((values.argmax(axis=1) != plain.argmax(axis=1)).sum()),
                'moved': float(np.abs(values - plain).max(axis=1).mean()),
                'most_called': float(np.bincount(values.argmax(axis=1)).max() / len(labels)),
            }
        )
    return rows


def audit_table(note: Mapping[str, Any]) -> str:
    """``audit.json`` in Markdown."""
    rows = note['rows']
    areas = [key for key in rows[0] if key.startswith('AUC_') and not key.startswith('AUC_mean')]
    names = [f'AUC, {readable(key[4:])}' for key in areas]
    head = ['image', 'accuracy', 'mean AUC', *names, 'decided otherwise', 'moved by']
    body = [
        (
            row['variant'],
            '{} ({} to {})'.format(*map(_three_digits, (row['AC'], *row['AC_interval']))),
            '{} ({} to {})'.format(*map(_three_digits, (row['AUC_mean'], *row['AUC_mean_interval']))),
            *(_three_digits(row[key]) for key in areas),
            str(row['decided_otherwise']),
            _three_digits(row['moved']),
        )
        for row in rows
    ]
    lines = [
        f'{note["images"]} images{" of the split `" + str(note["split"]) + "`" if note["split"] else ""}, with 95 % '
        'bootstrap intervals over images. Mean AUC: of each class against the rest; chance is 0.5. Moved: the mean '
        "over images of the largest change of any class's probability. "
        f'Something outside the lesion was painted over in {note["painted"]} images. '
        f'The class called most often is called on {rows[0]["most_called"]:.0%} of the images as they are.',
        '',
        markdown_table(head, body),
        '',
        *(f'- {row["variant"]}: {row["meaning"]}.' for row in rows if row['meaning']),
    ]
    return '\n'.join(lines) + '\n'


def _three_digits(value: float | None) -> str:
    """A number; ``nan`` for one that is undefined on images of a single class, which JSON knows as null."""
    return f'{math.nan if value is None else value:.3f}'


def _draw(
    path: Path, inferencer: LesionInferencer, samples: Sequence[Mapping], scores: Mapping[str, np.ndarray]
) -> None:
    """Images of each class that move most, changed in every way, with what is said of them."""
    plain = scores[VARIANTS[0].name]
    moved = np.max([np.abs(values - plain).max(axis=1) for values in scores.values()], axis=0)
    chosen = []
    for index in range(len(inferencer.classes)):
        members = [number for number, sample in enumerate(samples) if sample['gt_label'] == index]
        chosen += sorted(members, key=lambda number: -moved[number])[:2]
    figure = Figure(figsize=(1.75 * len(VARIANTS), 1.85 * len(chosen)), layout='constrained', dpi=110)
    grid = figure.subplots(len(chosen), len(VARIANTS), squeeze=False)
    for axes, number in zip(grid, chosen, strict=True):
        image, lesion = _image_and_lesion(inferencer, samples[number])
        for axis, variant in zip(axes, VARIANTS, strict=True):
            values = scores[variant.name][number]
            axis.imshow(variant.change(image, lesion))
            axis.set(xticks=[], yticks=[])
            axis.set_xlabel(f'{readable(inferencer.classes[int(values.argmax())])} {values.max():.2f}', fontsize=7)
        axes[0].set_ylabel(readable(inferencer.classes[samples[number]['gt_label']]), fontsize=8)
    for axis, variant in zip(grid[0], VARIANTS, strict=True):
        axis.set_title(variant.name, fontsize=7)
    save_figure(figure, path)
