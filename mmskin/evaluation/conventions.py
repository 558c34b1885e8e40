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
from mmskin.datasets.tables import CLASSES, read_labels, read_rows
from mmskin.errors import MissingFile, Mistake
from mmskin.evaluation.classification import average_precision
from mmskin.evaluation.per_image import mean_of_defined
from mmskin.evaluation.segmentation import confusion_scores
from mmskin.files import markdown_table, number_in, own_columns, signed
from mmskin.readers.masks import read_levels, read_mask
from mmskin.registry import checked

LEVELS = 256  # of a stored probability
ALIKE = 0.0015  # what tables of three digits do not show
HALF = 128  # the first level above one half
OWN = 'own'
SMALL = {OWN: None, '256x192': (256, 192), '256x256': (256, 256)}  # (width, height)


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
        hits, misses = inside[:, level:].sum(1), outside[:, level:].sum(1)
        return np.stack([hits, misses, inside.sum(1) - hits, outside.sum(1) - misses], axis=1)


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


def pooled(outlines: Outlines) -> dict[str, float]:
    """Scores of the pixels of all images together: large lesions count for more."""
    scores = confusion_scores(*map(int, outlines.counts(HALF, '256x256').sum(0)))
    return {key: scores[key] for key in ('JA', 'DI', 'AC')}


def with_background(outlines: Outlines) -> dict[str, float]:
    """The means of lesion's and background's pooled scores, at the images' own size."""
    tp, fp, fn, tn = map(int, outlines.counts().sum(0))
    both = [confusion_scores(tp, fp, fn, tn), confusion_scores(tn, fn, fp, tp)]
    return {key: mean_of_defined(scores[key] for scores in both) for key in ('JA', 'DI')} | {'AC': both[0]['AC']}


def three_classes(diagnoses: Diagnoses) -> dict[str, float]:
    """Accuracy of the likeliest of three classes, and the mean of their average precisions."""
    right = diagnoses.scores.argmax(1) == diagnoses.labels
    precisions = average_precision(diagnoses.scores, diagnoses.labels)
    return {'AC': float(right.mean()), 'mAP': mean_of_defined(precisions)}


def two_binary_tasks(diagnoses: Diagnoses) -> dict[str, float]:
    """Melanoma, and keratosis, each against the rest, called above one half; means of the two tasks."""
    values: dict[str, list[float]] = {'AC': [], 'AUC': []}
    for index in (0, 2):
        truth, score = diagnoses.labels == index, diagnoses.scores[:, index]
        values['AC'].append(float((truth == (score > 0.5)).mean()))
        values['AUC'].append(float(roc_auc_score(truth, score)) if 0 < truth.sum() < len(truth) else math.nan)
    return {key: mean_of_defined(both) for key, both in values.items()}


def balanced(diagnoses: Diagnoses) -> dict[str, float]:
    """The mean of the classes' sensitivities."""
    labels, predicted = diagnoses.labels, diagnoses.scores.argmax(1)
    recalls = [float((predicted[labels == label] == label).mean()) for label in np.unique(labels)]
    return {'AC': mean_of_defined(recalls)}


