"""The pictures of a report: which there are, what is said of them, and how they get into the page."""

import base64
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure

from mmskin.drawing import Case
from mmskin.evaluation.per_image import PerImageTable
from mmskin.report.calibration import Calibration, bin_confidences
from mmskin.report.figures import (
    COLUMN,
    STYLE,
    THRESHOLD,
    cases_figure,
    choose_rows,
    confusion_figure,
    groups_figure,
    jaccard_figure,
    operating_points_figure,
    precision_recall_figure,
    reliability_figure,
    roc_figure,
    save,
)
from mmskin.report.results import class_areas, has_challenge
from mmskin.report.tables import Found, probabilities


class Picture(NamedTuple):
    """A figure that is yet to be drawn."""

    name: str
    title: str
    caption: str
    draw: Callable[[], Figure]


class Drawn(NamedTuple):
    """A figure as the page shows it; ``svg`` and ``pdf`` are data URIs, ``full`` says that it is as wide as a page."""

    title: str
    caption: str
    svg: str
    pdf: str
    full: bool


def draw_all(
    evaluation: PerImageTable, cases: Sequence[Case], calibration: Calibration | None, groups: Found, folder: Path
) -> dict[str, Drawn]:
    """Draw every picture that this test has something to show in, one after the other, and save it in ``folder``."""
    return {one.name: draw(one, folder) for one in pictures(evaluation, cases, calibration, groups)}


def draw(picture: Picture, folder: Path) -> Drawn:
    """Draw, save and encode one picture."""
    with mpl.rc_context(STYLE):
        figure = picture.draw()
        save(figure, folder, picture.name)
    svg = data_uri(folder / f'{picture.name}.svg', 'image/svg+xml')
    pdf = data_uri(folder / f'{picture.name}.pdf', 'application/pdf')
    return Drawn(picture.title, picture.caption, svg, pdf, full=figure.get_figwidth() > COLUMN)


def data_uri(path: Path, kind: str) -> str:
    """A file as a link that holds it, so that the page can be mailed without it."""
    return f'data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}'


def pictures(
    evaluation: PerImageTable, cases: Sequence[Case], calibration: Calibration | None, groups: Found
) -> Iterator[Picture]:
    """Those that this test has something to show in."""
    if evaluation.judged.any():
        yield from diagnosis_pictures(evaluation)
        yield reliability_picture(evaluation, calibration)
    if evaluation.outlined.any():
        yield jaccard_picture(evaluation)
    if evaluation.judged.any() or evaluation.outlined.any():
        yield groups_picture(groups)
    if choose_rows(cases):
        yield cases_picture(evaluation, cases)


def diagnosis_pictures(evaluation: PerImageTable) -> Iterator[Picture]:
    """Confusion matrix and curves."""
    yield Picture(
        'confusion',
        'Confusion matrix',
        'Numbers of images and, below them, their share of the true class, which colours the cell.',
        lambda: confusion_figure(evaluation),
    )
    yield Picture(
        'roc',
        'ROC curves',
        'Each class against the rest; the area under the curve with its 95 % interval.',
        lambda: roc_figure(evaluation, class_areas(evaluation, 'AUC')),
    )
    yield Picture(
        'precision_recall',
        'Precision and recall',
        "Each class against the rest; the average precision with its 95 % interval. Thin lines: the class's share of "
        'the images, which guessing reaches.',
        lambda: precision_recall_figure(evaluation, class_areas(evaluation, 'AP')),
    )
    if has_challenge(evaluation):
        yield Picture(
            'operating_points',
            "The challenge's two tasks",
            'ROC and precision-recall curve of each with the points at which the challenge reports them.',
            lambda: operating_points_figure(evaluation),
        )


def reliability_picture(evaluation: PerImageTable, calibration: Calibration | None) -> Picture:
    """As predicted, and with the temperature if there is one."""
    panels = {
        f'{name}: ' if calibration else '': bin_confidences(*found)
        for name, found in probabilities(evaluation, calibration).items()
    }
    return Picture(
        'reliability',
        'Reliability diagram',
        'How often images of one confidence are right, and how many there are of each. Bars below the diagonal are '
        'overconfident.',
        lambda: reliability_figure(panels),
    )


def jaccard_picture(evaluation: PerImageTable) -> Picture:
    """The histogram of JA."""
    return Picture(
        'jaccard',
        'JA of the images',
        f'The challenge of 2018 counted an image below {THRESHOLD} (dashed line) as 0.',
        lambda: jaccard_figure(evaluation.overlap['JA']),
    )


def groups_picture(groups: Found) -> Picture:
    """Results by lesion size and by class."""
    return Picture(
        'groups',
        'Results by lesion size and by class',
        "Sizes are terciles of the true lesion's share of the image. Bars: 95 % intervals.",
        lambda: groups_figure(groups),
    )


def cases_picture(evaluation: PerImageTable, cases: Sequence[Case]) -> Picture:
    """Best, median and worst."""
    order = 'JA' if evaluation.outlined.any() else 'the probability of the true class'
    return Picture(
        'cases',
        'Best, median and worst cases',
        f'Ordered by {order}. True contour red and dashed, predicted contour blue; above each image the predicted '
        'class, green where it is right.',
        lambda: cases_figure(cases),
    )
