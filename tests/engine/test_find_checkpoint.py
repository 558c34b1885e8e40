"""A work folder stands for its final checkpoint, also after it was moved."""

import pytest

from mmskin.engine.checkpoints import find_checkpoint


@pytest.mark.parametrize('place', ['epoch_3.pth', 'joint/epoch_3.pth'])
def test_a_work_folder_that_was_moved(tmp_path, place):
    checkpoint = tmp_path / 'now' / place
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    (tmp_path / 'now/last_checkpoint').write_text(str(tmp_path / 'before' / place))
    assert find_checkpoint(tmp_path / 'now') == checkpoint


def test_a_file_is_itself(tmp_path):
    assert find_checkpoint(tmp_path / 'x.pth') == tmp_path / 'x.pth'


def test_an_unfinished_training(tmp_path):
    with pytest.raises(FileNotFoundError, match='training has not finished'):
        find_checkpoint(tmp_path)
