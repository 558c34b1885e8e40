import numpy as np
import torch

from mmskin.datasets.transforms.loading import PackTaskSample
from mmskin.structures import TaskSample


def results():
    return {
        'img': np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 4, 3),
        'gt_seg_map': np.eye(3, dtype=np.uint8),
        'gt_label': 2,
        'image_id': 'ISIC_0000000',
        'img_path': 'ISIC_0000000.jpg',
        'ori_shape': (3, 3),
        'img_shape': (2, 4),
    }


def test_everything_is_packed():
    packed = PackTaskSample()(results())
    sample = packed['data_samples']
    assert isinstance(sample, TaskSample)
    assert packed['inputs'].shape == (3, 2, 4)
    assert packed['inputs'].dtype == torch.uint8
    assert packed['inputs'][:, 1, 3].tolist() == [21, 22, 23]
    assert sample.gt_label.dtype == torch.int64
    assert sample.gt_label.tolist() == [2]
    assert torch.equal(sample.gt_sem_seg.data, torch.eye(3, dtype=torch.uint8)[None])
    assert sample.metainfo == {key: results()[key] for key in ('image_id', 'img_path', 'ori_shape', 'img_shape')}


def test_what_is_unlabelled_is_absent():
    unlabelled = {key: value for key, value in results().items() if not key.startswith('gt_')}
    sample = PackTaskSample()(unlabelled)['data_samples']
    assert 'gt_label' not in sample
    assert 'gt_sem_seg' not in sample


def test_flipped_arrays_are_packed_too():
    flipped = results()
    flipped.update(img=flipped['img'][:, ::-1], gt_seg_map=flipped['gt_seg_map'][::-1])
    assert PackTaskSample()(flipped)['inputs'][:, 0, 0].tolist() == [9, 10, 11]
