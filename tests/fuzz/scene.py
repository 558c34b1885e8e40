"""What there is to damage: a small data set, a narrow network, its test, its benchmark, and images of all formats."""

import io
import json
import shutil
import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from mmskin.cli import main
from mmskin.config import load_config
from mmskin.datasets.synthetic import SyntheticLesions
from mmskin.files import write_csv
from mmskin.packaging.publish import publish_weights

__all__ = ['Scene']

ROOT = Path(__file__).resolve().parents[2]
SHAPE = (48, 64)
CONFIG = """
# sizes that take a moment, and the parts of a config that people change
custom_imports = dict(imports=['narrow'])
default_scope = 'mmskin'
size = 48
widths = [8, 8]
model = dict(
    type='MultiTaskModel',
    data_preprocessor=dict(type='mmengine.ImgDataPreprocessor', mean=[127.0] * 3, std=[64.0] * 3),
    backbone=dict(
        type='SplitBackbone',
        chain=dict(type='narrow.NarrowChain', model='narrow'),
        split_after='layer2.1',
        branches=dict(cls=dict(), seg=dict(output_stride=16)),
    ),
    inputs=dict(
        age=dict(type='Numeric', minimum=0, maximum=120, edges=(25, 45, 65), mean=50, std=20),
        sex=dict(type='Categorical', values=('female', 'male')),
    ),
    tasks=dict(
        cls=dict(
            type='Classification',
            head=dict(type='ClsHead', in_channels=widths[0]),
            losses=dict(ce=dict(type='CrossEntropy')),
            fusion=dict(type='PriorFusion'),
        ),
        seg=dict(
            type='Segmentation',
            head=dict(type='ASPPHead', in_channels=widths[1], rates=(1, 2)),
            losses=dict(dice=dict(type='DiceLoss')),
        ),
    ),
    passing={'layer3.1': dict(type='GatedFeaturePassing')},
)
pipeline = [
    dict(type='LoadImage', size=size),
    dict(type='ResizeImage'),
    dict(type='LoadMask'),
    dict(type='PackTaskSample'),
]
inputs = dict(age='age_approximate', sex='sex')
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='ISIC2017Dataset',
        data_root='DATA',
        split='train',
        inputs=inputs,
        pipeline=[
            dict(type='LoadImage', size=size, smallest_crop=0.8),
            dict(type='LoadMask'),
            dict(type='RandomWarp', crop=(0.8, 1.0), zoom=(0.9, 1.1), rotation=180),
            dict(type='PackTaskSample'),
        ],
    ),
)
test_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='ISIC2017Dataset', data_root='DATA', split='test', inputs=inputs, pipeline=pipeline),
)
test_evaluator = [
    dict(type='ClassificationMetric'),
    dict(type='SegmentationMetric'),
    dict(type='ISIC2017ClassificationMetric'),
    dict(type='ContourSheet', out_file='cases.png'),
]
test_cfg = dict()
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.02))
train_cfg = dict(by_epoch=True, max_epochs=1)
param_scheduler = [dict(type='CosineAnnealingLR', T_max=1, eta_min=1e-5, end=1, convert_to_iter_based=True)]
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=10),
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=2),
)
custom_hooks = [dict(type='EpochSeed')]
randomness = dict(seed=0)
log_level = 'ERROR'
"""
SUITE = """
title = 'Tiny'
seeds = [0]
metrics = ['cls/AC', 'cls/mAP', 'seg/JA']
folds = dict(count=2, splits=['train', 'test'], groups=[dict(csv='groups.csv', column='patient')])
margins = {'cls/AC': 0.02}
may_differ = ['train cls']
power = dict(churn=0.1, sd={'seg/JA': 0.06}, seed_sd={'seg/JA': 0.005}, difference={'seg/JA': 0.007, 'cls/AC': 0.022})
baseline = 'plain'
methods = [
    dict(name='plain', config='tiny.py', paper={'seg/JA': 0.787}),
    dict(name='with flips', config='tiny.py', weights_of='plain', options=dict(tta=True), note='of the same network'),
]
"""


