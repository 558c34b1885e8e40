"""What every registered metric with numbers per image keeps to; it is tested by being registered."""

from mmskin.evaluation.per_image import PerImageMetric
from mmskin.registry import METRICS
from mmskin.testing import MetricContract

METRICS.import_from_location()
EVERY = sorted(name for name, kind in METRICS.module_dict.items() if issubclass(kind, PerImageMetric))

for name in EVERY:
    globals()[f'Test{name}'] = type(f'Test{name}', (MetricContract,), dict(cfg=dict(type=name)))


def test_there_are_some():
    assert {'ClassificationMetric', 'SegmentationMetric', 'ISIC2017ClassificationMetric'} <= {*EVERY}
