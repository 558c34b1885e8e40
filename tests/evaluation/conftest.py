import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.structures import BaseDataElement, PixelData

from mmskin.registry import METRICS

CLASSES = ('melanoma', 'nevus', 'seborrheic_keratosis')


@pytest.fixture
def make_sample():
    """A sample with what is given: label and scores of the classes, predicted and true mask (H, W)."""

    def make(image_id, gt_label=None, scores=None, pred=None, gt=None, **metainfo):
        sample = BaseDataElement(metainfo={'image_id': image_id, **metainfo})
        if gt_label is not None:
            sample.gt_label = torch.tensor([gt_label])
        if scores is not None:
            sample.cls_score = torch.tensor(scores)
            sample.cls_label = sample.cls_score.argmax(0, keepdim=True)
        for name, mask in (('seg_mask', pred), ('gt_sem_seg', gt)):
            if mask is not None:
                sample.set_data({name: PixelData(data=torch.as_tensor(mask, dtype=torch.uint8)[None])})
        return sample

    return make


@pytest.fixture
def evaluate():
    """Run metrics over samples as mmengine does: (metric configs, samples) -> results, metric objects."""

    def run(types, samples, batch_size=4, size=None):
        metrics = [METRICS.build({'type': kind} if isinstance(kind, str) else kind) for kind in types]
        evaluator = Evaluator(metrics)
        evaluator.dataset_meta = {'classes': CLASSES}
        for start in range(0, len(samples), batch_size):
            evaluator.process(samples[start : start + batch_size])
        return evaluator.evaluate(size or len(samples)), metrics

    return run


@pytest.fixture
def random_samples(make_sample):
    """Forty complete samples, the first without labels."""
    generator = torch.Generator().manual_seed(0)

    def sample(index):
        scores = torch.rand(3, generator=generator).softmax(0).tolist()
        pred, gt = torch.rand(2, 12, 17, generator=generator) > 0.5
        if index == 0:
            return make_sample('ISIC_0', scores=scores, pred=pred)
        return make_sample(f'ISIC_{index}', index % 3, scores, pred, gt)

    return [sample(index) for index in range(40)]
