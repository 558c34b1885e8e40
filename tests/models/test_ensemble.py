"""An ensemble says the mean of what its networks say."""

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from narrow import SLIM

from mmskin import LesionInferencer
from mmskin.config import load_config
from mmskin.explain.explanation import explain
from mmskin.files import write_text
from mmskin.inference.image_sources import find_images
from mmskin.inference.inferencer import read_models
from mmskin.packaging.publish import publish_weights
from mmskin.registry import MODELS
from mmskin.structures import TaskSample


@pytest.fixture(scope='module')
def networks(repository, tmp_path_factory):
    """A config, and the work folders of three folds with weights of their own."""
    folder = tmp_path_factory.mktemp('method') / 'seed0'
    cfg = load_config(repository / 'configs/fpm/r18_synthetic.py', options=SLIM)
    config = folder.parent / 'slim.py'
    config.write_text(cfg.pretty_text)
    init_default_scope('mmskin')
    for fold in range(3):
        torch.manual_seed(fold)
        work = folder / f'fold{fold}' / 'train'
        work.mkdir(parents=True)
        torch.save({'state_dict': MODELS.build(cfg.model).state_dict()}, work / 'last.pth')
        (work / 'last_checkpoint').write_text('last.pth')
    return config, folder


@pytest.mark.parametrize('tta', [False, True])
def test_probabilities_are_averaged_and_decided_upon(networks, tta):
    config, folder = networks
    image = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    folds = [folder / f'fold{fold}' / 'train' for fold in range(3)]
    single = [LesionInferencer(config, fold, 'cpu', tta)(image, lesion_probability=True) for fold in folds]
    for checkpoints in (folder, folds):
        together = LesionInferencer(config, checkpoints, 'cpu', tta)(image, lesion_probability=True)
        for name, value in together.probabilities.items():
            assert value == pytest.approx(np.mean([one.probabilities[name] for one in single]), abs=1e-5)
        assert together.label == max(together.probabilities, key=together.probabilities.get)
        mean = np.mean([one.lesion_probability for one in single], axis=0)
        np.testing.assert_allclose(together.lesion_probability, mean, atol=1e-4)
        assert (together.mask != (together.lesion_probability > 0.5)).mean() < 0.01


@pytest.mark.parametrize('tta', [False, True])
def test_the_first_network_that_has_a_task_decides(networks, tta):
    model = load_config(networks[0]).model
    never, always = ({**model.tasks, 'seg': {**model.tasks.seg, 'threshold': value}} for value in (0.999, 0.001))
    members = dict(type='Ensemble', members=[{**model, 'tasks': never}, {**model, 'tasks': always}])
    network = MODELS.build(dict(type='TestTimeAugmentation', module=members) if tta else members).eval()
    image, sample = torch.zeros(1, 3, 64, 64), TaskSample(metainfo=dict(ori_shape=(64, 64), img_shape=(64, 64)))
    with torch.no_grad():
        (answer,) = network(image, [sample], 'predict')
    assert 0.001 < answer.seg_prob.data.mean() < 0.999
    assert not answer.seg_mask.data.any()


def test_members_prepare_images_alike(networks):
    model = load_config(networks[0]).model
    other = {**model, 'data_preprocessor': dict(type='mmengine.ImgDataPreprocessor', mean=[0.0] * 3, std=[1.0] * 3)}
    with pytest.raises(ValueError, match='prepare images alike'):
        MODELS.build(dict(type='Ensemble', members=[model, other]))


def test_members_of_other_tasks_become_one_folder(networks, repository, tmp_path):
    """A second network that only diagnoses: its say is in the diagnosis alone, and the published file does the same."""
    config, folder = networks
    image = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    first, second = (folder / f'fold{fold}' / 'train' for fold in range(2))
    options = {'model.active_tasks': ['cls'], 'model.use_passing': False}
    publish_weights(load_config(config), first, tmp_path / 'first')
    publish_weights(load_config(config, options=options), second, tmp_path / 'second')
    for name in ('first', 'second'):
        write_text(tmp_path / name / 'README.md', 'a card')
    single = [LesionInferencer(tmp_path / name, tta=False)(image) for name in ('first', 'second')]
    cfg, files = read_models([tmp_path / 'first', tmp_path / 'second'], None)
    publish_weights(cfg, files, tmp_path / 'both')
    write_text(tmp_path / 'both' / 'README.md', 'a card')
    together = LesionInferencer(tmp_path / 'both', tta=False)
    prediction = together(image)
    for name, value in prediction.probabilities.items():
        assert value == pytest.approx(np.mean([one.probabilities[name] for one in single]), abs=1e-5)
    np.testing.assert_array_equal(prediction.mask, single[0].mask)
    assert single[1].mask is None
    explanation = explain(together, next(iter(find_images(image))))
    assert explanation.activation.max() <= 1 and [*explanation.without] == [
        'network 1, layer3.1/cls2seg',
        'network 1, layer3.1/seg2cls',
    ]
    nested = LesionInferencer([tmp_path / 'both', tmp_path / 'second'], tta=False)(image)
    for name, value in nested.probabilities.items():
        assert value == pytest.approx(np.mean([one.probabilities[name] for one in [*single, single[1]]]), abs=1e-5)
