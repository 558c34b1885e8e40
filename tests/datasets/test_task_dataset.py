import copy
import random

import numpy as np
import pytest
import torch
from mmcv.transforms import RandomFlip
from torch.utils.data import DataLoader

from mmskin.datasets.isic2017 import ISIC2017Dataset
from mmskin.datasets.task_dataset import TaskDataset
from mmskin.errors import Mistake

AUGMENTING = [
    {'type': 'LoadImage', 'size': 24, 'smallest_crop': 0.8},
    {'type': 'LoadMask'},
    {'type': 'RandomWarp'},
    {'type': 'RandomFlip', 'prob': 0.5},
    {'type': 'GaussianNoise'},
    {'type': 'PackTaskSample'},
]


def draw_everywhere(results):
    """A transform of someone else's, which draws from every generator that it can reach."""
    results['drawn'] = (float(np.random.rand()), random.random(), float(torch.rand(())))
    return results


@pytest.fixture
def dataset(root):
    return ISIC2017Dataset(root, pipeline=AUGMENTING)


def epochs_of(dataset, count=3, **loading):
    loader = DataLoader(dataset, batch_size=2, collate_fn=list, **loading)
    for epoch in range(count):
        dataset.set_epoch(epoch)
        yield torch.stack([sample['inputs'] for batch in loader for sample in batch])


@pytest.mark.parametrize('workers', [{'num_workers': 2}, {'num_workers': 2, 'persistent_workers': True}])
def test_augmentation_does_not_depend_on_the_workers(dataset, workers):
    for here, there in zip(epochs_of(dataset), epochs_of(dataset, **workers), strict=True):
        assert torch.equal(here, there)


def test_copies_and_subsets_reach_their_workers_too(dataset):
    for copied in (copy.deepcopy(dataset), dataset.get_subset([0, 1, 2, 3, 4, 5])):
        for here, there in zip(
            epochs_of(dataset), epochs_of(copied, num_workers=1, persistent_workers=True), strict=True
        ):
            assert torch.equal(here, there)


@pytest.mark.parametrize('num_workers', [0, 1])
def test_a_step_that_stops_does_not_end_the_epoch_without_a_word(root, num_workers):
    dataset = ISIC2017Dataset(root, pipeline=[lambda results: next(iter(()))])
    with pytest.raises(RuntimeError, match='sample 0: a step of the pipeline raised StopIteration'):
        [*DataLoader(dataset, collate_fn=list, num_workers=num_workers)]


def test_spawned_workers_see_the_epoch_too(dataset):
    spawned = list(epochs_of(dataset, 2, num_workers=1, persistent_workers=True, multiprocessing_context='spawn'))
    assert torch.equal(spawned[1], list(epochs_of(dataset, 2))[1])


def test_augmentation_depends_on_seed_epoch_and_index(root):
    dataset = ISIC2017Dataset(root, pipeline=[draw_everywhere])
    drawn = [dataset[index]['drawn'] for index in range(6)]
    dataset.set_epoch(1)
    drawn += [dataset[index]['drawn'] for index in range(6)]
    drawn += [ISIC2017Dataset(root, seed=1, pipeline=[draw_everywhere])[index]['drawn'] for index in range(6)]
    for values in zip(*drawn, strict=True):
        assert len(set(values)) == 18


def test_augmentation_repeats_in_any_order(root):
    dataset = ISIC2017Dataset(root, pipeline=[draw_everywhere])
    first = [dataset[index]['drawn'] for index in range(6)]
    assert [dataset[index]['drawn'] for index in reversed(range(6))] == first[::-1]
    assert dataset[-1]['drawn'] == first[-1]


def test_the_callers_random_states_are_left_alone(dataset):
    def draw():
        return np.random.rand(), random.random(), torch.rand(()).item()

    for seed in (np.random.seed, random.seed, torch.manual_seed):
        seed(5)
    expected = draw()
    for seed in (np.random.seed, random.seed, torch.manual_seed):
        seed(5)
    dataset[0]
    assert draw() == expected


def test_the_callers_random_states_are_left_alone_by_an_error(root):
    dataset = ISIC2017Dataset(root, pipeline=[draw_everywhere, lambda results: results['no such key']])
    np.random.seed(5)
    expected = np.random.rand()
    np.random.seed(5)
    with pytest.raises(KeyError):
        dataset[0]
    assert np.random.rand() == expected


@pytest.mark.parametrize('kind', ['RandomFlip', RandomFlip, 'mmpretrain.ColorJitter'])
def test_transforms_of_other_packages_build(root, kind):
    foreign = {'type': kind} | ({'brightness': 0.1} if kind == 'mmpretrain.ColorJitter' else {'prob': 1.0})
    dataset = ISIC2017Dataset(root, pipeline=[*AUGMENTING[:3], foreign, AUGMENTING[-1]])
    assert dataset[0]['inputs'].shape == (3, 24, 24)


@pytest.mark.parametrize('found', [None, [], ['a.jpg'], iter([{'image_id': 'a'}])])
def test_a_list_of_no_images_is_named(root, found):
    class Own(TaskDataset):
        def load_data_list(self):
            return found

    with pytest.raises(Mistake, match='Own: load_data_list gives .* for .*; give a list with a dict for each image'):
        Own(root)


def test_two_images_of_one_id_are_refused(root):
    class Own(TaskDataset):
        def load_data_list(self):
            return [{'image_id': name} for name in 'aba']

    with pytest.raises(Mistake, match='two images have the id a; rename one'):
        Own(root)


def test_a_lazy_dataset_reads_at_first_use(root):
    dataset = ISIC2017Dataset(root / 'nowhere', lazy_init=True)
    with pytest.raises(FileNotFoundError):
        len(dataset)
