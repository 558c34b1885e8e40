"""The ISIC-2017 challenge data in its official folder layout.

Layout and file names: https://challenge.isic-archive.com/data/#2017
"""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from mmskin.datasets.inputs import read_inputs
from mmskin.datasets.tables import CLASSES, class_or_number, read_extra_samples, read_labels
from mmskin.datasets.task_dataset import TaskDataset, check_fields, left_in, listed
from mmskin.errors import MissingFile, Mistake
from mmskin.registry import DATASETS

SPLITS = {'train': 'ISIC-2017_Training', 'val': 'ISIC-2017_Validation', 'test': 'ISIC-2017_Test_v2'}
TASKS = ('cls', 'seg')
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png')
MASK_SUFFIX = '_segmentation.png'
SUPERPIXEL_SUFFIX = '_superpixels.png'
METADATA_SUFFIX = '_metadata.csv'
TABLE_IS = "it is the split's table of ages and sexes; leave out {} to do without."
OFFICIAL_LAYOUT = (
    'The official layout is <data_root>/ISIC-2017_{Training,Validation,Test_v2}_Data, ..._Part1_GroundTruth and '
    '..._Part3_GroundTruth.csv, as "mmskin prepare isic2017" makes it; check data_root (--data-root).'
)


@DATASETS.register_module()
class ISIC2017Dataset(TaskDataset):
    """Dermoscopic images with a lesion mask (``'seg'``) and a diagnosis (``'cls'``), from an official-layout folder.

    Folders, table and ids are checked when the dataset is loaded; image and mask when a sample is.

    Args:
        data_root: the folder with ``ISIC-2017_Training_Data`` and its neighbours.
        split: ``'train'``, ``'val'`` or ``'test'``, or several of them, such as ``('train', 'val')``.
        tasks: whose ground truth is read.
        partial_labels: any image may lack the ground truth of any task, which is otherwise an error; a ground truth
            without its image is an error either way.
        exclude: ids to leave out, such as images that another split holds too.
        extra: a list of further samples from elsewhere, as ``tools/select_data.py`` writes it; see
            ``read_extra_samples``. Any of them may lack the ground truth of any task.
        outside_data_root: the files that ``extra`` names may lie anywhere; otherwise one that is neither in the list's
            folder nor in ``data_root`` is an error. Links in these folders may lead anywhere.
        inputs: columns of the split's ``..._Data/..._Data_metadata.csv`` that the network is given with the image, by
            the input's name: ``dict(age='age_approximate', sex='sex')``. Cells may be empty or "unknown". Without the
            table they are unknown for all images in ``test_mode``, with a warning, and an error otherwise.
        columns: columns of the same table that are ground truth, by their fields in the sample: ``dict(gt_sex='sex')``
            with the names of the classes in ``metainfo=dict(gt_sex=('female', 'male'))``; without names a number.
        options: those of ``TaskDataset``: ``pipeline``, ``seed``, ``indices``, ``test_mode`` and ``lazy_init``.

    Raises:
        MissingFile: if a folder or the table is missing.
        Mistake: if the split is empty, an id is duplicated or lacks its counterpart, a label is neither 0 nor 1 or
            an image has both, or an argument names nothing known.
    """

    METAINFO = dict(classes=CLASSES)

    def __init__(
        self,
        data_root: str | Path,
        split: str | Sequence[str] = 'train',
        tasks: Sequence[str] = TASKS,
        partial_labels: bool = False,
        exclude: Collection[str] = (),
        extra: str | Path | None = None,
        outside_data_root: bool = False,
        inputs: Mapping[str, str] | None = None,
        columns: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        self.splits = (split,) if isinstance(split, str) else tuple(split)
        if not self.splits or not {*self.splits} <= {*SPLITS}:
            raise Mistake(f'split={split!r} is not one of {", ".join(map(repr, SPLITS))}')
        if not tasks or not set(tasks) <= set(TASKS):
            raise Mistake(f'tasks={tasks!r}: ISIC2017Dataset has the tasks {TASKS}; give one or both, as a tuple')
        self.split, self.tasks = '+'.join(self.splits), tuple(tasks)
        self.partial_labels, self.exclude, self.extra = partial_labels, frozenset(exclude), extra
        self.outside_data_root = outside_data_root
        self.inputs, self.columns = inputs or {}, columns or {}
        check_fields(self.columns)
        super().__init__(data_root, **options)

    def load_data_list(self) -> list[dict]:
        """One dict per image, split by split in the order of their ids; those of ``extra`` come after."""
        samples = [sample for split in self.splits for sample in self._samples_of(split)]
        if twice := [image_id for image_id, count in Counter(s['image_id'] for s in samples).items() if count > 1]:
            raise Mistake(f'{self.data_root}: {listed(twice)} are in several of the splits {self.split}; keep one')
        ids = [sample['image_id'] for sample in samples]
        kept = left_in(ids, self.exclude, f'the {self.split} split of {self.data_root}')
        roots = None if self.outside_data_root else [self.data_root]
        extra = read_extra_samples(self.extra, roots) if self.extra else []
        if twice := [*{*ids}.intersection(sample['image_id'] for sample in extra)]:
            raise Mistake(f'{self.extra} lists {listed(twice)} that the {self.split} split of {self.data_root} has')
        unused = {key for task, key in (('cls', 'gt_label'), ('seg', 'seg_map_path')) if task not in self.tasks}
        return [samples[index] for index in kept] + [
            {key: value for key, value in sample.items() if key not in unused} | {'is_extra': True} for sample in extra
        ]

    def _samples_of(self, split: str) -> list[dict]:
        """One dict per image of a split."""
        prefix = Path(self.data_root) / SPLITS[split]
        images = index_images(Path(f'{prefix}_Data'))
        masks = self._ground_truth('seg', index_masks, Path(f'{prefix}_Part1_GroundTruth'), images)
        labels = self._ground_truth('cls', read_labels, Path(f'{prefix}_Part3_GroundTruth.csv'), images)
        inputs: Mapping[str, dict] = {}
        further: Mapping[str, dict] = {}
        table = Path(f'{prefix}_Data', f'{SPLITS[split]}_Data{METADATA_SUFFIX}')
        if self.inputs and self.test_mode and not table.is_file():
            print_log(f'{table}: not there; {" and ".join(self.inputs)} are unknown', 'current', logging.WARNING)
        elif self.inputs:
            inputs = read_inputs(table, self.inputs, images, TABLE_IS.format('inputs'))
        if self.columns:
            further = read_inputs(table, self.columns, images, TABLE_IS.format('columns'))
        samples = []
        for image_id, path in sorted(images.items()):
            sample = dict(image_id=image_id, img_path=str(path)) | inputs.get(image_id, {})
            if row := further.get(image_id):
                for field, cell in row['inputs'].items():
                    sample[field] = class_or_number(field, row['inputs_from'][field], cell, self.metainfo)
            if image_id in masks:
                sample['seg_map_path'] = str(masks[image_id])
            if image_id in labels:
                sample['gt_label'] = labels[image_id]
            samples.append(sample)
        return samples

    def _ground_truth(self, task: str, read: Callable[[Path], dict], path: Path, images: dict[str, Path]) -> dict:
        """The ground truth of ``task`` by image id, checked against the images."""
        if task not in self.tasks or (self.partial_labels and not path.exists()):
            return {}
        known = {image_id: value for image_id, value in read(path).items() if value is not None}
        complaints = []
        if strays := known.keys() - images.keys():
            complaints.append(f'{listed(strays)} in {path} but without an image; add the images or remove these')
        if not self.partial_labels and (unlabelled := images.keys() - known.keys() - self.exclude):
            complaints.append(
                f'{listed(unlabelled)} with an image but not in {path}; add them, remove the images, '
                'or allow it with partial_labels=True'
            )
        if complaints:
            raise Mistake(f'{self.split} split: {"; ".join(complaints)}')
        return known


def index_images(folder: Path) -> dict[str, Path]:
    """The image files of ``folder`` by id; superpixel maps, hidden and other files are ignored."""
    paths = [
        path
        for path in files_in(folder)
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.lower().endswith(SUPERPIXEL_SUFFIX)
    ]
    if not paths:
        raise Mistake(f'{folder} holds no image ({", ".join(IMAGE_SUFFIXES)}). {OFFICIAL_LAYOUT}')
    return by_id(folder, ((path.stem, path) for path in paths))


def index_masks(folder: Path) -> dict[str, Path]:
    """The mask files ``<id>_segmentation.png`` of ``folder`` by id; ISIC 2016 has ``_Segmentation.png``."""
    files = files_in(folder)
    masks = [path for path in files if path.name.lower().endswith(MASK_SUFFIX)]
    others = [path.name for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    if others and not masks:
        raise Mistake(f'{folder}: none of its {len(others)} images, such as {others[0]}, is named <id>{MASK_SUFFIX}')
    return by_id(folder, ((path.name[: -len(MASK_SUFFIX)], path) for path in masks))


def files_in(folder: Path) -> list[Path]:
    """The files of ``folder`` that are not hidden."""
    if not folder.is_dir():
        raise MissingFile(f'{folder} is missing or not a folder. {OFFICIAL_LAYOUT}')
    return sorted(path for path in folder.iterdir() if not path.name.startswith('.'))


def by_id(folder: Path, pairs: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    """The pairs as a dict, after a check that no id occurs twice."""
    pairs = list(pairs)
    twice = [image_id for image_id, count in Counter(image_id for image_id, _ in pairs).items() if count > 1]
    if twice:
        raise Mistake(f'{folder} holds more than one file for {listed(twice)}; keep one of each')
    return dict(pairs)
