"""Cases in a file, so that pictures can be drawn again without the network."""

import json
import math
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mmskin.files import write_text
from mmskin.visualization.contour_sheet import Case

OUTLINES = ('true_outlines', 'pred_outlines')


def write_cases(path: str | Path, cases: Iterable[Case]) -> None:
    """Write ``cases`` as JSON, sorted by image id: about 1.5 kB each.

    Args:
        path: the file.
        cases: of one test.
    """
    images = [as_json(case) for case in sorted(cases, key=lambda case: case.image_id)]
    text = json.dumps(images, separators=(',', ':'), allow_nan=False)
    write_text(path, text + '\n')


def read_cases(path: str | Path) -> list[Case]:
    """The cases in a file of ``write_cases``.

    Raises:
        ValueError: if the file is none of its kind.
    """
    try:
        return [from_json(image) for image in json.loads(Path(path).read_text(encoding='utf-8'))]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f'{path} is no file of cases ({error!r}); test again to have it written anew.') from error


def as_json(case: Case) -> dict[str, Any]:
    """A case in plain objects: null for an unknown JA, four decimals for an outline."""
    lines = {key: [np.round(line.astype(float), 4).tolist() for line in getattr(case, key)] for key in OUTLINES}
    return {**asdict(case), 'jaccard': None if math.isnan(case.jaccard) else case.jaccard, **lines}


def from_json(image: dict[str, Any]) -> Case:
    """The case that ``as_json`` wrote."""
    lines = {key: [np.array(line, np.float16) for line in image[key]] for key in OUTLINES}
    return Case(**{**image, 'jaccard': math.nan if image['jaccard'] is None else image['jaccard'], **lines})
