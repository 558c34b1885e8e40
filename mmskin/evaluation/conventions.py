"""One set of predictions under every convention of scoring that papers on skin lesions use.

Papers with the same metric's name score differently: they average over images or pool the pixels of all, count the
background as a class, score at the image's size or at the network's, choose a threshold or an epoch on the test set.
Each convention here names who uses it and where that can be read; it was read there, in code or on the page.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from sklearn.metrics import roc_auc_score

from mmskin.datasets.isic2017 import by_id, files_in, index_masks
from mmskin.datasets.tables import read_labels
from mmskin.errors import MissingFile, Mistake
from mmskin.evaluation.classification import average_precision
from mmskin.evaluation.per_image import mean_of_defined
from mmskin.evaluation.segmentation import confusion_scores
from mmskin.files import markdown_table, number_in, read_csv, signed
from mmskin.readers.masks import read_levels, read_mask

__all__ = [
    'DIAGNOSES',
    'OUTLINES',
    'Convention',
    'Diagnoses',
    'Outlines',
    'compare',
    'read_predictions',
    'score_tables',
]

LEVELS = 256  # of a stored probability
ALIKE = 0.0015  # what tables of three digits do not show
HALF = 128  # the first level above one half
OWN = 'own'
SMALL = {OWN: None, '256x192': (256, 192), '256x256': (256, 256)}  # (width, height)
CLASSES = ('melanoma', 'nevus', 'seborrheic_keratosis')


@dataclass(frozen=True)
class Outlines:
    """What N predicted outlines have in common with the true ones, at every threshold.

    Attributes:
        inside: By size ('own', '256x192', '256x256'): how many true pixels of lesion have each level (N, 256).
        outside: Likewise, pixels of background.
        graded: Whether the levels are probabilities; masks have only 0 and 255.
    """

    inside: dict[str, np.ndarray]
    outside: dict[str, np.ndarray]
    graded: bool

    def counts(self, level: int = HALF, size: str = OWN) -> np.ndarray:
        """TP, FP, FN and TN (N, 4) if what is at ``level`` or above is called lesion."""
        inside, outside = self.inside[size], self.outside[size]
        found = inside[:, level:].sum(1), outside[:, level:].sum(1)
        return np.stack([*found, inside.sum(1) - found[0], outside.sum(1) - found[1]], axis=1)


@dataclass(frozen=True)
class Diagnoses:
    """Probabilities (N, 3) of melanoma, nevus and seborrheic keratosis, and labels (N,)."""

    scores: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Convention:
    """A way of scoring.

    Attributes:
        name: In few words.
        how: What it does, and what that means for a table.
        papers: Who uses it, by name; where that can be read.
        score: From ``Outlines`` to JA, DI and AC, or from ``Diagnoses`` to what its papers print.
        needs: 'probabilities' where masks alone do not do.
        on_test: Whether something is chosen on the images that are scored.
    """

    name: str
    how: str
    papers: Mapping[str, str]
    score: Callable[..., dict[str, float]]
    needs: str = 'masks'
    on_test: bool = False


def per_image(outlines: Outlines, level: int = HALF, size: str = OWN, floor: float = 0.0) -> dict[str, float]:
    """Means over images; a Jaccard index below ``floor`` counts as 0. Undefined scores are left out."""
    rows = [confusion_scores(*map(int, counts)) for counts in outlines.counts(level, size)]
    overlaps = [row['JA'] if math.isnan(row['JA']) or row['JA'] >= floor else 0.0 for row in rows]
    return {'JA': mean_of_defined(overlaps), **{key: mean_of_defined(row[key] for row in rows) for key in ('DI', 'AC')}}


def pooled(outlines: Outlines, level: int = HALF, size: str = '256x256') -> dict[str, float]:
    """Scores of the pixels of all images together: large lesions count for more."""
    scores = confusion_scores(*map(int, outlines.counts(level, size).sum(0)))
    return {key: scores[key] for key in ('JA', 'DI', 'AC')}


def with_background(outlines: Outlines) -> dict[str, float]:
    """The means of lesion's and background's pooled scores, at the images' own size."""
    tp, fp, fn, tn = map(int, outlines.counts().sum(0))
    both = [confusion_scores(tp, fp, fn, tn), confusion_scores(tn, fn, fp, tp)]
    return {key: mean_of_defined(one[key] for one in both) for key in ('JA', 'DI')} | {'AC': both[0]['AC']}


def pixels_as_jaccard(outlines: Outlines) -> dict[str, float]:
    """The share of pixels that are right, printed as the Jaccard index."""
    scores = pooled(outlines)
    return {**scores, 'JA': scores['AC']}


def best_threshold(outlines: Outlines) -> dict[str, float]:
    """Per image, at the threshold that is best for these images."""
    return max((per_image(outlines, level) for level in range(8, LEVELS, 8)), key=lambda one: one['JA'])