def best_thresholds(diagnoses: Diagnoses) -> dict[str, float]:
    """The two binary tasks' accuracy, each at the threshold that is best on these images."""
    best = []
    for index in (0, 2):
        truth, score = diagnoses.labels == index, diagnoses.scores[:, index]
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
        lambda outlines: pooled(outlines) | {'JA': pooled(outlines)['AC']},
    ),
    Convention(
        'per image, best threshold',
        'as the first, at the threshold that is best on the tested images: what choosing it there adds',
        {},
        lambda outlines: max((per_image(outlines, n) for n in range(8, LEVELS, 8)), key=lambda scores: scores['JA']),
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


@checked
def read_predictions(folder: str | Path, masks: str | Path | None, labels: str | Path | None) -> Predictions:
    """Read what ``mmskin predict`` or another program wrote, and compare it with the ground truth.

    Args:
        folder: With ``probabilities/<image id>.png`` (``mmskin predict --probabilities``), or else
            ``masks/<image id>_segmentation.png`` or such masks themselves; and ``predictions.csv``.
        masks: The folder of the true ones.
        labels: The table of the diagnoses, as the challenge has it.

    Raises:
        MissingFile: if the folder has nothing to score.
        Mistake: if an image with a ground truth has no prediction, or a file is not what it should be.
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
    maps = folder / 'probabilities'
    files = [file for file in files_in(maps) if file.suffix == '.png'] if maps.is_dir() else []
    graded = bool(files)  # an earlier prediction may have left an empty folder
    if graded:
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
        raise Mistake(f'{folder}: {missing[0]} has a true mask in {truth} but no prediction ({len(missing)} in all)')
    inside: dict[str, list[np.ndarray]] = {size: [] for size in SMALL}
    outside: dict[str, list[np.ndarray]] = {size: [] for size in SMALL}
    for image_id, path in sorted(true.items()):
        mask, levels = read_mask(path), (read_levels if graded else read_mask)(predicted[image_id])
        if graded and levels.dtype != np.uint8:
            raise Mistake(f'{predicted[image_id]}: has more than 8 bits; write a probability as 0 to 255')
        if levels.shape != mask.shape:
            raise Mistake(f'{predicted[image_id]}: has the size {levels.shape}, and its true mask {mask.shape}')
        levels = levels if graded else np.uint8(255) * levels
        for name, size in SMALL.items():
            predicted_levels, true_mask = levels, mask
            if size is not None:
                how = cv2.INTER_AREA if graded else cv2.INTER_NEAREST
                predicted_levels = cv2.resize(levels, size, interpolation=how)
                true_mask = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
            inside[name].append(np.bincount(predicted_levels[true_mask > 0], minlength=LEVELS))
            outside[name].append(np.bincount(predicted_levels[true_mask == 0], minlength=LEVELS))
    lesion, background = ({name: np.array(rows) for name, rows in side.items()} for side in (inside, outside))
    outlines = Outlines(lesion, background, graded)
    seen = np.flatnonzero(outlines.inside[OWN].sum(0) + outlines.outside[OWN].sum(0))
    if seen.max() == 1:
        raise Mistake(f'{folder / "probabilities"}: no level is above 1; write a probability as 0 to 255')
    return outlines


def _read_diagnoses(table: Path, truth: Path) -> Diagnoses:
    labels = {image_id: label for image_id, label in read_labels(truth).items() if label is not None}
    if not labels:
        raise Mistake(f'{truth}: has no image with a diagnosis')
    own_columns(table)  # it is whole
    scores: dict[str, list[float]] = {}
    needs = f'it needs image_id and a probability for each of {", ".join(CLASSES)}'
    for where, row in read_rows(table, ('image_id', *CLASSES), '', needs):
        image_id = row['image_id']
        if image_id in scores:
            raise Mistake(f'{where}: the id {image_id} occurs twice; keep one row')
        try:
            scores[image_id] = [number_in(row[name]) for name in CLASSES]
        except ValueError as error:
            raise Mistake(f'{where}: {error}; {needs}') from error
        if not all(0 <= score <= 1 for score in scores[image_id]):
            raise Mistake(f'{where}: {image_id} has {scores[image_id]}, and a probability is from 0 to 1')
    if missing := sorted(labels.keys() - scores.keys()):
        raise Mistake(f'{table}: {missing[0]} has a diagnosis in {truth} but no prediction ({len(missing)} in all)')
    order = sorted(labels)
    return Diagnoses(np.array([scores[name] for name in order]), np.array([labels[name] for name in order]))


def score_tables(sets: Sequence[Predictions]) -> str:
    """Every convention's scores of every set of predictions, in Markdown, and which tables cannot be compared.

    With several sets, such as epochs or seeds, there is what choosing the best of them on these images would give.
    """
    parts = []
    for title, conventions, what in (('Outlines', OUTLINES, 'outlines'), ('Diagnoses', DIAGNOSES, 'diagnoses')):
        held = [(each.name, each.num_images, getattr(each, what)) for each in sets if getattr(each, what) is not None]
        if held:
            parts.append(_table(title, conventions, held))
    return '\n\n'.join(parts) + '\n'


def _table(title: str, conventions: Sequence[Convention], held: Sequence[tuple]) -> str:
    rows: list[tuple[Convention, str, Mapping[str, float]]] = []
    warnings: list[str] = []
    several = len(held) > 1
    for convention in conventions:
        if convention.needs == 'probabilities' and not all(predictions.graded for *_, predictions in held):
            warnings.append(f'- {convention.name}: left out, it needs probabilities (mmskin predict --probabilities).')
            continue
        scores = [convention.score(predictions) for *_, predictions in held]
        rows += [(convention, name, values) for (name, *_), values in zip(held, scores, strict=True)]
        if several:
            first = next(iter(scores[0]))
            best = max(scores, key=lambda values: values[first])
            rows.append((convention, f'best of {len(held)} on these images', best))
    names = list(dict.fromkeys(name for *_, values in rows for name in values))
    body = [
        (
            convention.name,
            *([which] if several else []),
            *(f'{values[name]:.3f}' if name in values else '–' for name in names),
            ', '.join(convention.papers) or '–',
        )
        for convention, which, values in rows
    ]
    head = ['convention', *(['predictions'] if several else []), *names, 'used by']
    lines = [f'## {title}, {held[0][1]} images', '', markdown_table(head, body), '']
    for convention in conventions:
        read = '; '.join(f'{who}: {where}' for who, where in convention.papers.items())
        lines.append(
            f'- **{convention.name}**: {convention.how}.'
            + (f' Read in {read}.' if read else ' No paper is known to us.')
        )
    base, predictions = conventions[0], held[0][-1]
    own = base.score(predictions)
    lines += ['', *warnings]
    for convention in conventions[1:]:
        if convention.needs == 'probabilities' and not predictions.graded:
            continue
        other = convention.score(predictions)
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


def compare(first: str, second: str, predictions: Predictions) -> str:
    """Whether the tables of two papers can be compared, judged by what both conventions say of the same predictions."""
    known = sorted({who for convention in (*OUTLINES, *DIAGNOSES) for who in convention.papers})
    if unknown := [who for who in (first, second) if who not in known]:
        raise Mistake(f'{unknown[0]}: its convention is unknown; known: {", ".join(known)}')
    lines = []
    for what, conventions in (('outlines', OUTLINES), ('diagnoses', DIAGNOSES)):
        held = getattr(predictions, what)
        firsts, seconds = (next((each for each in conventions if who in each.papers), None) for who in (first, second))
        if held is None or firsts is None or seconds is None:
            continue
        if firsts is seconds:
            chosen = ' Both choose on the tested images.' if firsts.on_test else ''
            lines.append(f'{what}: {first} and {second} score alike ({firsts.name}).{chosen}')
            continue
        one, other = firsts.score(held), seconds.score(held)
        apart = ', '.join(f'{key} {one[key]:.3f} and {other[key]:.3f}' for key in one if key in other)
        lines.append(
            f'{what}: warning, the tables of {first} ({firsts.name}) and {second} ({seconds.name}) cannot be compared: '
            f'the same predictions have {apart}.'
        )
    return '\n'.join(lines) or f'{first} and {second} score nothing in common that these predictions have'
