"""Lists of samples from elsewhere, which a dataset takes beside its own."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mmskin.datasets.ground_truth import COLUMNS, read_labels
from mmskin.datasets.lesion_dataset import CLASSES
from mmskin.datasets.table import named_file, read_rows
from mmskin.errors import Mistake
from mmskin.files import check_name, write_csv

FIELDS = (*COLUMNS, 'img_path', 'seg_map_path', 'distance')


def read_extra_samples(path: str | Path, roots: Sequence[str | Path] | None = None) -> list[dict]:
    """The samples of a list, as ``load_data_list`` gives them.

    Args:
        path: a CSV with the columns ``image_id``, ``img_path``, ``seg_map_path``, and those of a Part 3 table. Mask and
            diagnosis may be empty. Paths are absolute, or relative to the list's folder. Other columns are passed over.
        roots: the folders that images and masks have to be in, besides the list's own; None allows any.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a column is missing, an id occurs twice or cannot be part of a file's name, an image is not named
            or outside ``roots``, or a diagnosis makes no sense.
    """
    path = Path(path)
    labels = read_labels(path)
    rows = list(read_rows(path, ('img_path', 'seg_map_path'), '', 'write the list by tools/select_data.py.'))
    samples = []
    for where, row in rows:
        if not row['img_path']:
            raise Mistake(f'{where}: img_path is empty; name the image, or remove the row')
        sample: dict = {'image_id': check_name(row['image_id'], f'{where}: the image id')}
        for key in ('img_path', 'seg_map_path'):
            if row[key]:
                allowed = None if roots is None else [path.parent, *roots]
                sample[key] = str(named_file(row[key], f'{where}: {key}', path.parent, allowed))
        label = labels[row['image_id']]
        samples.append(sample if label is None else {**sample, 'gt_label': label})
    return samples


def write_extra_samples(path: str | Path, samples: Iterable[Mapping]) -> None:
    """Write samples as such a list, with whatever of ``distance`` they have."""
    rows = ({**sample, **diagnosis(sample.get('gt_label'))} for sample in samples)
    write_csv(path, [FIELDS, *([row.get(field) for field in FIELDS] for row in rows)])


def diagnosis(label: int | None) -> dict[str, int]:
    """A label as the columns of a Part 3 table; none without a label."""
    return {} if label is None else {name: int(CLASSES[label] == name) for name in COLUMNS[1:]}
