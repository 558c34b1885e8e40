"""The page of a test: one HTML file with its numbers and pictures inside, and the pictures next to it for a paper."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from mmskin.drawing import Case
from mmskin.evaluation.contour_sheet import read_cases
from mmskin.evaluation.isic2017 import CATEGORIES
from mmskin.evaluation.per_image import NOTE, PROBABILITY, PerImageTable, read_companion
from mmskin.evaluation.statistics import (
    AREAS,
    FEWEST,
    NUM_RESAMPLES,
    Estimate,
    Measure,
    Metric,
    estimate,
    mean_of,
    mean_over,
    weighted_mean,
    weighted_specificity,
)
from mmskin.evaluation.submission import SENSITIVITIES
from mmskin.files import readable, write_json, write_text
from mmskin.registry import checked
from mmskin.report import figures
from mmskin.report.calibration import fit_calibration, negative_log_likelihood, scaled
from mmskin.report.figures import NUM_BINS, THRESHOLD, bin_confidences

PAGE, FIGURES, TEMPERATURE, CASES = 'report.html', 'report_figures', 'temperature.json', 'cases.json'
TITLES = {
    'cls/AC': 'accuracy',
    'cls/mAP': 'mAP',
    'cls/AUC_mean': 'mean AUC of the challenge',
    'seg/JA': 'JA',
    'seg/DI': 'DI',
    'seg/AC': 'pixel AC',
    'seg/sensitivity': 'pixel sensitivity',
    'seg/specificity': 'pixel specificity',
}
Estimates = Mapping[str, Mapping[str, Estimate]]  # by row and column of a table


class Table(NamedTuple):
    """A table; a cell is text, a number or an ``Estimate``."""

    head: list[str]
    rows: list[list[Any]]


class Picture(NamedTuple):
    """A figure as the page shows it; ``svg`` and ``pdf`` are data URIs, ``full`` says that it is as wide as a page."""

    title: str
    caption: str
    svg: str
    pdf: str
    full: bool


@checked
def write_report(folder: str | Path, calibrate_on: str | Path | None = None, title: str = 'Evaluation report') -> Path:
    """Write ``report.html`` and ``report_figures/`` into the folder of a finished test, from the files in it.

    Args:
        folder: With ``per_image.csv`` and ``results.json``, and ``cases.json`` and ``test.json`` if there are any.
        calibrate_on: The ``per_image.csv`` of the same network on other images, such as the validation split; a
            temperature is fitted on it, shown before and after, and saved as ``temperature.json``.
        title: Of the page.

    Returns:
        The page.

    Raises:
        MissingFile: if one of the first two is missing.
        Mistake: if a file is not what a test writes, or ``calibrate_on`` holds images of this test or is of another
            network.
    """
    folder = Path(folder)
    tested = PerImageTable.read(folder)
    cases = read_cases(folder / CASES) if (folder / CASES).is_file() else []
    about = read_companion(folder / NOTE) if (folder / NOTE).is_file() else {}
    calibration = fit_calibration(calibrate_on, tested, about) if calibrate_on else None
    places = sorted({Path(case.img_path).parent.name for case in cases if case.img_path})
    about['images'] = f'{len(tested)} from {", ".join(places)}' if places else str(len(tested))

    probabilities = {}
    if tested.judged.any():
        probabilities['as predicted'] = tested.scores[tested.judged]
        if calibration:
            name = f'temperature {calibration.temperature:.2f}'
            probabilities[name] = scaled(probabilities['as predicted'], calibration.temperature)
    by_group = group_results(tested)
    content = {
        'title': title,
        'about': about,
        'notices': list(notices(tested, cases)),
        **tables(tested, probabilities, by_group),
        'calibration': calibration,
        'further': list(further_tasks(tested)),
        'figures': pictures(tested, cases, probabilities, by_group, folder / FIGURES),
        'num_resamples': NUM_RESAMPLES,
        'fewest': FEWEST,
        'num_bins': NUM_BINS,
    }
    loader = PackageLoader('mmskin.report', package_path='')
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    text = environment.get_template('page.html').render(content)
    if calibration:
        write_json(folder / TEMPERATURE, calibration._asdict(), indent=2)
    write_text(folder / PAGE, text)
    return folder / PAGE


def tables(tested: PerImageTable, probabilities: Mapping[str, np.ndarray], by_group: Estimates) -> dict[str, Any]:
    """The page's tables by their names in the template; None for one that this test has nothing for."""
    classes = [[readable(name), row['recall'].num_images, *row.values()] for name, row in class_results(tested).items()]
    overall = [[TITLES.get(key, key), value, value.num_images] for key, value in headline(tested).items()]
    rows: list[list[Any]]
    content: dict[str, Any] = {
        'headline': Table(['metric', 'value', 'images'], [row for row in overall if row[-1]]),
        'diagnosis': bool(tested.judged.any()),
        'classes': Table(['class', 'images', 'recall', 'precision'], classes),
        **dict.fromkeys(('challenge', 'reliability', 'groups')),
    }
    if has_challenge(tested):
        rows = [[score, *row.values()] for score, row in challenge_results(tested).items()]
        content['challenge'] = Table(['score', *map(readable, CATEGORIES), 'mean'], rows)
    if probabilities:
        labels = tested.labels[tested.judged].astype(int)
        scores = {
            'ECE': lambda values: bin_confidences(values, labels).calibration_error,
            'NLL': lambda values: negative_log_likelihood(values, labels),
            'Brier score': lambda values: ((values - np.eye(values.shape[1])[labels]) ** 2).sum(axis=1).mean(),
        }
        rows = [
            [name, *(f'{score(values):.3f}' for values in probabilities.values())] for name, score in scores.items()
        ]
        content['reliability'] = Table(['score', *probabilities], rows)
    if by_group:
        sizes = {name: int(member.sum()) for name, member in all_groups(tested).items()}
        rows = [[name, sizes[name], *row.values()] for name, row in by_group.items()]
        content['groups'] = Table(['group', 'images', *next(iter(by_group.values()))], rows)
    return content


