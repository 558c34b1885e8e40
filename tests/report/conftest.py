import numpy as np
import pytest

from mmskin.drawing import Case
from mmskin.evaluation.per_image import PerImageTable, write_results

CLASSES = ('melanoma', 'nevus', 'seborrheic_keratosis')
KEYS = ('JA', 'DI', 'AC', 'sensitivity', 'specificity')


@pytest.fixture
def make_evaluation():
    """Random results of images with the given true classes (nan: unlabelled); some part may be left out."""

    def make(labels, diagnosis=True, masks=True, classes=CLASSES):
        rng, labels = np.random.default_rng(0), np.asarray(labels, float)
        num_images = len(labels)
        scores = rng.dirichlet(np.ones(3), num_images)
        scores[np.arange(num_images), np.nan_to_num(labels).astype(int)] += 0.5
        scores /= scores.sum(axis=1, keepdims=True)
        columns = {}
        if diagnosis:
            columns |= {'cls/gt_label': labels, 'cls/pred_label': scores.argmax(axis=1).astype(float)}
            columns |= {f'cls/score_{name}': scores[:, index] for index, name in enumerate(classes)}
        if masks:
            columns |= {f'seg/{key}': rng.uniform(0.3, 1, num_images) for key in KEYS}
            columns['seg/mask_share'] = rng.uniform(0.01, 0.9, num_images)
        return PerImageTable([f'ISIC_{index:07d}' for index in range(num_images)], columns)

    return make


@pytest.fixture
def make_cases():
    """A case for each image of an evaluation, without image files."""

    def make(evaluation):
        names = [*evaluation.classes, '']
        jaccard = evaluation.overlap.get('JA', np.full(len(evaluation), np.nan))
        triangle = np.array([[0.2, 0.2], [0.8, 0.2], [0.5, 0.8], [0.2, 0.2]], np.float16)
        return [
            Case(
                image_id,
                gt_class=names[-1 if np.isnan(label) else int(label)],
                pred_class=names[-1 if np.isnan(guess) else int(guess)],
                scores=dict(zip(evaluation.classes, row.tolist(), strict=True)),
                jaccard=float(value),
                true_outlines=[triangle],
                pred_outlines=[triangle * 0.9],
            )
            for image_id, label, guess, row, value in zip(
                evaluation.image_ids, evaluation.labels, evaluation.predicted, evaluation.scores, jaccard, strict=True
            )
        ]

    return make


@pytest.fixture
def write_test(make_cases):
    """Write an evaluation into a folder as a test leaves it."""

    def write(folder, evaluation, cases=True):
        from mmskin.evaluation.contour_sheet import write_cases

        write_results(folder, {}, evaluation)
        if cases:
            write_cases(folder / 'cases.json', make_cases(evaluation))
        return folder

    return write
