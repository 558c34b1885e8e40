"""The multi-task network: its modes, what trains in a stage, missing labels, more tasks than two, foreign heads."""

import re

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn

from mmskin.models.tasks.task import Task
from mmskin.registry import MODELS
from mmskin.testing.contract import TinyChain

BOTH = ('gt_label', 'gt_sem_seg')
CLS = dict(type='Classification', head=dict(type='ClsHead', in_channels=12), losses=dict(ce=dict(type='CrossEntropy')))
SEG = dict(
    type='Segmentation',
    head=dict(type='ASPPHead', in_channels=12, rates=(1, 2)),
    losses=dict(wce=dict(type='WeightedCrossEntropy'), dice=dict(type='DiceLoss')),
)
PASSING = dict(type='GatedFeaturePassing')


def backbone(**branches):
    branches = branches or dict(cls=dict(), seg=dict(output_stride=8))
    return dict(type='SplitBackbone', chain=dict(type=TinyChain), split_after='a.0', branches=branches)


def build(**options):
    torch.manual_seed(0)
    cfg = dict(
        type='MultiTaskModel',
        backbone=backbone(),
        tasks=dict(cls=CLS, seg=SEG),
        passing={'b.1': PASSING},
        data_preprocessor=dict(type='mmengine.ImgDataPreprocessor', mean=[127.0] * 3, std=[64.0] * 3),
    )
    return MODELS.build({**cfg, **options})


def build_awake(**options):
    """With passing that has left the identity, so that it carries gradients."""
    model = build(**options)
    for module in model.passing.modules():
        if isinstance(getattr(module, 'scale', None), nn.Parameter):
            module.scale.data.fill_(1)
    return model


class LeavesGradients(OptimWrapper):
    """Does not clear the gradients after a step, so that they can be looked at."""

    def zero_grad(self, **kwargs):
        pass


def step(model, batch):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return model.train().train_step(batch, LeavesGradients(optimizer))


def losses_of(model, batch):
    return model(**model.data_preprocessor(batch, True), mode='loss')


