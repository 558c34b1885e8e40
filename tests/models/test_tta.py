"""Views and their way back, and what is made of them."""

import math

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.runner.checkpoint import load_state_dict

from mmskin.models.averaging import View, views
from mmskin.models.weights import load_weights
from mmskin.registry import MODELS

TASKS = dict(
    cls=dict(
        type='Classification', head=dict(type='ClsHead', in_channels=512), losses=dict(ce=dict(type='CrossEntropy'))
    ),
    seg=dict(type='Segmentation', head=dict(type='ASPPHead', in_channels=512), losses=dict(dice=dict(type='DiceLoss'))),
)
MODEL = dict(
    type='MultiTaskModel',
    data_preprocessor=dict(type='mmengine.ImgDataPreprocessor', mean=[127.0] * 3, std=[64.0] * 3),
    backbone=dict(
        type='SplitBackbone',
        chain=dict(type='TimmChain', model='resnet18', weights=None),
        split_after='layer3.1',
        branches=dict(cls=dict(), seg=dict(output_stride=16)),
    ),
    tasks=TASKS,
)


def build(model=MODEL, seed=0):
    torch.manual_seed(seed)
    return MODELS.build(model).eval()


def augmented(**options):
    return build(dict(type='TestTimeAugmentation', module=options.pop('module', MODEL), **options))


def smooth_map(size=(32, 48)):
    y, x = torch.meshgrid(*(torch.linspace(0, 1, side) for side in size), indexing='ij')
    return (0.5 + 0.3 * x - 0.2 * y)[None, None]  # bilinear resampling keeps a plane


def test_all_combinations():
    assert len(views(('none', 'horizontal'), zooms=(1.0, 1.2), crops=(0.9,))) == 2 * (2 + 4)


def test_pairs_stand_for_themselves():
    model = augmented(pairs=[('none', 1.0), ('vertical', 1.25)])
    assert model.views == [View(), View(axes=(2,), side=0.8)]


@pytest.mark.parametrize('view', views(('none', 'horizontal', 'vertical', 'diagonal'), (1.0, 1.25, 0.8), (0.75,)))
def test_a_map_comes_back_to_its_place(view):
    plane = smooth_map()
    back, votes = view.put_back(view.look(plane)), view.put_back(torch.ones_like(plane))
    inside = votes > 0.999
    torch.testing.assert_close(back[inside], plane[inside], atol=0.02, rtol=0)
    assert inside.float().mean() > 0.9 * min(1, view.side) ** 2


def test_a_crop_shows_its_corner():
    image = torch.zeros(1, 1, 8, 8)
    image[..., :4, 4:] = 1
    corner = View(side=0.5, centre=(0.5, -0.5)).look(image)  # top right
    assert (corner > 0.9)[..., 1:-1, 1:-1].all()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(flips=('sideways',)), 'sideways'),
        (dict(crops=(1.5,)), '1.5'),
        (dict(zooms=(0,)), 'zooms'),
        (dict(zooms=(1.3,), crops=(0.8,)), 'whole frame'),
        (dict(flips=()), 'whole frame'),
        (dict(pairs=[('none', 1.15)]), 'whole frame'),
        (dict(pairs=[('sideways', 1.0)]), 'sideways'),
        (dict(module=dict(type='torch.nn.Identity')), 'Identity has no Task'),
    ],
)
def test_senseless_views(options, message):
    with pytest.raises(ValueError, match=message):
        augmented(**options)


def test_one_view_changes_nothing(make_batch):
    batch = make_batch()
    plain = build().test_step(make_batch())
    for one, other in zip(augmented(flips=('none',)).test_step(batch), plain, strict=True):
        assert torch.equal(one.cls_score, other.cls_score)
        assert torch.equal(one.seg_mask.data, other.seg_mask.data)
        assert one.seg_mask.data.shape[1:] == one.ori_shape


def test_flips_are_averaged_by_hand(make_batch):
    model = augmented(flips=('none', 'horizontal'))
    samples = model.test_step(make_batch())
    mirrored = make_batch()
    mirrored['inputs'] = [image.flip(2) for image in mirrored['inputs']]
    for sample, one, two in zip(samples, build().test_step(make_batch()), build().test_step(mirrored), strict=True):
        probability = (one.seg_prob.data + two.seg_prob.data.flip(2)) / 2
        torch.testing.assert_close(sample.seg_prob.data, probability)
        torch.testing.assert_close(sample.cls_score, (one.cls_score + two.cls_score) / 2)
        assert sample.cls_label == sample.cls_score.argmax()