def further_tasks(tested: PerImageTable) -> Iterator[tuple[str, Table]]:
    """A title and a table for each task but those two that the page is about at length."""
    for task, kind in tested.tasks.items():
        if task in (tested.diagnosis, tested.outline):
            continue
        if kind == 'classification':
            table = tested.of(task)
            head, areas = ['class', 'images', 'recall', 'precision', 'AUC'], class_areas(table, 'AUC')
            rows = [
                [readable(name), row['recall'].num_images, *row.values(), areas[name]]
                for name, row in class_results(table).items()
            ]
            accuracy = estimate({'accuracy': mean_over(table.right)})['accuracy']
            rows.append(['all', accuracy.num_images, accuracy, '', ''])
        elif kind == 'labels':
            head, measures = ['label', 'images', 'AUC', 'AP'], {}
            start = f'{task}/{PROBABILITY}'
            for column in [name for name in tested.columns if name.startswith(start)]:
                name = column.removeprefix(start)
                true, scores = tested.column(task, f'gt_{name}'), tested.columns[column]
                known = ~np.isnan(true) & ~np.isnan(scores)
                for area, weighted in AREAS.items():
                    measures[name, area] = Measure(partial(weighted, true[known] > 0.5, scores[known]), known)
            of_labels = estimate(measures)
            labels = dict.fromkeys(name for name, _ in measures)
            rows = [
                [readable(name), of_labels[name, 'AUC'].num_images, of_labels[name, 'AUC'], of_labels[name, 'AP']]
                for name in labels
            ]
        else:
            head = ['score', 'images', 'mean']
            is_score = ('JA', 'DI', 'AC', 'sensitivity', 'specificity', 'MAE')
            names_of_scores = [name.partition('/')[2] for name in tested.columns if name.startswith(f'{task}/')]
            means = {n: mean_over(tested.column(task, n)) for n in names_of_scores if n.startswith(is_score)}
            rows = [[readable(name), value.num_images, value] for name, value in estimate(means).items()]
        if rows:
            yield readable(task), Table(head, rows)


