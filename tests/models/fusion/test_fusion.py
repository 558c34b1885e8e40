"""Inputs other than the image: reading values, and golden values of the fusions."""

import math

import numpy as np
import pytest
import torch

from mmskin.registry import MODELS
from mmskin.testing.contract import tiny_network

AGE = dict(type='Numeric', minimum=0, maximum=120, edges=(30, 60), mean=50, std=20)
SEX = dict(type='Categorical', values=('female', 'male'))
INPUTS = {'age': MODELS.build(dict(AGE)), 'sex': MODELS.build(dict(SEX))}


def build(kind, **options):
    torch.manual_seed(0)
    return MODELS.build(dict(type=kind, in_channels=4, inputs=INPUTS, **options))


@pytest.mark.parametrize('value', [None, '', ' ', 'unknown', 'Unknown', 'nan', math.nan, 'NA', 'None'])
def test_unknown_values(value):
    assert all(math.isnan(one.read(value, 'it')) for one in INPUTS.values())


def test_values_as_tables_and_people_write_them():
    assert [INPUTS['age'].read(value, 'age') for value in (55, '55', ' 55.0 ', 0, 120)] == [55, 55, 55, 0, 120]
    assert [INPUTS['sex'].read(value, 'sex') for value in ('female', 'Male', ' MALE ')] == [0, 1, 1]


@pytest.mark.parametrize(
    ('name', 'value'), [('age', 121), ('age', -1), ('age', 'old'), ('age', 'inf'), ('sex', 'm'), ('sex', 1)]
)
def test_other_values_are_refused(name, value):
    allowed = {'age': 'a number from 0 to 120', 'sex': 'one of female, male'}[name]
    with pytest.raises(ValueError, match=f'^table.csv, line 3: {name} is {value!r}; give {allowed}, or unknown$'):
        INPUTS[name].read(value, f'table.csv, line 3: {name}')


@pytest.mark.parametrize(
    'cfg',
    [
        dict(type='Numeric', minimum=5, maximum=5),
        dict(type='Numeric', minimum=0, maximum=9, edges=(3, 2)),
        dict(type='Numeric', minimum=0, maximum=9, std=0),
        dict(type='Categorical', values=('a',)),
        dict(type='Categorical', values=('a', 'A')),
        dict(type='Categorical', values='female'),
    ],
)
def test_settings_without_sense_are_refused(cfg):
    with pytest.raises(ValueError, match=cfg['type']):
        MODELS.build(cfg)


