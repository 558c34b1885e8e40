import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import PixelData

from mmskin.errors import Mistake
from mmskin.evaluation.submission import ChallengeSubmission

SUBMISSION = 'ChallengeSubmission'
SCORES = [0.7, 0.2, 0.1]


@pytest.fixture
def submit(evaluate, tmp_path):
    """Run the metric over samples; gives the submission's folder."""

    def run(samples, **options):
        evaluate([dict(type=SUBMISSION, out_dir=str(tmp_path / 'out'))], samples, **options)
        return tmp_path / 'out'

    return run


def mask(height=5, width=7):
    lesion = np.zeros((height, width), np.uint8)
    lesion[1:3, 2:5] = 1
    return lesion


def test_masks_are_8_bit_0_and_255_at_the_predictions_size(submit, make_sample):
    out = submit([make_sample('ISIC_1', pred=mask()), make_sample('ISIC_2', pred=mask(9, 4))])
    assert sorted(path.name for path in (out / 'Part1').iterdir()) == [
        'ISIC_1_segmentation.png',
        'ISIC_2_segmentation.png',
    ]
    written = cv2.imread(str(out / 'Part1/ISIC_1_segmentation.png'), cv2.IMREAD_UNCHANGED)
    assert written.dtype == np.uint8
    assert (written == mask() * 255).all()
    assert not (out / 'Part3.csv').exists()


def test_table_has_no_header_and_one_line_an_image(submit, make_sample):
    out = submit([make_sample('ISIC_2', scores=[0.0, 0.25, 0.75]), make_sample('ISIC_1', 2, SCORES)])
    assert (out / 'Part3.csv').read_text() == 'ISIC_1,0.699999988,0.100000001\nISIC_2,0,0.75\n'
    assert not (out / 'Part1').exists()


def test_the_tasks_that_learn_diagnosis_and_outline_are_submitted(submit, make_sample):
    """By whatever name; a further classification has no part in it."""
    sample = make_sample('ISIC_1', scores=[0.1, 0.1, 0.8], targets=dict(cls='gt_sex', dx='gt_label', rim='gt_sem_seg'))
    sample.set_data({'dx_score': torch.tensor(SCORES), 'rim_mask': PixelData(data=torch.as_tensor(mask())[None])})
    out = submit([sample])
    assert (out / 'Part3.csv').read_text() == 'ISIC_1,0.699999988,0.100000001\n'
    assert (cv2.imread(str(out / 'Part1/ISIC_1_segmentation.png'), cv2.IMREAD_UNCHANGED) == mask() * 255).all()


def test_a_network_without_the_challenges_tasks_is_refused(submit, make_sample):
    sample = make_sample('leaf', targets=dict(species='gt_species'))
    with pytest.raises(Mistake, match='nothing to submit'):
        submit([sample])


def test_probabilities_lose_no_digit(submit, make_sample):
    scores = np.random.default_rng(0).dirichlet([1, 1, 1], 50).astype(np.float32)
    out = submit([make_sample(f'ISIC_{i:02}', scores=row.tolist()) for i, row in enumerate(scores)])
    written = np.loadtxt(out / 'Part3.csv', delimiter=',', usecols=(1, 2), dtype=np.float32)
    assert (written == scores[:, [0, 2]]).all()


def test_images_that_pad_the_last_batch_count_once(submit, make_sample):
    samples = [make_sample(f'ISIC_{i}', scores=SCORES, pred=mask()) for i in (0, 1, 0)]
    out = submit(samples, size=2)
    assert len((out / 'Part3.csv').read_text().splitlines()) == 2


def test_masks_of_another_test_set_are_named(submit, make_sample):
    submit([make_sample('ISIC_9', pred=mask())])
    with pytest.raises(ValueError, match='ISIC_9_segmentation.png is not of this test set'):
        submit([make_sample('ISIC_1', pred=mask())])


def test_a_table_of_another_network_is_named(submit, make_sample):
    """Of the same images, and of one that has no diagnosis now: the two parts would be of two networks."""
    submit([make_sample('ISIC_1', scores=SCORES, pred=mask())])
    with pytest.raises(Mistake, match=r'Part3\.csv is of another network, since this one names no disease'):
        submit([make_sample('ISIC_1', pred=mask())])


def test_ids_that_are_one_file_on_some_disks_are_refused(submit, make_sample):
    with pytest.raises(Mistake, match='the ids A and a are one file on a disk that ignores capitals; rename one'):
        submit([make_sample(name, pred=mask()) for name in ('a', 'A', 'b')])


def test_other_classes_are_refused(make_sample):
    metric = ChallengeSubmission('nowhere')
    metric.dataset_meta = {'classes': ('cat', 'dog', 'horse')}
    with pytest.raises(ValueError, match='Part 3 of the challenge needs'):
        metric.process(None, [make_sample('a', scores=SCORES).to_dict()])


def test_a_mask_of_one_value_is_written_whole(submit, make_sample):
    values = {'ISIC_1': 0, 'ISIC_2': 1}
    out = submit([make_sample(name, pred=np.full((4, 6), value, np.uint8)) for name, value in values.items()])
    written = {path.name: cv2.imread(str(path), cv2.IMREAD_UNCHANGED).tolist() for path in (out / 'Part1').iterdir()}
    assert written == {f'{name}_segmentation.png': [[255 * value] * 6] * 4 for name, value in values.items()}


def test_what_links_lead_to_stays(submit, make_sample, tmp_path):
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine/ISIC_1_segmentation.png').write_text('mine')
    (tmp_path / 'mine.zip').write_text('mine')
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out/Part1.zip').symlink_to(tmp_path / 'mine.zip')
    submit([make_sample('ISIC_1', pred=mask())])
    (tmp_path / 'out/Part1/ISIC_1_segmentation.png').unlink()
    (tmp_path / 'out/Part1').rmdir()
    (tmp_path / 'out/Part1').symlink_to(tmp_path / 'mine')
    with pytest.raises(Mistake, match='Part1 is a link, and nothing is written through one'):
        submit([make_sample('ISIC_1', pred=mask())])
    assert {path.read_text() for path in (tmp_path / 'mine.zip', *(tmp_path / 'mine').iterdir())} == {'mine'}
