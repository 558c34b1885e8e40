import numpy as np
import pytest

from mmskin.report.evaluation import read_evaluation

LABELS = [0, 1, 2, 1, float('nan')]


def test_files_are_read_as_they_were_written(tmp_path, make_evaluation, write_test):
    wanted = make_evaluation(LABELS)
    found = read_evaluation(write_test(tmp_path, wanted))
    assert (found.image_ids, found.classes) == (wanted.image_ids, wanted.classes)
    for name in ('labels', 'predicted', 'scores', 'lesion_share'):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
    np.testing.assert_array_equal(found.overlap['JA'], wanted.overlap['JA'])
    assert [case.image_id for case in found.cases] == wanted.image_ids
    assert found.judged.tolist() == [True] * 4 + [False]
    assert np.isnan(found.right[4]) and set(found.right[:4]) <= {0, 1}


@pytest.mark.parametrize(('diagnosis', 'masks'), [(True, False), (False, True), (False, False)])
def test_a_task_may_be_absent(tmp_path, make_evaluation, write_test, diagnosis, masks):
    found = read_evaluation(write_test(tmp_path, make_evaluation([0, 1], diagnosis, masks), cases=False))
    assert bool(found.classes) == bool(found.judged.any()) == diagnosis
    assert bool(found.overlap) == bool(found.outlined.any()) == masks
    assert found.scores.shape == (2, 3 if diagnosis else 0)


def test_order_of_foreign_classes_comes_from_the_cases(tmp_path, make_evaluation, write_test):
    evaluation = make_evaluation([0, 1, 2])
    evaluation.classes = ('zoster', 'acne', 'eczema')
    found = read_evaluation(write_test(tmp_path, evaluation))
    assert found.classes == ('zoster', 'acne', 'eczema')
    np.testing.assert_array_equal(found.scores, evaluation.scores)
    (tmp_path / 'report.json').unlink()
    with pytest.raises(ValueError, match=r"\['acne', 'eczema', 'zoster'\], but their order is not known"):
        read_evaluation(tmp_path)


def test_missing_or_wrong_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'per_image\.csv: no such file; a test'):
        read_evaluation(tmp_path)
    (tmp_path / 'per_image.csv').write_text('image_id,cls/gt_label\na,melanoma\n')
    with pytest.raises(ValueError, match=r'per_image\.csv is not a per_image\.csv .*melanoma'):
        read_evaluation(tmp_path)
    (tmp_path / 'per_image.csv').write_text('image_id\n')
    with pytest.raises(ValueError, match='lists no image'):
        read_evaluation(tmp_path)
