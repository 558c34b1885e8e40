import sys
from pathlib import Path

import forked
import numpy as np
import pytest

from mmskin.datasets.fundus import SyntheticFundus
from mmskin.datasets.isic2017 import ISIC2017Dataset
from mmskin.datasets.synthetic import SyntheticLesions
from mmskin.errors import Mistake


def contents(root):
    return {path.relative_to(root): path.read_bytes() for path in Path(root).rglob('*') if path.is_file()}


def test_the_same_seed_gives_the_same_files(pristine, tmp_path):
    SyntheticLesions(seed=3, shape=(48, 64)).write(tmp_path / 'again', num_train=6, num_val=3, num_test=3)
    assert contents(tmp_path / 'again') == contents(pristine)


def test_seed_split_and_index_change_the_image():
    images = [
        SyntheticLesions(seed, (48, 64)).sample(split, index)[0].tobytes()
        for seed in (0, 1)
        for split in ('train', 'val', 'test')
        for index in (0, 3)
    ]
    assert len(set(images)) == 12


def test_an_image_does_not_depend_on_those_before_it():
    lesions = SyntheticLesions(shape=(48, 64))
    expected = lesions.sample('train', 5)[0]
    lesions.sample('train', 0)
    assert np.array_equal(lesions.sample('train', 5)[0], expected)


@pytest.mark.parametrize('index', range(9))
def test_a_lesion_is_one_region_darker_than_the_skin(index):
    image, mask, label = SyntheticLesions().sample('val', index)
    assert image.shape == (160, 200, 3)
    assert label == index % 3
    assert 0.05 < mask.mean() < 0.5
    assert image[mask == 1].mean() < image[mask == 0].mean() or image[0, 0].mean() < 40  # unless the corners are dark


def test_the_dataset_reads_what_was_written(pristine):
    assert [len(ISIC2017Dataset(pristine, split)) for split in ('train', 'val', 'test')] == [6, 3, 3]


def test_a_complete_set_is_not_written_again(root):
    before = {path: path.stat().st_mtime_ns for path in root.rglob('*')}
    SyntheticLesions(seed=3, shape=(48, 64)).write(root, num_train=6, num_val=3, num_test=3)
    assert {path: path.stat().st_mtime_ns for path in root.rglob('*')} == before


def test_a_set_with_other_arguments_takes_its_place(root):
    SyntheticLesions(seed=4, shape=(48, 64)).write(root, num_train=3, num_val=3, num_test=3)
    assert len(ISIC2017Dataset(root)) == 3


def test_files_of_someone_elses_are_not_overwritten(tmp_path):
    (tmp_path / 'thesis.tex').write_text('years of work')
    with pytest.raises(Mistake, match='choose another folder'):
        SyntheticLesions(shape=(48, 64)).write(tmp_path, 3, 3, 3)
    assert (tmp_path / 'thesis.tex').read_text() == 'years of work'


@pytest.mark.parametrize('kind', [SyntheticLesions, SyntheticFundus])
def test_files_that_were_added_to_a_set_are_not_removed(kind, tmp_path):
    kind(0).write(tmp_path / 'set', 1, 1, 1)
    (tmp_path / 'set/thesis.tex').write_text('years of work')
    with pytest.raises(Mistake, match=r'set/thesis\.tex would be lost; move it'):
        kind(1).write(tmp_path / 'set', 1, 1, 1)
    assert (tmp_path / 'set/thesis.tex').read_text() == 'years of work'


def test_an_interrupted_run_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupted(self, split, index):
        if index == 2:
            raise KeyboardInterrupt
        return sample(self, split, index)

    sample = SyntheticLesions.sample
    monkeypatch.setattr(SyntheticLesions, 'sample', interrupted)
    with pytest.raises(KeyboardInterrupt):
        SyntheticLesions(shape=(48, 64)).write(tmp_path / 'set', 3, 3, 3)
    assert list(tmp_path.iterdir()) == []


def test_the_command(tmp_path):
    numbers = ['--num-train', '3', '--num-val', '3', '--num-test', '3']
    assert forked.run('-m', 'mmskin.datasets.synthetic', tmp_path / 'set', '--seed', '2', *numbers).returncode == 0
    assert len(ISIC2017Dataset(tmp_path / 'set', 'test')) == 3


LIMITED = """
import resource, runpy, sys
limit, module = int(sys.argv.pop(1)), sys.argv.pop(1)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
runpy.run_module(module, run_name='__main__', alter_sys=True)
"""


@pytest.mark.skipif(sys.platform == 'win32', reason='a limit to the size of files stands for a full disk')
@pytest.mark.parametrize('module', ['synthetic', 'fundus'])
def test_the_command_answers_a_full_disk_and_files_of_others_in_one_line(tmp_path, module):
    """An image that was not written is no part of a set."""

    def run(folder, limit):
        arguments = [folder, '--num-train', '3', '--num-val', '1', '--num-test', '1']
        return forked.run('-c', LIMITED, limit, f'mmskin.datasets.{module}', *arguments)

    full = run(tmp_path / 'set', 4000)  # bytes: enough for tables, too few for images
    assert (full.returncode, 'Traceback' in full.stderr, 'too large' in full.stderr) == (2, False, True)
    assert not [*tmp_path.iterdir()]
    (tmp_path / 'thesis.tex').touch()
    others = run(tmp_path, 10**9)
    assert (others.returncode, others.stderr.count('\n')) == (2, 1)
    assert 'choose another folder' in others.stderr