def three_classes(found: Diagnoses) -> dict[str, float]:
    """Accuracy of the likeliest of three classes, and the mean of their average precisions."""
    right = found.scores.argmax(1) == found.labels
    return {'AC': float(right.mean()), 'mAP': mean_of_defined(average_precision(found.scores, found.labels))}


def two_binary_tasks(found: Diagnoses) -> dict[str, float]:
    """Melanoma, and keratosis, each against the rest, called above one half; means of the two tasks."""
    values: dict[str, list[float]] = {'AC': [], 'AUC': []}
    for index in (0, 2):
        truth, score = found.labels == index, found.scores[:, index]
        values['AC'].append(float((truth == (score > 0.5)).mean()))
        values['AUC'].append(float(roc_auc_score(truth, score)) if 0 < truth.sum() < len(truth) else math.nan)
    return {key: mean_of_defined(both) for key, both in values.items()}


def balanced(found: Diagnoses) -> dict[str, float]:
    """The mean of the classes' sensitivities."""
    predicted = found.scores.argmax(1)
    recalls = [float((predicted[found.labels == one] == one).mean()) for one in np.unique(found.labels)]
    return {'AC': mean_of_defined(recalls)}


def best_thresholds(found: Diagnoses) -> dict[str, float]:
    """The two binary tasks' accuracy, each at the threshold that is best on these images."""
    best = []
    for index in (0, 2):
        truth, score = found.labels == index, found.scores[:, index]
        best.append(max(float((truth == (score > cut)).mean()) for cut in np.append(np.unique(score), -1.0)))
    return {'AC': mean_of_defined(best)}


OUTLINES = (
    Convention(
        'per image',
        'the mean over images at their own size, threshold 0.5; mmskin',
        {
            'ISIC 2017': 'https://arxiv.org/abs/1710.05006, scoreP1.py of its scorer',
            'Chen 2018': "the feature-passing paper: 'we adopted the challenge evaluation metrics'",
        },
        per_image,
    ),
    Convention(
        'per image, 0 below .65',
        "as the first, but an image's JA below .65 counts as 0; lower by as much as outlines fail",
        {'ISIC 2018': 'binary_threshold_jaccard in https://github.com/ImageMarkup/isic-challenge-scoring'},
        lambda outlines: per_image(outlines, floor=0.65),
    ),
    Convention(
        'per image, 256 x 192',
        'as the first, but predictions and masks are scored at 256 x 192 pixels',
        {'TransFuse': 'test_isic.py and process.py in https://github.com/Rayicer/TransFuse'},
        lambda outlines: per_image(outlines, size='256x192'),
    ),
    Convention(
        'pooled pixels, 256 x 256',
        'one index for the pixels of all images, so that large lesions count for more; the epoch with the lowest loss '
        'on the tested images is taken, and ISIC-2017 is split 7:3 in another way',
        {'EGE-UNet': 'engine.py and train.py in https://github.com/JCruan519/EGE-UNet'},
        pooled,
        on_test=True,
    ),
    Convention(
        'pooled pixels, with background',
        'the mean of the index of lesion and that of background, which is the easier',
        {'mmsegmentation': 'mIoU of its IoUMetric, in tables made with that library'},
        with_background,
    ),
    Convention(
        'share of pixels right',
        "printed as Jaccard index: scikit-learn's jaccard_similarity_score was, for two classes, the accuracy",
        {'BCDU-Net': 'Skin Lesion Segmentation/evaluate.py in https://github.com/rezazad68/BCDU-Net'},
        pixels_as_jaccard,
    ),
    Convention(
        'per image, best threshold',
        'as the first, at the threshold that is best on the tested images: what choosing it there adds',
        {},
        best_threshold,
        needs='probabilities',
        on_test=True,
    ),
)
DIAGNOSES = (
    Convention(
        'three classes',
        'the likeliest of three classes; mean of three average precisions; mmskin',
        {'Chen 2018': "the feature-passing paper: 'multi-class classification (3 categories)'"},
        three_classes,
    ),
    Convention(
        'two binary tasks',
        'melanoma and keratosis, each against the rest, at 0.5; means of both; calling nothing is right for most',
        {'ISIC 2017': 'https://arxiv.org/abs/1710.05006, scoreP3.py of its scorer'},
        two_binary_tasks,
    ),
    Convention(
        'balanced',
        "the mean of the classes' sensitivities",
        {'ISIC 2018': 'balanced_multiclass_accuracy in https://github.com/ImageMarkup/isic-challenge-scoring'},
        balanced,
    ),
    Convention(
        'two binary tasks, best thresholds',
        'as the second, at the thresholds that are best on the tested images: what choosing them there adds',
        {},
        best_thresholds,
        on_test=True,
    ),
)