class Scene:
    """A folder with all of it; each part is made when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copy(ROOT / 'tests/engine/narrow.py', folder / 'narrow.py')
        sys.path.append(str(folder))

    @cached_property
    def data(self) -> Path:
        """ISIC-2017's layout, with a list of patients."""
        folder = self.folder / 'data'
        SyntheticLesions(seed=5, shape=SHAPE).write(folder, num_train=8, num_val=2, num_test=6)
        ids = sorted(path.stem for path in folder.glob('*_Data/*.jpg'))
        write_csv(
            folder / 'groups.csv', [('image_id', 'patient'), *((name, f'p{n // 2}') for n, name in enumerate(ids))]
        )
        return folder

    @cached_property
    def config(self) -> Path:
        """The narrow network's config."""
        file = self.folder / 'tiny.py'
        file.write_text(CONFIG.replace('DATA', str(self.data)))
        return file

    @cached_property
    def trained(self) -> Path:
        """The work folder of a training."""
        return self.ran('trained', 'train', self.config)

    @cached_property
    def model(self) -> Path:
        """A model folder."""
        folder = publish_weights(load_config(self.settings_for_use), self.trained, self.folder / 'model')
        folder.card.write_text('')
        return folder.config.parent

    @cached_property
    def settings_for_use(self) -> Path:
        """The config without a place on this machine."""
        file = self.folder / 'portable.py'
        file.write_text(CONFIG.replace('DATA', 'data'))
        return file

    @cached_property
    def tested_folder(self) -> Path:
        """The work folder of a test."""
        return self.ran('tested', 'test', self.config, self.trained, '--no-report')

    @cached_property
    def suite(self) -> Path:
        """A suite, next to its config."""
        assert self.config.is_file()
        file = self.folder / 'suite.py'
        file.write_text(SUITE)
        return file

    @cached_property
    def benchmark(self) -> Path:
        """The work folder of the suite, all of whose runs are finished."""
        return self.ran('benchmark', 'benchmark', self.suite, '--processes', '1', '--data-root', self.data)

    def ran(self, name: str, *arguments: object) -> Path:
        """The work folder of a command."""
        status = main([*map(str, arguments), '--work-dir', str(self.folder / name)])
        assert not status, f'{arguments}: status {status}'
        return self.folder / name

    @cached_property
    def photo(self) -> np.ndarray:
        """An RGB image."""
        return SyntheticLesions(seed=5, shape=SHAPE).sample('train', 0)[0]

    @cached_property
    def outline(self) -> np.ndarray:
        """Its mask, 0 and 255."""
        return SyntheticLesions(seed=5, shape=SHAPE).sample('train', 0)[1] * np.uint8(255)

    def images(self) -> dict[str, Callable[[], bytes]]:
        """What makes the image's file in each format, by the file's name."""
        photo = Image.fromarray(self.photo)
        clear = photo.copy()
        clear.putalpha(Image.fromarray(self.outline))
        exif = Image.Exif()
        exif[0x0112] = 6
        grey16 = Image.fromarray(np.asarray(photo.convert('L')).astype(np.uint16) * 257)
        return {
            'plain.jpg': lambda: saved(photo, 'JPEG', quality=92),
            'turned.jpg': lambda: saved(photo, 'JPEG', exif=exif),
            'progressive.jpg': lambda: saved(photo, 'JPEG', progressive=True),
            'cmyk.jpg': lambda: saved(photo.convert('CMYK'), 'JPEG'),
            'plain.png': lambda: saved(photo, 'PNG'),
            'clear.png': lambda: saved(clear, 'PNG'),
            'palette.png': lambda: saved(photo.quantize(32), 'PNG'),
            'grey16.png': lambda: saved(grey16, 'PNG'),
            'plain.tif': lambda: saved(photo, 'TIFF'),
            'lzw.tif': lambda: saved(photo, 'TIFF', compression='tiff_lzw'),
            'jpeg.tif': lambda: saved(photo, 'TIFF', compression='jpeg'),
            'lab.tif': lambda: saved(Image.merge('LAB', photo.split()), 'TIFF'),
            'plain.bmp': lambda: saved(photo, 'BMP'),
            'plain.webp': lambda: saved(photo, 'WEBP'),
            'lossless.webp': lambda: saved(clear, 'WEBP', lossless=True),
        }

    def masks(self) -> dict[str, Callable[[], bytes]]:
        """What makes the mask's file in each format, by the file's name."""
        mask = Image.fromarray(self.outline)
        clear = Image.new('RGBA', mask.size, 'white')
        clear.putalpha(mask)
        wide = Image.fromarray(self.outline.astype(np.uint16) * 257)
        return {
            'plain_mask.png': lambda: saved(mask, 'PNG'),
            'bits_mask.png': lambda: saved(mask.convert('1'), 'PNG'),
            'colour_mask.png': lambda: saved(mask.convert('RGB'), 'PNG'),
            'alpha_mask.png': lambda: saved(clear, 'PNG'),
            'wide_mask.png': lambda: saved(wide, 'PNG'),
            'plain_mask.tif': lambda: saved(mask, 'TIFF'),
            'plain_mask.bmp': lambda: saved(mask, 'BMP'),
        }

    def dicoms(self) -> dict[str, Callable[[], bytes]]:
        """What makes the image's DICOM file in each way of storing pixels, by the file's name."""
        grey = cv2.cvtColor(self.photo, cv2.COLOR_RGB2GRAY)
        jpeg = cv2.imencode('.jpg', grey)[1].tobytes()
        return {
            'grey.dcm': lambda: dicom(grey, 'ExplicitVRLittleEndian'),
            'colour.dcm': lambda: dicom(self.photo, 'ExplicitVRLittleEndian'),
            'wide.dcm': lambda: dicom(grey.astype(np.uint16) * 16, 'ImplicitVRLittleEndian'),
            'runs.dcm': lambda: dicom(self.photo, 'RLELossless'),
            'deflated.dcm': lambda: dicom(grey, 'DeflatedExplicitVRLittleEndian'),
            'jpeg.dcm': lambda: dicom(grey, 'JPEGBaseline8Bit', jpeg),
        }


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    """The file of a PIL image."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def dicom(pixels: np.ndarray, syntax: str, compressed: bytes | None = None) -> bytes:
    """A DICOM file, (H, W) grey or (H, W, 3) RGB."""
    import pydicom
    from pydicom.encaps import encapsulate

    dataset = pydicom.Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = pydicom.uid.SecondaryCaptureImageStorage, '1.2.3.4'
    dataset.PatientName, dataset.StudyDate = 'Nobody', '20260101'
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = pixels.shape[2] if pixels.ndim == 3 else 1
    dataset.PhotometricInterpretation = 'RGB' if pixels.ndim == 3 else 'MONOCHROME2'
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    else:
        dataset.RescaleSlope, dataset.RescaleIntercept = '1', '0'
        dataset.WindowCenter, dataset.WindowWidth = str(2 ** (8 * pixels.itemsize - 1)), str(2 ** (8 * pixels.itemsize))
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.itemsize
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, 0
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = getattr(pydicom.uid, syntax)
    if compressed:
        dataset.PixelData = encapsulate([compressed])
        dataset['PixelData'].is_undefined_length = True
    else:
        dataset.PixelData = pixels.tobytes()
    if syntax == 'RLELossless':
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        dataset.compress(pydicom.uid.RLELossless)
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def plain_torch(weights: dict) -> bytes:
    """A checkpoint as ``torch.save`` writes it."""
    file = io.BytesIO()
    torch.save(weights, file)
    return file.getvalue()


def as_json(value: object) -> bytes:
    """Text of a file."""
    return json.dumps(value, indent=2).encode()
