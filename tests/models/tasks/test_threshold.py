import numpy as np
import pytest
import torch
from mmengine.structures import PixelData

from mmskin.models.tasks.segmentation import MultiClassSegmentation, MultiLabelSegmentation, Segmentation
from mmskin.structures import TaskSample

HEAD = dict(type='torch.nn.Identity')


def decided(maps, size=None, kind=Segmentation, **options):
    """The masks of maps of probability (C, h, w), at ``size``."""
    task = kind(head=HEAD, **options)
    task.name = 'seg'
    sample = TaskSample(metainfo=dict(ori_shape=size or maps.shape[1:]))
    sample.set_field(PixelData(data=torch.as_tensor(maps, dtype=torch.float32)), 'seg_prob')
    task.decide(sample)
    return sample.seg_mask.data.numpy()


def expected_jaccard(probabilities, mask):
    return probabilities[mask].sum() / (mask.sum() + probabilities[~mask].sum())


@pytest.fixture
def maps():
    """Two outlines with soft borders: distance to a centre through a sigmoid."""
    y, x = np.mgrid[:40, :50]
    distances = [np.hypot(y - 20, x - 25) - 9, np.hypot(y - 10, x - 12) - 4]
    return np.stack([1 / (1 + np.exp(distance / soft)) for distance, soft in zip(distances, (4, 2), strict=True)])


def test_half_is_the_default(maps):
    assert np.array_equal(decided(maps[:1]), maps[:1] > 0.5)
    assert np.array_equal(decided(maps[:1], threshold=0.8), maps[:1] > 0.8)


def test_no_other_threshold_expects_more(maps):
    masks = decided(maps, kind=MultiLabelSegmentation, threshold='expected_jaccard').astype(bool)
    for probabilities, mask in zip(maps, masks, strict=True):
        best = max(expected_jaccard(probabilities, probabilities > level) for level in np.linspace(0, 0.99, 400))
        assert expected_jaccard(probabilities, mask) >= best - 1e-4
        assert (probabilities > 0.5).sum() < mask.sum()  # a soft border's lower half is worth having


def test_the_mask_is_at_the_images_size(maps):
    (mask,) = decided(maps[:1], (80, 100), threshold='expected_jaccard')
    assert mask.shape == (80, 100)
    small = decided(maps[:1], threshold='expected_jaccard')
    assert mask.mean() == pytest.approx(small.mean(), abs=0.01)


def test_what_is_nowhere_likely_is_not_outlined(maps):
    assert not decided(maps[:1] * 0.4, threshold='expected_jaccard').any()


@pytest.mark.parametrize('threshold', [0, 1, 1.5, -0.1, True, 'half', float('nan')])
def test_no_threshold_is_refused(threshold):
    with pytest.raises(ValueError, match=r"threshold=.*: give a probability between 0 and 1, or 'expected_jaccard'"):
        Segmentation(head=HEAD, threshold=threshold)


def test_classes_have_no_threshold():
    with pytest.raises(ValueError, match='of several classes the likeliest counts; leave it out'):
        MultiClassSegmentation(head=HEAD, threshold='expected_jaccard')
