"""The page of a test: one HTML file with its pictures inside, and the pictures beside it for a paper."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from mmskin.drawing import Case, read_cases
from mmskin.evaluation.per_image import PerImageTable
from mmskin.evaluation.statistics import FEWEST, NUM_RESAMPLES
from mmskin.files import read_json, write_text
from mmskin.report.calibration import NUM_BINS, Calibration, fit_on, write_temperature
from mmskin.report.pictures import draw_all
from mmskin.report.results import (
    all_groups,
    challenge_table,
    class_results,
    group_results,
    has_challenge,
    headline,
)
from mmskin.report.tables import (
    Found,
    classes_table,
    groups_table,
    headline_table,
    notices,
    official_table,
    reliability_table,
)

__all__ = ['write_report']

PAGE, FIGURES, TEMPERATURE, NOTE, CASES = 'report.html', 'report_figures', 'temperature.json', 'test.json', 'cases.json'


def write_report(folder: str | Path, calibrate_on: str | Path | None = None, title: str = 'Evaluation report') -> Path:
    """Write ``report.html`` and ``report_figures/`` into the folder of a finished test, from the files in it.

    Args:
        folder: with ``per_image.csv`` and ``results.json``, and where they are there ``cases.json`` and ``test.json``.
        calibrate_on: the ``per_image.csv`` of the same network on other images, such as the validation split; a
            temperature is fitted on it, shown before and after, and saved as ``temperature.json``.
        title: of the page.

    Returns:
        The page.

    Raises:
        FileNotFoundError: if one of the first two is missing.
        ValueError: if a file is not what a test writes, or ``calibrate_on`` holds images of this test.
    """
    folder, evaluation = Path(folder), PerImageTable.read(Path(folder))
    cases = read_cases(folder / CASES) if (folder / CASES).is_file() else []
    calibration = fit_on(calibrate_on, evaluation) if calibrate_on else None
    groups = group_results(evaluation, all_groups(evaluation))
    content = {
        **numbers(evaluation, cases, calibration, groups),
        'title': title,
        'about': described(evaluation, cases, folder / NOTE),
        'figures': draw_all(evaluation, cases, calibration, groups, folder / FIGURES),
    }
    if calibration:
        write_temperature(folder / TEMPERATURE, calibration)
    write_text(folder / PAGE, render(content))
    return folder / PAGE


def numbers(
    evaluation: PerImageTable, cases: Sequence[Case], calibration: Calibration | None, groups: Found
) -> dict[str, Any]:
    """What the template asks for beside the pictures."""
    judged = bool(evaluation.judged.any())
    return {
        'notices': list(notices(evaluation, cases)),
        'headline': headline_table(headline(evaluation)),
        'diagnosis': judged,
        'classes': classes_table(class_results(evaluation)),
        'challenge': official_table(challenge_table(evaluation)) if has_challenge(evaluation) else None,
        'reliability': reliability_table(evaluation, calibration) if judged else None,
        'calibration': calibration,
        'groups': groups_table(groups, all_groups(evaluation)) if groups else None,
        'num_resamples': NUM_RESAMPLES,
        'fewest': FEWEST,
        'num_bins': NUM_BINS,
    }


def described(evaluation: PerImageTable, cases: Sequence[Case], note: Path) -> dict[str, str]:
    """What was tested: the images, and what ``evaluate_checkpoint`` noted, if it did."""
    noted = read_json(note) if note.is_file() else {}
    folders = sorted({Path(case.img_path).parent.name for case in cases if case.img_path})
    places = f' from {", ".join(folders)}' if folders else ''
    return {**noted, 'images': f'{len(evaluation)}{places}'}


def render(content: dict[str, Any]) -> str:
    """The page; a name that the template asks for and ``content`` lacks is an error."""
    loader = PackageLoader('mmskin.report', package_path='')
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.get_template('page.html').render(content)