def notices(tested: PerImageTable, cases: Sequence[Case]) -> Iterator[str]:
    """What a reader has to know before the numbers."""
    total, unlabelled, bare = len(tested), int((~tested.judged).sum()), int((~tested.outlined).sum())
    if not tested.classes:
        yield 'This test has no classification, so the diagnosis is left out.'
    elif unlabelled:
        yield f'{unlabelled} of {total} images have no class label; they are left out of the diagnosis.'
    empty = [readable(name) for index, name in enumerate(tested.classes) if index not in tested.labels]
    if empty and unlabelled < total:
        yield f'No image is labelled {" or ".join(empty)}; what needs one is undefined.'
    paths = [case.img_path for case in cases if case.img_path]
    gone = [path for path in paths if not Path(path).is_file()]
    if gone:
        yield f'{len(gone)} of {len(paths)} image files are gone, {gone[0]} among them; their cases are drawn without.'
    if bare == total:
        yield 'This test has no images with a true and a predicted outline, so the segmentation is left out.'
    elif bare:
        yield f'{bare} of {total} images have no true outline; they are left out of the segmentation.'


def pictures(
    tested: PerImageTable,
    cases: Sequence[Case],
    probabilities: Mapping[str, np.ndarray],
    by_group: Estimates,
    folder: Path,
) -> dict[str, Picture]:
    """Draw every picture that this test has something to show in, save it in ``folder``, and encode it for the page."""
    shown: dict[str, Picture] = {}

    def show(name: str, title: str, caption: str, figure: Figure) -> None:
        figures.save(figure, folder, name)
        svg, pdf = (base64.b64encode((folder / f'{name}.{kind}').read_bytes()).decode() for kind in ('svg', 'pdf'))
        links = f'data:image/svg+xml;base64,{svg}', f'data:application/pdf;base64,{pdf}'
        shown[name] = Picture(title, caption, *links, full=figure.get_figwidth() > figures.COLUMN)

    with mpl.rc_context(figures.STYLE):
        if tested.judged.any():
            text = 'Numbers of images and, below them, their share of the true class, which colours the cell.'
            show('confusion', 'Confusion matrix', text, figures.confusion_figure(tested))
            text = 'Each class against the rest; the area under the curve with its 95 % interval.'
            show('roc', 'ROC curves', text, figures.curves_figure(tested, 'AUC', class_areas(tested, 'AUC')))
            text = (
                'Each class against the rest; the average precision with its 95 % interval. Thin lines: the '
                "class's share of the images, which guessing reaches."
            )
            curves = figures.curves_figure(tested, 'AP', class_areas(tested, 'AP'))
            show('precision_recall', 'Precision and recall', text, curves)
        if has_challenge(tested):
            text = 'ROC and precision-recall curve of each with the points at which the challenge reports them.'
            show('operating_points', "The challenge's two tasks", text, figures.operating_points_figure(tested))
        if probabilities:
            labels = tested.labels[tested.judged]
            bins = {name: bin_confidences(scores, labels) for name, scores in probabilities.items()}
            text = (
                'How often images of one confidence are right, and how many there are of each. Bars below the '
                'diagonal are overconfident.'
            )
            show('reliability', 'Reliability diagram', text, figures.reliability_figure(bins))
        if tested.outlined.any():
            text = f'The challenge of 2018 counted an image below {THRESHOLD} (dashed line) as 0.'
            show('jaccard', 'JA of the images', text, figures.jaccard_figure(tested.overlap['JA']))
        if by_group:
            text = "Sizes are terciles of the true lesion's share of the image. Bars: 95 % intervals."
            show('groups', 'Results by lesion size and by class', text, figures.groups_figure(by_group))
        if rows := figures.choose_rows(cases):
            order = 'JA' if tested.outlined.any() else 'the probability of the true class'
            text = (
                f'Ordered by {order}. True contour red and dashed, predicted contour blue; above each image the '
                'predicted class, green where it is right.'
            )
            show('cases', 'Best, median and worst cases', text, figures.cases_figure(rows))
    for path in folder.glob('*.svg'):  # of an earlier test
        if path.stem not in shown and path.with_suffix('.pdf').is_file():
            path.unlink()
            path.with_suffix('.pdf').unlink()
    return shown


def has_challenge(tested: PerImageTable) -> bool:
    """Whether the challenge's two categories are among the classes, and any image can be judged."""
    return set(CATEGORIES) <= set(tested.classes) and bool(tested.judged.any())


