"""Lists of samples from elsewhere, which a dataset takes beside its own."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from mmskin.datasets.ground_truth import COLUMNS, read_labels
from mmskin.datasets.lesion_dataset import CLASSES
from mmskin.datasets.table import read_rows
from mmskin.files import write_csv

FIELDS = (*COLUMNS, 'img_path', 'seg_map_path', 'distance')


def read_extra_samples(path: str | Path) -> list[dict]:
    """The samples of a list, as ``load_data_list`` gives them.

    Args:
        path: a CSV with the columns ``image_id``, ``img_path``, ``seg_map_path``, and those of a Part 3 table. Mask and
            diagnosis may be empty. Paths are absolute, or relative to the list's folder. Other columns are passed over.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a column is missing, an id occurs twice, an image is not named, or a diagnosis makes no sense.
    """
    path = Path(path)
    labels = read_labels(path)
    rows = list(read_rows(path, ('img_path', 'seg_map_path'), '', 'write the list by tools/select_data.py.'))
    for where, row in rows:
        if not row['img_path']:
            raise ValueError(f'{where}: img_path is empty; name the image, or remove the row')
    return [sample_of(row, labels[row['image_id']], path.parent) for _, row in rows]


def sample_of(row: Mapping[str, str], label: int | None, folder: Path) -> dict:
    """One row as a sample, which lacks what the row leaves empty."""
    paths = {key: str(folder / row[key]) for key in ('img_path', 'seg_map_path') if row[key]}
    return {'image_id': row['image_id'], **paths, **({} if label is None else {'gt_label': label})}


def write_extra_samples(path: str | Path, samples: Iterable[Mapping]) -> None:
    """Write samples as such a list, with whatever of ``distance`` they have."""
    rows = ({**sample, **diagnosis(sample.get('gt_label'))} for sample in samples)
    write_csv(path, [FIELDS, *([row.get(field) for field in FIELDS] for row in rows)])


def diagnosis(label: int | None) -> dict[str, int]:
    """A label as the columns of a Part 3 table; none without a label."""
    return {} if label is None else {name: int(CLASSES[label] == name) for name in COLUMNS[1:]}
