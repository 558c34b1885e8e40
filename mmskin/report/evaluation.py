"""What a finished test left, as arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mmskin.benchmark.metrics import Columns, read_columns
from mmskin.datasets.lesion_dataset import CLASSES
from mmskin.evaluation.segmentation import KEYS
from mmskin.visualization.case_file import read_cases
from mmskin.visualization.contour_sheet import Case

PER_IMAGE, CASES = 'per_image.csv', 'report.json'
SCORE = 'cls/score_'


@dataclass(eq=False)
class Evaluation:
    """One test, an entry for each image; nan stands for what is not known of it.

    Attributes:
        image_ids: N names.
        classes: K names in the labels' order; empty without classification.
        labels: (N,), the true class.
        predicted: (N,), the predicted class.
        scores: (N, K), probabilities.
        overlap: JA, DI, AC, sensitivity and specificity of the masks, (N,) each; empty without segmentation.
        lesion_share: (N,), the true lesion's share of its image.
        cases: what pictures need, if it was kept; in any order.
    """

    image_ids: list[str]
    classes: tuple[str, ...]
    labels: np.ndarray
    predicted: np.ndarray
    scores: np.ndarray
    overlap: dict[str, np.ndarray]
    lesion_share: np.ndarray
    cases: list[Case] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def judged(self) -> np.ndarray:
        """Which images (N,) have a true class and a prediction."""
        return ~np.isnan(self.labels) & ~np.isnan(self.predicted)

    @property
    def right(self) -> np.ndarray:
        """1 where the predicted class is the true one, 0 where it is not, nan where it can't be said."""
        return np.where(self.judged, self.labels == self.predicted, np.nan)

    @property
    def outlined(self) -> np.ndarray:
        """Which images (N,) have a true and a predicted mask."""
        return ~np.isnan(self.lesion_share)

    def one_against_rest(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Of the judged images: whether each is of the class, and its probability."""
        index = self.classes.index(name)
        return self.labels[self.judged] == index, self.scores[self.judged, index]


def read_evaluation(folder: str | Path, classes: Sequence[str] = ()) -> Evaluation:
    """Read ``per_image.csv`` and, where it is there, ``report.json``, which ``ContourSheet`` wrote.

    Args:
        folder: of a finished test.
        classes: in the labels' order, if it is known; by default that of ``report.json``, or else of ISIC-2017.

    Raises:
        FileNotFoundError: if there is no ``per_image.csv``.
        ValueError: if a file is not what a test writes.
    """
    path = Path(folder, PER_IMAGE)
    image_ids, columns = read_table(path)
    cases, names = read_cases(Path(folder, CASES)) if Path(folder, CASES).is_file() else ([], [])
    classes = class_order(columns, classes or names, path)
    absent, known = np.full(len(image_ids), np.nan), set(image_ids)
    return Evaluation(
        image_ids,
        classes,
        labels=columns.get('cls/gt_label', absent) if classes else absent,
        predicted=columns.get('cls/pred_label', absent),
        scores=score_table(columns, classes, len(image_ids)),
        overlap={key: columns[f'seg/{key}'] for key in KEYS} if 'seg/JA' in columns else {},
        lesion_share=columns.get('seg/lesion_share', absent),
        cases=[case for case in cases if case.image_id in known],
    )


def read_table(path: Path) -> tuple[list[str], Columns]:
    """The ids and columns of a ``per_image.csv``.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if it is another kind of file, or lists no image.
    """
    if not path.is_file():
        raise FileNotFoundError(f'{path}: no such file; a test (tools/test.py) writes it into its work folder.')
    try:
        image_ids, columns = read_columns(path)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f'{path} is not a per_image.csv ({error}); a test (tools/test.py) writes one.') from error
    if not image_ids:
        raise ValueError(f'{path} lists no image; was the test set empty?')
    return image_ids, columns


def class_order(columns: Columns, names: Sequence[str], path: Path) -> tuple[str, ...]:
    """The classes in the order of their labels, which the table's columns, sorted by name, do not tell."""
    found = {name.removeprefix(SCORE) for name in columns if name.startswith(SCORE)}
    for order in (names, CLASSES, [str(index) for index in range(len(found))]):
        if set(order) == found:
            return tuple(order)
    if not found:
        return ()
    raise ValueError(
        f'{path} has scores of {sorted(found)}, but their order is not known; '
        f'put the {CASES} beside it that the ContourSheet of the same test wrote.'
    )


def score_table(columns: Columns, classes: Sequence[str], num_images: int) -> np.ndarray:
    """The probabilities (N, K)."""
    return np.array([columns[f'{SCORE}{name}'] for name in classes]).T.reshape(num_images, len(classes))
