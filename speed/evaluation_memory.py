"""What the metrics keep per image, by image size and by number of images.

    python speed/evaluation_memory.py
    python speed/evaluation_memory.py --count 400000

Every metric of a test sees random predictions and masks of growing size; tracemalloc measures what they keep.
"""

import argparse
import resource
import time
import tracemalloc
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from mmengine.evaluator import BaseMetric
from mmengine.structures import PixelData

from mmskin.evaluation.per_image import ResultsEvaluator
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


def curve(count: int) -> None:
    """MB of the process while so many images of 16 x 16 are tested, and to the end of it; all metrics at once."""
    metrics = [METRICS.build({'type': name}) for name in NAMES]
    samples = [sample(index, 16) for index in range(100)]
    print('| images | MB more than before | s |\n|---|---|---|')
    with TemporaryDirectory() as folder:
        for metric in metrics:
            metric.dataset_meta = {'classes': ('melanoma', 'nevus', 'seborrheic_keratosis')}
            if hasattr(metric, 'out_file'):
                metric.out_file = f'{folder}/cases.png'
        evaluator = ResultsEvaluator(metrics, folder)
        start, before = time.perf_counter(), resident()
        for index in range(count):
            evaluator.process([{**samples[index % 100], 'image_id': f'X_{index:07d}'}], {})
            if (index + 1) % max(1, count // 5) == 0:
                print(f'| {index + 1} | {resident() - before:.0f} | {time.perf_counter() - start:.0f} |', flush=True)
        evaluator.evaluate(count)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3 - before
        print(f'| the table and the sheet made | {peak:.0f} at the peak | {time.perf_counter() - start:.0f} |')


def resident() -> float:
    """MB of the process in memory."""
    return int(Path('/proc/self/statm').read_text().split()[1]) * resource.getpagesize() / 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--count', type=int, help='images of a whole test, whose memory is measured as it goes on')
    if count := parser.parse_args().count:
        curve(count)
        return
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
