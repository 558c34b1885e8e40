"""Folds for cross-validation: images that belong together are held out together, and a table says which are when."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mmskin.datasets.duplicates import find_pairs, fingerprint
from mmskin.datasets.tables import read_rows
from mmskin.datasets.task_dataset import FOLD_COLUMNS, listed, read_folds
from mmskin.errors import Mistake
from mmskin.files import write_csv
from mmskin.structures import label_in

Source = str | Mapping[str, str] | Sequence[tuple[str, str]]  # of groups
DUPLICATES = 'duplicates'


def assign_folds(
    samples: Sequence[dict],
    count: int,
    sources: Sequence[Source] = (DUPLICATES,),
    seed: int = 0,
    folder: Path = Path(),
    target: str = 'gt_label',
) -> dict[str, tuple[int, str]]:
    """Deal images into ``count`` folds with classes in equal shares; a group stays in one fold.

    The result depends on ids, labels and groups, not on the order of ``samples``.

    Args:
        samples: as a dataset's ``get_data_info`` gives them; one without ``target`` is a class of its own.
        count: how many folds.
        sources: what says which images belong together; images that several of them chain together are one group.
            ``'duplicates'`` are the exact and near duplicates that ``find_pairs`` would name. A file is a table with
            the columns ``image_id`` and ``group``, and ``dict(csv=..., column='patient', id_column='image')`` one with
            others; images that it does not list, or with an empty cell, are groups of their own. Pairs of ids are
            taken as they are.
        seed: another one deals in another way.
        folder: what files are relative to.
        target: the samples' field with the class.

    Returns:
        Fold and group by image id; a group is named after its first image.

    Raises:
        Mistake: if there are fewer groups or images of the commonest class than folds, or a table is missing or fits
            none of the images.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # its import takes a second, which a prediction saves

    samples = sorted(samples, key=lambda sample: sample['image_id'])
    ids = [sample['image_id'] for sample in samples]
    place = {image_id: index for index, image_id in enumerate(ids)}
    edges = [(place[one], place[other]) for source in sources for one, other in _pairs(samples, source, folder)]
    rows, columns = np.array(edges or [(0, 0)]).T
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(ids), len(ids)))
    _, component = connected_components(graph, directed=False)
    first = {number: ids[index] for index, number in reversed([*enumerate(component.tolist())])}
    groups = [first[number] for number in component.tolist()]
    labels = [-1 if (label := label_in(sample, target)) is None else label for sample in samples]
    if count < 2 or len(first) < count:
        raise Mistake(f'folds={count}: there are {len(first)} groups of images; give 2 to {len(first)} folds')
    dealer = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)  # of a class with fewer images than folds
        try:
            parts = [*dealer.split(ids, labels, groups)]
        except ValueError as error:
            raise Mistake(f'folds={count}: {error}') from error
    fold_of = {index: fold for fold, (_, held_out) in enumerate(parts) for index in held_out.tolist()}
    return {image_id: (fold_of[index], groups[index]) for index, image_id in enumerate(ids)}


def _pairs(samples: Sequence[dict], source: Source, folder: Path) -> Iterable[tuple[str, str]]:
    """Pairs of ids that a source says belong together."""
    if source == DUPLICATES:
        prints = [fingerprint(sample['image_id'], Path(sample['img_path'])) for sample in samples]
        for pair in find_pairs({'these': prints, 'each other': prints}):
            yield pair.one.split, pair.other.split  # where an id stands here
        return
    if not isinstance(source, str | Mapping):
        yield from source
        return
    table = {'csv': source} if isinstance(source, str) else source
    if unknown := {*table} - {'csv', 'column', 'id_column'} or {'csv'} - {*table}:
        raise Mistake(
            f'groups={source!r}: {", ".join(sorted(unknown))} is unknown or missing; give csv, and column '
            'and id_column where they are not group and image_id'
        )
    column, id_column = table.get('column', 'group'), table.get('id_column', 'image_id')
    path = Path(folder, table['csv'])
    ids = {sample['image_id'] for sample in samples}
    first: dict[str, str] = {}
    fits = False
    for _, row in read_rows(path, (id_column, column), 'groups name it, relative to the data folder.', 'name them.'):
        if row[id_column] in ids:
            fits = True
            if row[column]:
                yield row[id_column], first.setdefault(row[column], row[id_column])
    if not fits:
        raise Mistake(f'{path}: none of the {len(ids)} images is in its column {id_column}; name the right id_column')


def write_folds(path: str | Path, folds: Mapping[str, tuple[int, str]]) -> None:
    """Write the table that the datasets' ``folds`` takes."""
    write_csv(path, [FOLD_COLUMNS, *([image_id, fold, group] for image_id, (fold, group) in sorted(folds.items()))])


def check_folds(
    path: str | Path, samples: Sequence[dict], count: int, sources: Sequence[Source], folder: Path = Path()
) -> None:
    """Check that a table from earlier is of these images, in ``count`` folds, and keeps the groups of tables together.

    Raises:
        Mistake: names the file and what does not fit. Near duplicates are not searched again.
    """
    folds = read_folds(path)
    remedy = 'restore what it was made from, or remove it with the results that were made by it'
    if odd := {sample['image_id'] for sample in samples} ^ folds.keys():
        raise Mistake(f'{path}: {listed(odd)} are in it or in the data, not in both; {remedy}')
    if (there := {fold for fold, _ in folds.values()}) != {*range(count)}:
        raise Mistake(f'{path}: has {len(there)} folds, and the suite asks for {count}; {remedy}')
    for source in sources:
        for one, other in _pairs(samples, source, folder) if source != DUPLICATES else ():
            if folds[one][0] != folds[other][0]:
                raise Mistake(f'{path}: {one} and {other} are of one group by {source}, and in two folds; {remedy}')
