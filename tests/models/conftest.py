"""Random batches for the model tests."""

import pytest
import torch
from mmengine.structures import PixelData

from mmskin.structures import TaskSample

LABELS = ('gt_label', 'gt_sem_seg', 'gt_values')


def make_sample(index, size, fields=LABELS):
    generator = torch.Generator().manual_seed(index)
    sample = TaskSample(
        metainfo=dict(image_id=f'ISIC_{index:07}', img_path='', ori_shape=(size[0] + 8, size[1] + 13), img_shape=size)
    )
    if 'gt_label' in fields:
        sample.gt_label = torch.tensor([index % 3])
    if 'gt_sem_seg' in fields:
        sample.gt_sem_seg = PixelData(data=torch.randint(2, (1, *size), generator=generator, dtype=torch.uint8))
    if 'gt_values' in fields:
        sample.gt_values = torch.randn(3, generator=generator)
    return sample


@pytest.fixture
def make_samples():
    """A function that gives one sample per entry, the entry being the names of the labels it has."""

    def make(fields=(LABELS, LABELS), size=(33, 41)):
        return [make_sample(index, size, names) for index, names in enumerate(fields)]

    return make


@pytest.fixture
def make_batch(make_samples):
    """The same as a loader gives it: with an image to each sample."""

    def make(fields=(LABELS, LABELS), size=(33, 41)):
        generator = torch.Generator().manual_seed(0)
        images = [torch.randint(256, (3, *size), generator=generator, dtype=torch.uint8) for _ in fields]
        return dict(inputs=images, data_samples=make_samples(fields, size))

    return make