def test_mirroring_the_image_mirrors_the_mask(make_batch):
    mirrored = make_batch()
    mirrored['inputs'] = [image.flip(2) for image in mirrored['inputs']]
    model = augmented(zooms=(1.0, 1.2), crops=(0.8,))
    for one, two in zip(model.test_step(make_batch()), model.test_step(mirrored), strict=True):
        torch.testing.assert_close(one.seg_prob.data, two.seg_prob.data.flip(2), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ('task', 'written', 'absent'), [('cls', 'cls_label', 'seg_prob'), ('seg', 'seg_mask', 'cls_score')]
)
def test_only_active_tasks(make_batch, task, written, absent):
    for sample in augmented(module=dict(MODEL, active_tasks=[task])).test_step(make_batch()):
        assert written in sample
        assert absent not in sample


def test_post_processing_sees_the_mean(make_batch):
    tasks = dict(TASKS, seg=dict(TASKS['seg'], post=[dict(type='Dilate', radius=0.05)]))
    models = augmented(), augmented(module=dict(MODEL, tasks=tasks))
    usual = torch.cat([one.seg_prob.data.flatten() for one in models[0].test_step(make_batch())]).median()
    for model in models:
        model.module.tasks['seg'].head.branches[0].bias.data -= usual.logit()  # about half of the pixels are lesion
    plain, post = (model.test_step(make_batch()) for model in models)
    for one, two in zip(plain, post, strict=True):
        assert torch.equal(one.seg_prob.data, two.seg_prob.data)
        assert not (one.seg_mask.data > two.seg_mask.data).any()
    assert any((one.seg_mask.data < two.seg_mask.data).any() for one, two in zip(plain, post, strict=True))


def test_plain_checkpoint_loads(tmp_path):
    source = build(seed=1)
    torch.save(dict(state_dict=source.state_dict()), tmp_path / 'plain.pth')
    ours, upstream, own = augmented(), augmented(), augmented()
    load_weights(ours, tmp_path / 'plain.pth')
    load_state_dict(upstream, source.state_dict(), strict=True)  # what mmengine's load_from calls
    own.load_state_dict(ours.state_dict())
    for model in (ours, upstream, own):
        pairs = zip(model.parameters(), source.parameters(), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)


def test_runner_tests_it(tmp_path, repository):
    """With nothing but the model's config changed, and weights by ``load_from``."""
    from mmskin.datasets.synthetic import SyntheticLesions

    SyntheticLesions(shape=(40, 56)).write(tmp_path / 'data', num_train=1, num_val=1, num_test=3)
    torch.save(dict(state_dict=build(seed=1).state_dict()), tmp_path / 'plain.pth')
    base = Config.fromfile(str(repository / 'configs/_base_/synthetic.py'))
    base.test_dataloader.dataset.update(data_root=str(tmp_path / 'data'))
    base.test_dataloader.dataset.pipeline[0].size = 32
    runner = Runner(
        model=dict(type='TestTimeAugmentation', module=MODEL),
        work_dir=str(tmp_path / 'work'),
        test_dataloader=dict(base.test_dataloader, num_workers=0),
        test_evaluator=[dict(type='ClassificationMetric'), dict(type='SegmentationMetric')],
        test_cfg=dict(),
        load_from=str(tmp_path / 'plain.pth'),
        default_scope='mmskin',
    )
    metrics = runner.test()
    assert not math.isnan(metrics['seg/JA'])
    assert 'cls/AC' in metrics


SHAPE = dict(
    type='Regression', head=dict(type='ClsHead', in_channels=512, num_classes=2), mean=(0.5, 0.1), lengths=(0,)
)


def of_three_tasks():
    branches = dict(MODEL['backbone']['branches'], shape=dict())
    return dict(MODEL, backbone=dict(MODEL['backbone'], branches=branches), tasks=dict(TASKS, shape=SHAPE))


def test_a_regression_is_averaged_over_the_views_of_the_whole_frame(make_batch):
    """Where the lesion is shown at 0.8 of its size its diameter is divided by that; crops may cut it."""
    model = augmented(module=of_three_tasks(), flips=('none',), zooms=(1.0, 0.8, 1.25), crops=(0.9,))
    small = make_batch()
    view = View(side=1 / 0.8)
    data = model.module.data_preprocessor(make_batch(), False)
    seen = model.module(view.look(data['inputs']), small['data_samples'], 'predict')
    for sample, one, two in zip(model.test_step(make_batch()), model.module.test_step(make_batch()), seen, strict=True):
        found = two.shape_values / torch.tensor([0.8, 1.0])
        torch.testing.assert_close(sample.shape_values, (one.shape_values + found) / 2)
        assert {'cls_label', 'seg_mask'} <= {*sample.all_keys()}