def copied(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def changed_parts(model, before):
    """The parts in which a weight or a statistic differs from ``before``."""
    names = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    prefixes = {
        'backbone.shared': 'shared',
        'backbone.branches.cls': 'cls',
        'tasks.cls': 'cls',
        'backbone.branches.seg': 'seg',
        'tasks.seg': 'seg',
        'passing': 'passing',
    }
    return {part for prefix, part in prefixes.items() for name in names if name.startswith(f'{prefix}.')}


def without_gradient(module):
    return {name for name, parameter in module.named_parameters() if parameter.grad is None}


class TestModes:
    def test_loss(self, make_batch):
        losses = losses_of(build(), make_batch())
        assert list(losses) == ['cls/loss_ce', 'seg/loss_wce', 'seg/loss_dice']
        assert all(value.shape == () and value.isfinite() and value.requires_grad for value in losses.values())

    def test_mmengine_sums_the_losses(self, make_batch):
        logged = step(build(), make_batch())
        parts = [value for name, value in logged.items() if name != 'loss']
        torch.testing.assert_close(logged['loss'], sum(parts))

    @pytest.mark.parametrize('count', [1, 3])
    def test_tensor(self, make_batch, count):
        model = build().eval()
        with torch.no_grad():
            logits = model(**model.data_preprocessor(make_batch([BOTH] * count, size=(65, 81))))
        assert {task: tuple(value.shape) for task, value in logits.items()} == {
            'cls': (count, 3),
            'seg': (count, 1, 9, 11),
        }

    @pytest.mark.parametrize('fields', [[BOTH, BOTH], [(), ()]], ids=['labelled', 'unlabelled'])
    def test_predict(self, make_batch, fields):
        """At the image's own size, which differs from the network's, and from one sample to the next."""
        batch = make_batch(fields)
        batch['data_samples'][1].set_metainfo(dict(ori_shape=(100, 60)))
        for sample, ori_shape in zip(build().val_step(batch), [(41, 54), (100, 60)], strict=True):
            torch.testing.assert_close(sample.cls_score.sum(), torch.tensor(1.0))
            assert sample.cls_label.tolist() == [sample.cls_score.argmax()]
            assert sample.seg_prob.data.shape == (1, 33, 41)
            assert sample.seg_mask.data.shape == (1, *ori_shape)
            assert sample.seg_mask.data.dtype == torch.uint8
            assert {*sample.seg_mask.data.unique().tolist()} <= {0, 1}

    def test_mask_is_where_the_probability_exceeds_one_half(self, make_batch):
        model = build()
        batch = make_batch([BOTH])
        batch['data_samples'][0].set_metainfo(dict(ori_shape=(33, 41)))
        sample = model.test_step(batch)[0]
        assert torch.equal(sample.seg_mask.data, (sample.seg_prob.data > 0.5).byte())

    def test_two_logits_a_pixel_mean_the_same_as_their_difference(self, make_batch):
        """With the same weights and the background's logit at nought."""
        one, two = build(), build(tasks=dict(cls=CLS, seg={**SEG, 'head': {**SEG['head'], 'out_channels': 2}}))
        state = one.state_dict()
        wide = {key: torch.cat([torch.zeros_like(v), v]) for key, v in state.items() if key.startswith('tasks.seg.')}
        two.load_state_dict({**state, **wide})
        probabilities = [model.test_step(make_batch())[0].seg_prob.data for model in (one, two)]
        torch.testing.assert_close(*probabilities)

    def test_joined_network_starts_as_the_separate_ones(self, make_batch):
        data = build().data_preprocessor(make_batch())
        joined, separate = (build(use_passing=passing).eval()(**data) for passing in (True, False))
        assert all(torch.equal(joined[task], separate[task]) for task in joined)
        awake = build_awake().eval()(**data)
        assert not any(torch.allclose(awake[task], separate[task]) for task in awake)

    def test_seed_decides_the_outcome(self, make_batch):
        first, second = (step(build(), make_batch()) for _ in range(2))
        assert all(torch.equal(first[name], second[name]) for name in first)

    def test_bf16(self, make_batch):
        model = build_awake()
        with torch.autocast('cpu', dtype=torch.bfloat16):
            losses = losses_of(model, make_batch())
        assert all(value.dtype == torch.float32 and value.isfinite() for value in losses.values())
        sum(losses.values()).backward()
        assert not without_gradient(model)


class TestStages:
    def test_all_parts_train_by_default(self, make_batch):
        model = build_awake()
        before = copied(model)
        step(model, make_batch())
        assert not without_gradient(model)
        assert changed_parts(model, before) == {'shared', 'cls', 'seg', 'passing'}

    @pytest.mark.parametrize(
        ('options', 'trained'),
        [
            (dict(active_tasks=['cls'], use_passing=False), {'shared', 'cls'}),
            (dict(active_tasks=['seg'], use_passing=False, frozen=['shared']), {'seg'}),
            (dict(frozen=['shared', 'cls']), {'seg', 'passing'}),
            (dict(frozen=['passing']), {'shared', 'cls', 'seg'}),
            (dict(use_passing=False), {'shared', 'cls', 'seg'}),
        ],
    )
    def test_only_what_a_stage_trains_changes(self, make_batch, options, trained):
        """Weights and batch-norm statistics alike; and what trains is what requires a gradient, and gets one."""
        model = build_awake(**options)
        before = copied(model)
        step(model, make_batch())
        assert changed_parts(model, before) == trained
        needs_gradient = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        assert needs_gradient == {name for name, _ in model.named_parameters()} - without_gradient(model)

    def test_stages_hold_still_through_several_switches_of_mode(self, make_batch):
        """The Runner switches to evaluation and back at each validation."""
        model = build(frozen=['shared']).train().eval().train()
        assert not any(module.training for module in model.backbone.shared.modules())
        assert model.backbone.branch('cls').training
        assert model.training

    def test_a_part_by_its_path(self, make_batch):
        model = build_awake(frozen=['backbone.shared.stem', 'tasks.cls.head'])
        before = copied(model)
        step(model, make_batch())
        changed = {name for name in before if not torch.equal(model.state_dict()[name], before[name])}
        assert not any(name.startswith(('backbone.shared.stem.', 'tasks.cls.head.')) for name in changed)
        assert {'backbone.shared.a.0.0.weight', 'backbone.branches.cls.c.0.1.running_mean'} <= changed

    def test_tasks_that_rest_are_not_computed(self, make_batch):
        model = build(active_tasks=['cls'], use_passing=False)
        for idle in (model.tasks['seg'], *(block for _, block in model.backbone.branch('seg').items())):
            idle.register_forward_hook(lambda *_: pytest.fail('seg ran'))
        assert list(losses_of(model, make_batch())) == ['cls/loss_ce']
        assert 'seg_mask' not in model.val_step(make_batch())[0]

    def test_stages_share_their_state_dict(self):
        """What one stage saves the next one loads, whatever runs in them."""
        stage = build(active_tasks=['cls'], use_passing=False, frozen=['shared'])
        assert [*build().state_dict()] == [*stage.state_dict()]


class TestMissingLabels:
    @pytest.mark.parametrize(('present', 'absent'), [('gt_label', 'seg'), ('gt_sem_seg', 'cls')])
    def test_a_batch_without_a_label_for_a_task(self, make_batch, present, absent):
        """Zero loss, which reaches every parameter of the task so that other processes are not kept waiting."""
        model = build_awake()
        losses = losses_of(model, make_batch([(present,), (present,)]))
        assert [name for name in losses if name.startswith(absent)] == [f'{absent}/loss']
        assert losses[f'{absent}/loss'] == 0
        losses[f'{absent}/loss'].backward()
        parts = (model.backbone.shared, model.backbone.branch(absent), model.tasks[absent])
        gradients = [parameter.grad for part in parts for parameter in part.parameters()]
        assert all(gradient is not None and not gradient.any() for gradient in gradients)

    def test_a_batch_without_any_label(self, make_batch):
        model = build()
        logged = step(model, make_batch([(), ()]))
        assert {name: value.item() for name, value in logged.items()} == {'loss': 0, 'cls/loss': 0, 'seg/loss': 0}
        assert not without_gradient(model)

    def test_partly_labelled(self, make_batch):
        """Each task's loss is over the images that have its label, in whatever order they stand."""
        model = build().eval()
        labels = [(), ('gt_label',), ('gt_sem_seg',), BOTH]
        losses = losses_of(model, make_batch(labels))
        data = model.data_preprocessor(make_batch(labels))
        for task, kept in (('cls', [1, 3]), ('seg', [2, 3])):
            chosen = [data['data_samples'][i] for i in kept]
            for name, value in model(data['inputs'][kept], chosen, mode='loss').items():
                if name.startswith(task):
                    torch.testing.assert_close(losses[name], value)

    def test_one_labelled_image_in_a_batch(self, make_batch):
        """A head with batch norm over pooled maps cannot train on a single image, but all of the batch goes there."""

        class PooledHead(nn.Module):
            def __init__(self):
                super().__init__()
                pooled = nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(12), nn.Flatten()
                self.layers = nn.Sequential(*pooled, nn.Linear(12, 3))

            def forward(self, feats):
                return self.layers(feats[-1])

        model = build(tasks=dict(cls={**CLS, 'head': dict(type=PooledHead)}, seg=SEG))
        losses = losses_of(model, make_batch([BOTH, ('gt_sem_seg',)]))
        assert losses['cls/loss_ce'] > 0


class TestThreeTasks:
    ROUTES = [('cls', 'seg'), ('attribute', 'cls'), ('seg', 'attribute'), ('attribute', 'seg')]

    def model(self, **options):
        attribute = {**CLS, 'target': 'gt_attribute', 'head': dict(type='ClsHead', in_channels=10, num_classes=2)}
        return build_awake(
            backbone=backbone(cls=dict(), seg=dict(output_stride=8), attribute=dict(out_blocks=['b.1'])),
            tasks=dict(cls=CLS, seg=SEG, attribute=attribute),
            passing={'b.0': {**PASSING, 'routes': self.ROUTES[:1]}, 'b.1': {**PASSING, 'routes': self.ROUTES}},
            **options,
        )

    def batch(self, make_batch):
        batch = make_batch([BOTH, BOTH, ()])
        batch['data_samples'][1].gt_attribute = torch.tensor([1])
        return batch

    def test_trains_and_predicts(self, make_batch):
        model = self.model()
        logged = step(model, self.batch(make_batch))
        assert {'cls/loss_ce', 'seg/loss_wce', 'attribute/loss_ce'} <= {*logged}
        assert not without_gradient(model)
        samples = model.val_step(self.batch(make_batch))
        assert all({'cls_score', 'seg_mask', 'attribute_label'} <= {*sample.all_keys()} for sample in samples)
        assert {len(sample.attribute_score) for sample in samples} == {2}
        assert samples[0].targets == dict(cls='gt_label', seg='gt_sem_seg', attribute='gt_attribute')

    def test_gradients_follow_the_routes(self, make_batch):
        """cls gets from attribute alone: seg's branch, and b.0's passing, which ends there, have no part in it."""
        model = self.model()
        losses_of(model, self.batch(make_batch))['cls/loss_ce'].backward()
        graded = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
        routes = {match[1] for name in graded if (match := re.match(r'passing\.(\w+\.routes\.\w+)\.', name))}
        branches = {match[1] for name in graded if (match := re.match(r'backbone\.branches\.(\w+)\.', name))}
        assert routes == {'b_1.routes.attribute2cls'}
        assert branches == {'cls', 'attribute'}

    def test_gates(self, make_batch):
        model = self.model()
        gates = model.gates(model.data_preprocessor(self.batch(make_batch))['inputs'])
        names = [f'{source}2{target}' for source, target in self.ROUTES]
        assert {site: list(routes) for site, routes in gates.items()} == {'b.0': names[:1], 'b.1': names}
        assert gates['b.1']['cls2seg'].shape == (3, 10, 3, 3)  # the source's own resolution
        assert gates['b.1']['seg2attribute'].shape == (3, 10, 5, 6)
        assert all(0 < rates.min() < rates.max() < 1 for routes in gates.values() for rates in routes.values())

    def test_two_of_three_run(self, make_batch):
        model = self.model(active_tasks=['cls', 'attribute'])
        batch = model.data_preprocessor(self.batch(make_batch))
        assert list(model(**batch)) == ['cls', 'attribute']
        assert model.gates(batch['inputs'])['b.1'].keys() == {'attribute2cls'}


def test_gates_need_passing(make_batch):
    model = build(use_passing=False)
    assert model.gates(model.data_preprocessor(make_batch())['inputs']) == {}


def test_a_task_without_losses_of_its_own_says_so():
    task = Task(dict(type='ClsHead', in_channels=12))
    for incomplete in (lambda: task.match(torch.zeros(1), []), lambda: task.estimate((), (8, 8))):
        with pytest.raises(NotImplementedError, match='Task'):
            incomplete()


def test_images_are_stacked_without_a_preprocessor_too(make_batch):
    model = build(data_preprocessor=None).eval()
    with torch.no_grad():
        samples = model.test_step(make_batch([BOTH] * 2))
    assert [sample.cls_score.shape for sample in samples] == [(3,), (3,)]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(active_tasks=[]), 'active_tasks=[] runs nothing; name one or more of cls, seg'),
        (dict(active_tasks=['sag']), 'no part is named sag; the parts are shared, passing, cls, seg'),
        (dict(frozen=['Shared']), 'no part is named Shared'),
        (dict(frozen=['backbone.shared.b.0']), 'no part is named backbone.shared.b.0'),
        (dict(backbone=backbone(**{'a/b': dict()}), tasks={'a/b': CLS}, passing=None), "a task's name 'a/b' is a path"),
        (dict(passing={'b.2': PASSING}), "No block is named 'b.2'. Near matches: b.1"),
        (dict(passing={'a.0': PASSING}), "Features cannot be passed at 'a.0': it is shared"),
        (dict(passing={'b.1': {**PASSING, 'routes': [('cls', 'sag')]}}), 'route cls -> sag'),
        (dict(passing={'b.1': {**PASSING, 'routes': ('cls', 'seg')}}), "routes has 'cls'; it is a list of pairs"),
        (dict(passing={'b.1': {**PASSING, 'routes': ['cls2seg']}}), "routes has 'cls2seg'; it is a list of pairs"),
        (dict(passing='GBDPassing'), "passing='GBDPassing'): give Mapping[str | tuple[str, ...], dict | str] | None"),
        (dict(passing={'b.1': dict(type='MTIPassing', reduction=0)}), 'MTIPassing(reduction=0): give 1 or more'),
        (dict(weighting=dict(type='FixedWeights', weights=[1, 2])), '(weights=[1, 2]): give Mapping[str, float]'),
        (dict(backbone=backbone(cls=dict())), "No branch is named 'seg'; the backbone has branches for cls"),
        (
            dict(backbone=backbone(cls=dict()), passing=None),
            "No branch is named 'seg'; the backbone has branches for cls",
        ),
        (
            dict(
                backbone=backbone(cls=dict(), seg=dict(out_blocks=['b.0'])),
                tasks=dict(cls=CLS, seg={**SEG, 'head': {**SEG['head'], 'in_channels': 8}}),
            ),
            "No block is named 'b.1'. Near matches: b.0",
        ),
        (
            dict(backbone=backbone(cls=dict(), seg=dict(out_blocks=['b.0']))),
            'ASPPHead: in_channels=12, and the maps of its branch have 8 channels; leave in_channels out',
        ),
    ],
)
def test_bad_names(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build(**options)


def test_a_name_stands_for_a_part_without_options():
    by_name = build(
        passing={'b.1': dict(type='GatedFeaturePassing', gate='ChannelGate', op='ProductOp', message='ConvMessage')},
        weighting='DWA',
    )
    parts = {name: dict(type=kind) for name, kind in dict(gate='ChannelGate', op='ProductOp').items()}
    in_full = build(passing={'b.1': dict(type='GatedFeaturePassing', **parts)}, weighting=dict(type='DWA'))
    assert str(by_name) == str(in_full)
    assert build(passing={'b.1': 'CrossStitchPassing'}).passing['b_1'].routes


@pytest.mark.parametrize('op', ['Conact', 'NoSuchThing'])
def test_bad_plugin_name(op):
    with pytest.raises(KeyError, match=op):
        build(passing={'b.1': {**PASSING, 'op': dict(type=op)}})


def test_a_real_chain(make_batch):
    """The demo's network: ResNet-18, where the two maps at the passing site differ in size."""
    model = build_awake(
        backbone=dict(
            type='SplitBackbone',
            chain=dict(type='TimmChain', model='resnet18', weights=None),
            split_after='layer3.0',
            branches=dict(cls=dict(), seg=dict(output_stride=16)),
        ),
        tasks=dict(
            cls={**CLS, 'head': dict(type='ClsHead', in_channels=512)},
            seg={**SEG, 'head': dict(type='ASPPHead', in_channels=512)},
        ),
        passing={'layer4.0': PASSING},
    )
    assert step(model, make_batch())['loss'].isfinite()
    assert not without_gradient(model)


def test_heads_of_other_toolboxes(make_batch):
    """Straight from a config, with their own losses, or with ours; slow only for the toolboxes' import."""
    linear = dict(type='mmpretrain.LinearClsHead', in_channels=12, num_classes=3)
    fcn = dict(type='mmseg.FCNHead', in_channels=12, in_index=0, channels=4, num_classes=2, norm_cfg=dict(type='BN'))
    pool = dict(type='mmpretrain.GlobalAveragePooling')
    model = build(
        tasks=dict(
            cls=dict(type='Classification', neck=pool, head=linear),
            seg=dict(type='Segmentation', head=fcn, loss_weight=0.5),
        )
    )
    labels = [('gt_label',), ('gt_sem_seg',), BOTH]
    logged = step(model, make_batch(labels))
    assert {*logged} == {'loss', 'cls/loss', 'seg/loss_ce', 'seg/acc_seg'}
    torch.testing.assert_close(logged['loss'], logged['cls/loss'] + logged['seg/loss_ce'])
    assert not without_gradient(model)
    assert step(model, make_batch([(), ()]))['loss'] == 0
    sample = model.val_step(make_batch(labels))[0]
    assert sample.cls_score.shape == (3,)
    assert sample.seg_mask.data.shape == (1, 41, 54)

    losses = {**SEG['losses'], 'jaccard': dict(type='JaccardLoss')}
    for head in (fcn, {**fcn, 'out_channels': 1, 'threshold': 0.5}):
        ours = build(
            tasks=dict(
                cls=dict(type='Classification', neck=pool, head=linear, losses=CLS['losses']),
                seg=dict(type='Segmentation', head=head, losses=losses),
            )
        )
        logged = step(ours, make_batch(labels))
        assert {*logged} == {'loss', 'cls/loss_ce', 'seg/loss_wce', 'seg/loss_dice', 'seg/loss_jaccard'}
