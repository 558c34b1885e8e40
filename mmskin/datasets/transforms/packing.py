"""Packing a pipeline's results into what the model takes."""

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.structures import PixelData

from mmskin.registry import TRANSFORMS
from mmskin.structures import TaskSample

META_KEYS = ('image_id', 'img_path', 'ori_shape', 'img_shape')


@TRANSFORMS.register_module()
class PackTaskSample(BaseTransform):
    """Pack the results as ``dict(inputs=uint8 tensor (3, h, w), data_samples=TaskSample)``.

    The last step of every pipeline. What the sample has no label for, the ``TaskSample`` lacks.
    """

    def transform(self, results: dict) -> dict:
        """Pack image, label, values, mask, inputs beside the image and meta fields."""
        sample = TaskSample(metainfo={key: results[key] for key in META_KEYS if key in results})
        if 'gt_label' in results:
            sample.gt_label = torch.tensor([results['gt_label']])
        if 'gt_values' in results:
            sample.gt_values = torch.from_numpy(results['gt_values'])
        if 'gt_seg_map' in results:
            mask = np.ascontiguousarray(results['gt_seg_map'][None])  # (1, H, W)
            sample.gt_sem_seg = PixelData(data=torch.from_numpy(mask))
        if results.get('inputs'):
            sample.inputs = dict(results['inputs'])
        image = np.ascontiguousarray(results['img'].transpose(2, 0, 1))  # (3, h, w)
        return dict(inputs=torch.from_numpy(image), data_samples=sample)
