"""Best, median and worst cases."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from mmskin.visualization.contour_sheet import Case, draw_sheet

NUM_COLUMNS = 4
COLUMN_WIDTH = 1.95


def cases_figure(cases: Sequence[Case]) -> Figure:
    """Rows of contours, chosen by ``choose_rows``; an image whose file is gone is left blank."""
    rows = {name: [present(case) for case in chosen] for name, chosen in choose_rows(cases).items()}
    with mpl.rc_context({'axes.spines.top': True, 'axes.spines.right': True}):
        return draw_sheet(rows, COLUMN_WIDTH)


def choose_rows(cases: Sequence[Case]) -> dict[str, list[Case]]:
    """The best, middle and worst cases by ``merit``, each once; empty if none can be judged."""
    ranked = sorted((case for case in cases if not math.isnan(merit(case))), key=lambda case: case.image_id)
    ranked.sort(key=merit, reverse=True)
    if len(ranked) < 3:
        return {'all': ranked} if ranked else {}
    count = min(NUM_COLUMNS, len(ranked) // 3)
    middle = (len(ranked) - count) // 2
    return {'best': ranked[:count], 'median': ranked[middle : middle + count], 'worst': ranked[-count:][::-1]}


def merit(case: Case) -> float:
    """JA; without two masks the probability of the true class; nan without either."""
    return case.scores.get(case.gt_class, math.nan) if math.isnan(case.jaccard) else case.jaccard


def present(case: Case) -> Case:
    """The case, without its image if the file is gone."""
    return case if case.img_path and Path(case.img_path).is_file() else replace(case, img_path=None)