def headline(tested: PerImageTable) -> dict[str, Estimate]:
    """The metrics that a paper would quote, those of ``results.json`` by their keys there."""
    measures: dict[str, Measure] = {}
    if tested.classes:
        task, judged = tested.diagnosis, tested.judged
        precisions = [area_metric(tested, 'AP', name) for name in tested.classes]
        areas = {name: area_metric(tested, 'AUC', name) for name in tested.classes}
        measures = {f'{task}/AC': mean_over(tested.right), f'{task}/mAP': Measure(mean_of(precisions), judged)}
        if set(CATEGORIES) <= set(tested.classes):
            measures[f'{task}/AUC_mean'] = Measure(mean_of([areas[name] for name in CATEGORIES]), judged)
        measures['mean AUC of the classes'] = Measure(mean_of([*areas.values()]), judged)
    for key, values in tested.overlap.items():
        measures[f'{tested.outline}/{key}'] = mean_over(values)
    if tested.overlap:
        jaccard = tested.overlap['JA']
        measures[f'JA, 0 below {THRESHOLD}'] = mean_over(np.where(jaccard < THRESHOLD, 0, jaccard))
    return estimate(measures)


def area_metric(tested: PerImageTable, area: str, name: str) -> Metric:
    """AUC or AP of a class against the rest, on the judged images."""
    return partial(AREAS[area], *tested.one_against_rest(name))


def class_areas(tested: PerImageTable, area: str) -> dict[str, Estimate]:
    """AUC or AP of each class against the rest."""
    return estimate({name: Measure(area_metric(tested, area, name), tested.judged) for name in tested.classes})


def class_results(tested: PerImageTable) -> dict[str, dict[str, Estimate]]:
    """Recall and precision by class."""
    sides = {'recall': tested.labels, 'precision': tested.predicted}
    measures = {
        (name, side): mean_over(tested.right, values == index)
        for side, values in sides.items()
        for index, name in enumerate(tested.classes)
    }
    estimates = estimate(measures)
    return {name: {side: estimates[name, side] for side in sides} for name in tested.classes}


def challenge_results(tested: PerImageTable) -> dict[str, dict[str, Estimate]]:
    """The official scorer's numbers (``category_scores``): by score, and by category and their mean."""
    columns: dict[str, dict[str, Metric]] = {}
    for name in CATEGORIES:
        positive, scores = tested.one_against_rest(name)
        right = positive == (scores > 0.5)
        columns[name] = {
            **{area: partial(weighted, positive, scores) for area, weighted in AREAS.items()},
            'sensitivity': partial(weighted_mean, np.where(positive, right, np.nan)),
            'specificity': partial(weighted_mean, np.where(positive, np.nan, right)),
            'AC': partial(weighted_mean, right.astype(float)),
            **{f'specificity@{at:.2f}': partial(weighted_specificity, at, positive, scores) for at in SENSITIVITIES},
        }
    keys = list(columns[CATEGORIES[0]])
    columns['mean'] = {key: mean_of([columns[name][key] for name in CATEGORIES]) for key in keys}
    estimates = estimate(
        {(key, name): Measure(column[key], tested.judged) for key in keys for name, column in columns.items()}
    )
    return {key: {name: estimates[key, name] for name in columns} for key in keys}


def all_groups(tested: PerImageTable) -> dict[str, np.ndarray]:
    """All images, then thirds by the lesion's share of the image, then by true class; empty without a measurement.

    The names of the thirds give their bounds, as ``small (0.4–5.1 %)``.
    """
    if not (tested.judged.any() or tested.outlined.any()):
        return {}
    groups = {'all images': np.ones(len(tested), bool)}
    for name, member in tested.size_groups.items():
        shares = 100 * tested.mask_share[member]
        groups[f'{name} ({shares.min():.1f}–{shares.max():.1f} %)'] = member
    return groups | {readable(name): tested.labels == index for index, name in enumerate(tested.classes)}


def group_results(tested: PerImageTable) -> dict[str, dict[str, Estimate]]:
    """The metrics that are means over images, of masks and of the diagnosis, by group and by metric."""
    groups = all_groups(tested)
    values = {key: tested.overlap[key] for key in ('JA', 'DI') if tested.outlined.any()}
    if tested.judged.any():
        values['accuracy'] = tested.right
    estimates = estimate({(g, m): mean_over(values[m], member) for g, member in groups.items() for m in values})
    return {group: {metric: estimates[group, metric] for metric in values} for group in groups}