def test_bins_and_encoding():
    ages = torch.tensor([29.0, 30.0, 70.0, math.nan])
    assert INPUTS['age'].members(ages).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]
    torch.testing.assert_close(
        INPUTS['age'].encode(ages), torch.tensor([[-1.05, 0.0], [-1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    )
    assert INPUTS['sex'].encode(torch.tensor([1.0, math.nan])).tolist() == [[0, 1, 0], [0, 0, 1]]


def test_prior_is_the_log_ratio_of_the_counts():
    """Two classes and three bins; counts with 1 added: class 0 has 3, 1, 2 and class 1 has 1, 4, 1."""
    prior = build('PriorFusion', reads=['age'], num_classes=2)
    ages = torch.tensor([20.0, 20, 70, 40, 40, 40, math.nan])
    prior.fit({'age': ages}, torch.tensor([0, 0, 0, 1, 1, 1, 0]))
    logits = torch.tensor([[0.5, 1.0], [0.5, 1.0], [0.5, 1.0], [0.5, 1.0]])
    added = prior.on_logits(logits, {'age': torch.tensor([10.0, 45.0, 119.0, math.nan])}) - logits
    of_class = torch.tensor([[3, 1], [1, 4], [2, 1]]) / 6
    of_all = torch.tensor([4, 5, 3]) / 12
    torch.testing.assert_close(added[:3], (of_class / of_all[:, None]).log())
    assert torch.equal(prior.on_logits(logits, {'age': torch.full((4,), math.nan)}), logits), 'unknown adds something'


@pytest.mark.parametrize('kind', ['FiLMFusion', 'ConcatFusion', 'PriorFusion'])
def test_it_starts_from_the_network_without(kind):
    fusion, maps, logits = build(kind), torch.randn(2, 4, 3, 3), torch.randn(2, 3)
    values = {'age': torch.tensor([20.0, math.nan]), 'sex': torch.tensor([1.0, 0.0])}
    assert torch.equal(fusion.on_maps(maps, values), maps)
    assert torch.equal(fusion.on_logits(logits, values), logits)


def test_film_scales_and_shifts():
    """With the last layer's bias alone: half of each value more, and 3."""
    film = build('FiLMFusion')
    film.layers[-1].bias.data = torch.tensor([0.5] * 4 + [3.0] * 4)
    torch.testing.assert_close(film.on_maps(torch.ones(1, 4, 2, 2), {}), torch.full((1, 4, 2, 2), 4.5))


def test_reads_names_inputs_that_are_there():
    with pytest.raises(ValueError, match=r"PriorFusion reads \['site'\] of the inputs \['age', 'sex'\]"):
        build('PriorFusion', reads=['site'])


def test_prior_needs_a_classification():
    with pytest.raises(ValueError, match='num_classes=2'):
        build('PriorFusion', num_classes=2).on_logits(torch.zeros(1, 3), {})
    with pytest.raises(ValueError, match='num_classes=2, and a label is 2'):
        build('PriorFusion', num_classes=2).fit({}, torch.tensor([0, 2]))


def task(**options):
    head = dict(type='ClsHead', in_channels=4)
    fusion = dict(type='PriorFusion', in_channels=4, inputs=INPUTS)
    return MODELS.build(dict(type='Classification', head=head, fusion=fusion, **options))


def test_a_prior_that_the_loss_would_not_see_is_refused():
    with pytest.raises(ValueError, match='give losses'):
        task()


@pytest.mark.parametrize('name', ['images', 'age of patient', ''])
def test_inputs_have_plain_names(name, small_config):
    with pytest.raises(ValueError, match='inputs are named'):
        MODELS.build({**small_config.model, 'inputs': {name: AGE}})


def test_a_prior_that_training_does_not_see_is_added_to_predictions():
    prior = build('PriorFusion', in_training=False)
    values = {'age': torch.tensor([20.0, 70.0, 45.0]), 'sex': torch.tensor([0.0, 1.0, 1.0])}
    prior.fit(values, torch.tensor([0, 1, 2]))
    logits = torch.zeros(3, 3)
    assert torch.equal(prior.train().on_logits(logits, values), logits)
    assert not torch.equal(prior.eval().on_logits(logits, values), logits)
    with pytest.raises(ValueError, match='learn=True of PriorFusion needs in_training=True'):
        build('PriorFusion', learn=True, in_training=False)


def test_a_prior_has_the_classes_of_its_head_and_counts_votes():
    """Three readers' votes count as the class with the most; without any an image does not count."""
    cls = dict(type='Classification', head=dict(type='ClsHead', num_classes=2), fusion='PriorFusion')
    cls['losses'] = dict(ce=dict(type='CrossEntropy'))
    seg = dict(type='Segmentation', head=dict(type='ASPPHead', rates=(1, 2)), losses=dict(dice=dict(type='DiceLoss')))
    tables = []
    for target, labels in (('gt_label', (0, 1, 1, None)), ('gt_votes', ([3, 0], [1, 2], [0, 3], [0, 0]))):
        model = tiny_network('NoPassing', inputs=dict(age=AGE), tasks=dict(cls={**cls, 'target': target}, seg=seg))
        samples = [dict(inputs=dict(age=age)) for age in (20, 50, 70, 20)]
        for sample, label in zip(samples, labels, strict=True):
            sample |= (
                {} if label is None else {target: label if isinstance(label, int) else np.array(label, np.float32)}
            )
        model.fit_inputs(samples)
        tables.append(model.tasks['cls'].fusion.table_age)
    assert tables[0].shape == (3, 2) and tables[0].any()
    assert torch.equal(*tables)
