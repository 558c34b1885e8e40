"""Rates by group and rank correlations, on four images whose numbers can be worked out."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from mmskin.evaluation.per_image import PerImageTable, write_results
from mmskin.explain import gates
from mmskin.explain.gates import correlations, draw_maps, draw_rates, groups, read_gates

ROWS = [  # rate, true and predicted label, size, JA
    ('b', 0.75, 1, 1, 0.2, 0.6),
    ('a', 0.25, 0, 0, 0.1, 0.9),
    ('d', 0.5, np.nan, 1, 0.4, 0.8),
    ('c', 0.5, 0, 1, 0.3, 0.7),
]


@pytest.fixture
def table(tmp_path):
    for name, *_ in ROWS:
        cv2.imwrite(str(tmp_path / f'{name}.jpg'), np.full((30, 40, 3), 200, np.uint8))
    maps = np.array([np.full((2, 3), rate) for _, rate, *_ in ROWS], np.float16)
    maps[:, 0] += 0.125
    maps[:, 1] -= 0.125
    np.savez(
        tmp_path / 'gates.npz',
        image_id=[row[0] for row in ROWS],
        img_path=[str(tmp_path / f'{row[0]}.jpg') for row in ROWS],
        **{'block/cls2seg': maps},
    )
    names = ['cls/gt_label', 'cls/pred_label', 'seg/mask_share', 'seg/JA']
    columns = {name: np.array([row[2 + index] for row in sorted(ROWS)]) for index, name in enumerate(names)}
    columns |= {f'cls/score_{name}': np.full(4, 0.5) for name in ('melanoma', 'nevus')}
    write_results(tmp_path, {}, PerImageTable(['a', 'b', 'c', 'd'], columns))
    return read_gates(tmp_path / 'gates.npz', tmp_path)


def test_images_are_joined_by_their_id(table):
    assert table.tested.image_ids == ['a', 'b', 'c', 'd']
    assert table.rates['block/cls2seg'].tolist() == [0.25, 0.75, 0.5, 0.5]
    assert table.img_paths[1].endswith('b.jpg')


def test_means_of_groups(table):
    """The unlabelled image is in no class, and neither right nor wrong; thirds by size of 0.1 and 0.2, 0.3, and 0.4."""
    found = {group.name: (group.num_images, group.mean) for group in groups(table)}
    assert found == {
        'all images': (4, 0.5),
        'melanoma': (2, 0.375),
        'nevus': (1, 0.75),
        'right diagnosis': (2, 0.5),
        'wrong diagnosis': (1, 0.5),
        'small lesions': (2, 0.5),
        'large lesions': (1, 0.5),
    }


def test_intervals_of_groups_that_are_large_enough(table, monkeypatch):
    assert all(np.isnan(group.ends).all() for group in groups(table))
    monkeypatch.setattr(gates, 'FEWEST', 4)
    whole, *others = groups(table)
    assert 0.25 <= whole.ends[0] < 0.5 < whole.ends[1] <= 0.75
    assert all(np.isnan(group.ends).all() for group in others)


def test_rank_correlations(table):
    """Ranks 1, 4, 2.5, 2.5 of the rates with 1, 2, 3, 4 of the sizes: rho = 1.5 / sqrt(4.5 * 5); with JA 4, 1, 2, 3."""
    found = {name: rho for _, name, rho, _ in correlations(table)}
    assert found['lesion size'] == pytest.approx(1.5 / (4.5 * 5) ** 0.5)
    assert found['JA'] == pytest.approx(-4.5 / (4.5 * 5) ** 0.5)


def test_a_test_without_labels_has_fewer_groups(table):
    table = replace(table, tested=PerImageTable(table.tested.image_ids, {}))
    assert [group.name for group in groups(table)] == ['all images']
    assert correlations(table) == []


def test_pictures(table, tmp_path):
    draw_rates(table, groups(table), tmp_path / 'rates.png')
    draw_maps(table, tmp_path / 'maps.png', num_images=3)
    for name in ('rates.png', 'maps.png'):
        assert cv2.imread(str(tmp_path / name)).std() > 10
