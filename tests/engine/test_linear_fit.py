"""A linear classifier fitted by scikit-learn and kept as a linear layer."""

import json

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from torch import nn

from mmskin.config import load_config
from mmskin.datasets.synthetic import SyntheticLesions
from mmskin.engine.evaluate import evaluate_checkpoint as run_test
from mmskin.engine.linear_fit import fit_linear
from mmskin.engine.stages import run_stages
from mmskin.models.weights import read_weights


@pytest.fixture
def samples():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    return rng.normal(labels[:, None], 1, (60, 5)).astype(np.float32) * [1, 10, 1, 0.1, 1] + 3, labels


def fitted(classifier, samples):
    fc = nn.Linear(5, 3).double()
    fit_linear(classifier, *samples, fc)
    with torch.no_grad():
        return fc(torch.from_numpy(samples[0]))


def test_softmax_is_the_logistic_regressions_probability(samples):
    expected = make_pipeline(StandardScaler(), LogisticRegression()).fit(*samples).predict_proba(samples[0])
    np.testing.assert_allclose(fitted(LogisticRegression(), samples).softmax(1), expected, atol=1e-6)


def test_outputs_are_the_svms_decisions(samples):
    expected = make_pipeline(StandardScaler(), LinearSVC(random_state=0)).fit(*samples).decision_function(samples[0])
    np.testing.assert_allclose(fitted(LinearSVC(random_state=0), samples), expected, atol=1e-6)


def test_two_classes(samples):
    """Of which scikit-learn has one row of weights."""
    images, labels = samples[0], samples[1] % 2
    fc = nn.Linear(5, 2).double()
    fit_linear(LogisticRegression(), images, labels, fc)
    expected = make_pipeline(StandardScaler(), LogisticRegression()).fit(images, labels).predict_proba(images)
    with torch.no_grad():
        np.testing.assert_allclose(fc(torch.from_numpy(images)).softmax(1), expected, atol=1e-6)


def test_a_label_of_no_class(samples):
    with pytest.raises(ValueError, match='label 2, but the layer has 2 classes; set num_classes'):
        fit_linear(LogisticRegression(), *samples, nn.Linear(5, 2))


def test_a_class_without_images(samples):
    with pytest.raises(ValueError, match='no training image has the label 2'):
        fit_linear(LogisticRegression(), samples[0], samples[1] % 2, nn.Linear(5, 3))


@pytest.mark.slow
def test_trains_and_tests_through_the_same_tools(tmp_path, repository):
    SyntheticLesions(shape=(40, 48)).write(tmp_path / 'data', num_train=9, num_val=3, num_test=6)
    cfg = load_config(
        repository / 'configs' / 'classification' / 'kawahara2016_lite0_isic2017.py',
        work_dir=str(tmp_path / 'work'),
        data_root=str(tmp_path / 'data'),
        options={
            'model.backbone.chain.weights': None,
            **{f'{part}_dataloader.dataset.pipeline.0.size': 40 for part in ('train', 'val', 'test')},
            **{f'{part}_dataloader.num_workers': 0 for part in ('train', 'val', 'test')},
            **{f'{part}_dataloader.persistent_workers': False for part in ('train', 'val')},
        },
    )
    run_stages(cfg)
    fc = read_weights(tmp_path / 'work' / 'epoch_1.pth')['tasks.cls.head.fc.weight']
    metrics = run_test(cfg, tmp_path / 'work')
    assert fc.abs().sum() > 0
    assert json.loads((tmp_path / 'work' / 'results.json').read_text())['cls/AC'] == metrics['cls/AC']
