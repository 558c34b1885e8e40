"""What the metrics keep per image, by image size and by number of images.

    python speed/evaluation_memory.py

Every metric of a test sees random predictions and masks of growing size; tracemalloc measures what they keep.
"""

import tracemalloc

import torch
from mmengine.evaluator import BaseMetric
from mmengine.structures import PixelData

from mmskin.registry import METRICS
from mmskin.structures import TaskSample

NAMES = ('ClassificationMetric', 'ISIC2017ClassificationMetric', 'SegmentationMetric', 'ContourSheet')
SIDES = (256, 1024, 3072)
COUNTS = (4, 16)


def sample(index: int, side: int) -> dict:
    """A disc predicted a little off its place."""
    result = TaskSample(metainfo={'image_id': f'X_{index:07d}', 'ori_shape': (side, side)})
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing='ij')
    disc = ((x - side / 2) ** 2 + (y - side / 2) ** 2 < (side / 4) ** 2)[None].to(torch.uint8)
    result.gt_label = torch.tensor([index % 3])
    result.cls_label, result.cls_score = torch.tensor([0]), torch.tensor([0.5, 0.3, 0.2])
    result.gt_sem_seg, result.seg_mask = PixelData(data=disc), PixelData(data=disc.roll(5, dims=2))
    return result.to_dict()


def kept(metric: BaseMetric, side: int, count: int) -> float:
    """Bytes per image that stay in ``metric`` after ``count`` images of ``side`` x ``side``."""
    metric.results.clear()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for index in range(count):
        metric.process({}, [sample(index, side)])
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return (after - before) / count


def main() -> None:
    """Measure and print."""
    columns = [(side, count) for side in SIDES for count in COUNTS]
    print('bytes kept per image')
    print('| metric | ' + ' | '.join(f'{count} of {side}x{side}' for side, count in columns) + ' |')
    print('|---|' + '---|' * len(columns))
    for name in NAMES:
        metric = METRICS.build({'type': name})
        metric.dataset_meta = {'classes': ('melanoma', 'nevus', 'seborrheic_keratosis')}
        kept(metric, SIDES[0], 2)  # what is imported and cached at first use
        print(f'| {name} | ' + ' | '.join(f'{kept(metric, *column):.0f}' for column in columns) + ' |')


if __name__ == '__main__':
    main()