@dataclass(frozen=True)
class Predictions:
    """What a folder of predictions holds of the images that have a ground truth."""

    name: str
    num_images: int
    outlines: Outlines | None = None
    diagnoses: Diagnoses | None = field(default=None)


def read_predictions(folder: str | Path, masks: str | Path | None, labels: str | Path | None) -> Predictions:
    """Read what ``mmskin predict`` or another program wrote, and compare it with the ground truth.

    Args:
        folder: With ``probabilities/<image id>.png`` (``mmskin predict --probabilities``), or else
            ``masks/<image id>_segmentation.png`` or such masks themselves; and ``predictions.csv``.
        masks: The folder of the true ones.
        labels: The table of the diagnoses, as the challenge has it.

    Raises:
        MissingFile: if the folder has nothing to score.
        Mistake: if an image with a ground truth has no prediction, or a file is none of its kind.
    """
    folder = Path(folder)
    outlines = _read_outlines(folder, Path(masks)) if masks else None
    table = folder / 'predictions.csv'
    diagnoses = _read_diagnoses(table, Path(labels)) if labels and table.is_file() else None
    if outlines is None and diagnoses is None:
        raise MissingFile(
            f'{folder}: has neither probabilities/, masks nor predictions.csv to score; mmskin predict writes them'
        )
    count = len(outlines.inside[OWN]) if outlines else len(diagnoses.labels)  # type: ignore[union-attr]
    return Predictions(str(folder), count, outlines, diagnoses)


def _read_outlines(folder: Path, truth: Path) -> Outlines | None:
    graded = (folder / 'probabilities').is_dir()
    if graded:
        files = (file for file in files_in(folder / 'probabilities') if file.suffix == '.png')
        predicted = by_id(folder, ((file.stem, file) for file in files))
    else:
        place = folder / 'masks' if (folder / 'masks').is_dir() else folder
        predicted = index_masks(place) if place.is_dir() else {}
        if not predicted:
            return None
    true = index_masks(truth)
    if not true:
        raise Mistake(f'{truth}: no true mask there, named <image id>_segmentation.png')
    if missing := sorted(true.keys() - predicted.keys()):
        raise Mistake(f'{folder}: {missing[0]} has a true mask in {truth} but no prediction ({len(missing)} such)')
    inside: dict[str, list[np.ndarray]] = {size: [] for size in SMALL}
    outside: dict[str, list[np.ndarray]] = {size: [] for size in SMALL}
    for image_id, path in sorted(true.items()):
        mask, levels = read_mask(path), (read_levels if graded else read_mask)(predicted[image_id])
        if graded and levels.dtype != np.uint8:
            raise Mistake(f'{predicted[image_id]}: has more than 8 bits; write a probability as 0 to 255')
        if levels.shape != mask.shape:
            raise Mistake(f'{predicted[image_id]}: of size {levels.shape}, and the true mask of {mask.shape}')
        levels = levels if graded else np.uint8(255) * levels
        for name, size in SMALL.items():
            one, other = levels, mask
            if size is not None:
                one = cv2.resize(levels, size, interpolation=cv2.INTER_AREA if graded else cv2.INTER_NEAREST)
                other = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
            inside[name].append(np.bincount(one[other > 0], minlength=LEVELS))
            outside[name].append(np.bincount(one[other == 0], minlength=LEVELS))
    found = Outlines({k: np.array(v) for k, v in inside.items()}, {k: np.array(v) for k, v in outside.items()}, graded)
    seen = np.flatnonzero(found.inside[OWN].sum(0) + found.outside[OWN].sum(0))
    if seen.max() == 1:
        raise Mistake(f'{folder / "probabilities"}: no level is above 1; write a probability as 0 to 255')
    return found


def _read_diagnoses(table: Path, truth: Path) -> Diagnoses:
    labels = {image_id: label for image_id, label in read_labels(truth).items() if label is not None}
    if not labels:
        raise Mistake(f'{truth}: has no image with a diagnosis')
    found: dict[str, list[float]] = {}
    try:
        for row in read_csv(table):
            if row['image_id'] in found:
                raise Mistake(f'the id {row["image_id"]} occurs twice; keep one row')
            found[row['image_id']] = [number_in(row[name]) for name in CLASSES]
            if not all(0 <= value <= 1 for value in found[row['image_id']]):
                raise Mistake(f'{row["image_id"]} has {found[row["image_id"]]}, and a probability is from 0 to 1')
    except (KeyError, ValueError) as error:
        raise Mistake(
            f'{table}: needs image_id and a probability for each of {", ".join(CLASSES)} ({error})'
        ) from error
    if missing := sorted(labels.keys() - found.keys()):
        raise Mistake(f'{table}: {missing[0]} has a diagnosis in {truth} but no prediction ({len(missing)} such)')
    order = sorted(labels)
    return Diagnoses(np.array([found[one] for one in order]), np.array([labels[one] for one in order]))


