import pickle

import cv2
import numpy as np
import pytest

from mmskin.drawing import Case
from mmskin.evaluation.contour_sheet import read_cases
from mmskin.registry import METRICS


def disc(radius, side=60):
    y, x = np.mgrid[:side, :side] - side / 2
    return (x**2 + y**2 < radius**2).astype(np.uint8)


def test_a_test_leaves_a_picture(tmp_path, make_sample, evaluate):
    cv2.imwrite(str(tmp_path / 'image.png'), np.full((60, 60, 3), 200, np.uint8))
    samples = [
        make_sample(f'ISIC_{i}', i % 3, [0.2, 0.5, 0.3], disc(15), disc(20), img_path=str(tmp_path / 'image.png'))
        for i in range(9)
    ]
    results, _ = evaluate([{'type': 'ContourSheet', 'out_file': str(tmp_path / 'new' / 'cases.png')}], samples)
    picture = cv2.imread(str(tmp_path / 'new' / 'cases.png')).astype(int)
    assert results == {}
    assert np.any((picture[..., 0] > 200) & (picture[..., 1:].max(-1) < 80))  # blue
    assert np.any((picture[..., 2] > 200) & (picture[..., :2].max(-1) < 60))  # red


def test_picture_is_the_same_in_whatever_order(tmp_path, random_samples, evaluate):
    for name, samples in (('a.png', random_samples), ('b.png', random_samples[::-1])):
        evaluate([{'type': 'ContourSheet', 'out_file': str(tmp_path / name), 'num_images': 6}], samples)
    assert (tmp_path / 'a.png').read_bytes() == (tmp_path / 'b.png').read_bytes()


@pytest.mark.parametrize(
    'given', [{}, {'gt_label': 1}, {'scores': [0.1, 0.8, 0.1]}, {'gt': disc(9)}, {'pred': disc(9)}]
)
def test_samples_may_lack_anything(tmp_path, make_sample, evaluate, given):
    evaluate([{'type': 'ContourSheet', 'out_file': str(tmp_path / 'cases.png')}], [make_sample('a', **given)])
    assert (tmp_path / 'cases.png').stat().st_size > 0


def test_a_missing_image_is_named(tmp_path, make_sample, evaluate):
    sample = make_sample('a', 1, [0.1, 0.8, 0.1], img_path=str(tmp_path / 'gone.jpg'))
    with pytest.raises(FileNotFoundError, match=r'gone\.jpg'):
        evaluate([{'type': 'ContourSheet', 'out_file': str(tmp_path / 'cases.png')}], [sample])


def test_rows_stay_small_for_any_mask(make_sample):
    def row_bytes(mask):
        metric = METRICS.build({'type': 'ContourSheet'})
        metric.process(None, [make_sample('a', pred=mask, gt=mask).to_dict()])
        return len(pickle.dumps(metric.results))

    specks = (np.random.default_rng(0).random((1500, 2000)) > 0.5).astype(np.uint8)
    assert row_bytes(disc(900, 3000)) < 2000
    assert row_bytes(specks) < 50_000  # bounded by the thumbnail, not by the image


def test_of_many_images_the_telling_cases_are_kept(tmp_path):
    """In any order: of each class the worst, the best, and what was classified wrongly."""
    cases = [
        Case(f'{index:05}', gt_class=('a', 'b')[index % 2], pred_class='b' if index % 10 else 'a', jaccard=index / 6000)
        for index in range(6000)
    ]
    kept, again = [], []
    for telling, given in ((kept, cases[::-1]), (again, cases)):
        METRICS.build({'type': 'ContourSheet', 'out_file': str(tmp_path / 'cases.png')}).compute_metrics(given)
        telling += read_cases(tmp_path / 'cases.json')
    assert len(kept) <= 2000
    assert {case.image_id for case in kept} == {case.image_id for case in again}
    assert {'00000', '00001', '05998', '05999', '02999', '03000'} <= {case.image_id for case in kept}
    assert sum(case.wrong for case in kept) >= 400