def score_tables(sets: Sequence[Predictions]) -> str:
    """Every convention's scores of every set of predictions, in Markdown, and which tables cannot be compared.

    With several sets, such as epochs or seeds, there is what choosing the best of them on these images would give.
    """
    parts = []
    for title, conventions, what in (('Outlines', OUTLINES, 'outlines'), ('Diagnoses', DIAGNOSES, 'diagnoses')):
        held = [(one.name, one.num_images, getattr(one, what)) for one in sets if getattr(one, what) is not None]
        if held:
            parts.append(_table(title, conventions, held))
    return '\n\n'.join(parts) + '\n'


def _table(title: str, conventions: Sequence[Convention], held: Sequence[tuple]) -> str:
    rows, warnings = [], []
    names: list[str] = []
    for convention in conventions:
        if convention.needs == 'probabilities' and not all(found.graded for *_, found in held):
            warnings.append(f'- {convention.name}: left out, it needs probabilities (mmskin predict --probabilities).')
            continue
        scores = [convention.score(found) for *_, found in held]
        names += [name for name in scores[0] if name not in names]
        lead = [_cells(one, names) for one in scores]
        rows += [(convention.name, name, lead[i], convention) for i, (name, *_) in enumerate(held)]
        if len(held) > 1:
            first = next(iter(scores[0]))
            best = max(scores, key=lambda one: one[first])
            rows.append((convention.name, f'best of {len(held)} on these images', _cells(best, names), convention))
    several = len(held) > 1
    body = [
        (
            name,
            *([which] if several else []),
            *(cells.get(key, '–') for key in names),
            ', '.join(one.papers) or '–',
        )
        for name, which, cells, one in rows
    ]
    head = ['convention', *(['predictions'] if several else []), *names, 'used by']
    lines = [f'## {title}, {held[0][1]} images', '', markdown_table(head, body), '']
    for convention in conventions:
        read = '; '.join(f'{who}: {where}' for who, where in convention.papers.items())
        lines.append(
            f'- **{convention.name}**: {convention.how}.'
            + (f' Read in {read}.' if read else ' No paper is known to us.')
        )
    base, found = conventions[0], held[0][-1]
    own = base.score(found)
    lines += ['', *warnings]
    for convention in conventions[1:]:
        if convention.needs == 'probabilities' and not found.graded:
            continue
        other = convention.score(found)
        moved = {key: other[key] - own[key] for key in other if key in own}
        shown = ', '.join(f'{key} {signed(change)[0]}' for key, change in moved.items())
        if max(map(abs, moved.values())) < ALIKE:
            lines.append(f'- "{convention.name}" and "{base.name}" agree on these predictions ({shown}).')
        else:
            lines.append(
                f'- **Warning**: a table by "{convention.name}" cannot be compared with one by "{base.name}": the same '
                f'predictions have {shown} there.'
            )
    return '\n'.join(lines)


def _cells(scores: Mapping[str, float], names: Sequence[str]) -> dict[str, str]:
    return {name: f'{scores[name]:.3f}' for name in names if name in scores}


def compare(first: str, second: str, found: Predictions) -> str:
    """Whether the tables of two papers can be compared, judged by what both conventions say of the same predictions.

    Raises:
        Mistake: if a paper is not among those whose convention is known.
    """
    pairs = [(outline, found.outlines) for outline in OUTLINES] + [(one, found.diagnoses) for one in DIAGNOSES]
    known = sorted({who for convention, _ in pairs for who in convention.papers})
    if unknown := [who for who in (first, second) if who not in known]:
        raise Mistake(f'{unknown[0]}: its convention is not known here; known are {", ".join(known)}')
    lines = []
    for kind in (OUTLINES, DIAGNOSES):
        predictions = found.outlines if kind is OUTLINES else found.diagnoses
        one, other = (next((each for each in kind if who in each.papers), None) for who in (first, second))
        if predictions is None or one is None or other is None:
            continue
        what = 'outlines' if kind is OUTLINES else 'diagnoses'
        if one is other:
            chosen = ' Both choose on the tested images.' if one.on_test else ''
            lines.append(f'{what}: {first} and {second} score alike ({one.name}).{chosen}')
            continue
        scores = one.score(predictions), other.score(predictions)
        shared = [key for key in scores[0] if key in scores[1]]
        apart = ', '.join(f'{key} {scores[0][key]:.3f} and {scores[1][key]:.3f}' for key in shared)
        lines.append(
            f'{what}: warning, the tables of {first} ({one.name}) and {second} ({other.name}) cannot be compared: the '
            f'same predictions have {apart}.'
        )
    return '\n'.join(lines) or f'{first} and {second} score nothing in common that these predictions have'
