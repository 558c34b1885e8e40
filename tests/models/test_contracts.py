"""What every registered gate, message, op, passing operator, head, loss and task keeps to.

The lists are read from the registry, so that a plugin is tested by being registered. It is taken for what its package
says; in `mmskin.models.necks` the end of its name says whether it is a ...Gate, a ...Message, an ...Op or a ...Passing.
Arguments other than those given here need defaults.
"""

import inspect
import itertools

import pytest
import torch
from torch import nn

from mmskin.models.tasks.task import Task
from mmskin.registry import MODELS


def registered(package, ending=''):
    """Names of the plugins of ``package``, of which there has to be one."""
    MODELS.import_from_location()
    home = f'mmskin.models.{package}.'
    names = sorted(n for n, kind in MODELS.module_dict.items() if f'{kind.__module__}.'.startswith(home))
    names = [name for name in names if name.endswith(ending)]
    assert names, f'no plugin is registered in {home}'
    return names


PARTS = {part: registered('necks', part.capitalize()) for part in ('gate', 'message', 'op')}
PASSINGS = registered('necks', 'Passing')
HEADS, LOSSES, TASKS = registered('heads'), registered('losses'), registered('tasks')

LABELS_OF_TASKS = {'gt_label': 2, 'gt_sem_seg': 4}  # dimensions of the logits that fit a task, by its label
LOSSES_OF_TORCH = {'SmoothL1Loss': 'torch.nn.SmoothL1Loss'}  # those that a regression takes
IN, OUT = dict(a=3, b=5, c=4), dict(a=6, b=8, c=7)  # channels that enter and leave a block, by branch
SIZES = dict(a=(5, 9), b=(3, 4), c=(9, 17))
CONV_CHANNELS = dict(in_channels=5, out_channels=7)


def parameters_of(name):
    return inspect.signature(MODELS.get(name).__init__).parameters


def variants():
    """Every passing operator as it is by default, and with each gate, message and op in turn."""
    for name in PASSINGS:
        yield dict(type=name)
        for part in sorted(PARTS.keys() & parameters_of(name)):
            yield from (dict(type=name, **{part: dict(type=plugin)}) for plugin in PARTS[part])


VARIANTS = list(variants())
PASSING_IDS = ['-'.join(value if key == 'type' else value['type'] for key, value in cfg.items()) for cfg in VARIANTS]
every_variant = pytest.mark.parametrize('cfg', VARIANTS, ids=PASSING_IDS)


def head_logits(name):
    """Dimensions of a head's logits."""
    return MODELS.build(dict(type=name, in_channels=6))((torch.zeros(2, 6, 5, 5),)).ndim


def loss_batch(dims, count=2, size=(5, 9)):
    """Logits and target as a task with logits of ``dims`` dimensions hands them to a loss."""
    generator = torch.Generator().manual_seed(0)
    if dims == 2:
        return torch.randn(count, 3, generator=generator), torch.arange(count) % 3
    return torch.randn(count, 1, *size, generator=generator), torch.ones(count, 1, *size).triu()


def loss_dims(name):
    """Dimensions of the logits that a loss is for: the first that it takes."""
    for dims in LABELS_OF_TASKS.values():
        try:
            MODELS.build(dict(type=name))(*loss_batch(dims))
        except (ValueError, RuntimeError, IndexError):
            continue
        return dims
    raise AssertionError(f'{name} takes neither logits of classes nor of pixels')


HEAD_DIMS = {name: head_logits(name) for name in HEADS}
LOSS_DIMS = {name: loss_dims(name) for name in LOSSES}


def build_task(task, head, losses=None, **options):
    torch.manual_seed(0)
    losses = {name: dict(type=LOSSES_OF_TORCH.get(name, name)) for name in losses or ()}
    return MODELS.build(dict(type=task, head=dict(type=head, in_channels=6), losses=losses, **options))


COMBINATIONS = [
    (task, head, loss)
    for task, head, loss in itertools.product(TASKS, HEADS, LOSSES)
    if LABELS_OF_TASKS.get(MODELS.get(task).target) == HEAD_DIMS[head] == LOSS_DIMS[loss]
] + [
    (task, head, loss)
    for task, head, loss in itertools.product(TASKS, HEADS, LOSSES_OF_TORCH)
    if MODELS.get(task).target == 'gt_values' and HEAD_DIMS[head] == 2
]
every_combination = pytest.mark.parametrize(('task', 'head', 'loss'), COMBINATIONS)
EVERY_MODULE = [
    *(dict(type=name, **CONV_CHANNELS) for name in PARTS['gate'] + PARTS['message']),
    *(dict(type=name, channels=6) for name in PARTS['op']),
    *(dict(cfg, in_channels=IN, out_channels=OUT, routes=[('a', 'b'), ('c', 'b')]) for cfg in VARIANTS),
    *(dict(type=name, in_channels=6) for name in HEADS),
    *(dict(type=name) for name in LOSSES),
    *(dict(type=task, head=dict(type=head, in_channels=6)) for task, head, _ in COMBINATIONS),
]
every_module = pytest.mark.parametrize('cfg', EVERY_MODULE, ids=lambda cfg: cfg['type'])


def build(seed=0, **cfg):
    torch.manual_seed(seed)
    return MODELS.build(cfg)


def randomised(module):
    """The module with no parameter at a special value, such as the zeros of an identity."""
    generator = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        parameter.data.normal_(0, 0.5, generator=generator)
    return module


def build_passing(cfg, routes, **options):
    return build(**cfg, in_channels=IN, out_channels=OUT, routes=routes, **options)


def make_maps(channels, count=2, grad=False):
    generator = torch.Generator().manual_seed(2)
    return {
        branch: torch.randn(count, width, *SIZES[branch], generator=generator).requires_grad_(grad)
        for branch, width in channels.items()
    }


ALL_ROUTES = list(itertools.permutations(IN, 2))


def reached(tensors):
    """Names of those that have a gradient which is not zero throughout."""
    return {name for name, tensor in tensors.items() if tensor.grad is not None and tensor.grad.any()}


def close_in_bf16(function, *arguments):
    """Run twice, once under autocast, and compare to bfloat16's precision."""
    with torch.no_grad():
        expected = function(*arguments)
        with torch.autocast('cpu', dtype=torch.bfloat16):
            actual = function(*arguments)
    torch.testing.assert_close(actual, expected, rtol=0.05, atol=0.05, check_dtype=False)


def test_every_neck_is_of_a_known_kind():
    assert {*registered('necks')} == {*PASSINGS, *itertools.chain(*PARTS.values())}


def test_every_head_and_loss_fits_a_task():
    assert {head for _, head, _ in COMBINATIONS} == {*HEADS}
    assert {loss for *_, loss in COMBINATIONS} == {*LOSSES, *LOSSES_OF_TORCH}


def test_every_task_has_a_label_here():
    """A task with a label of its own is added to LABELS_OF_TASKS, and its label to conftest.make_sample."""
    assert {task for task, *_ in COMBINATIONS} == {*TASKS}


@every_module
def test_state_dict_round_trip(cfg):
    module, other = randomised(build(**cfg)), build(seed=1, **cfg)
    other.load_state_dict(module.state_dict(), strict=True)
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), other.parameters(), strict=True))


@every_module
def test_seed_decides_the_weights(cfg):
    states = [build(seed=5, **cfg).state_dict().values() for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))


@pytest.mark.parametrize('size', [(1, 1), (5, 9)])
@pytest.mark.parametrize('count', [1, 3])
class TestShapes:
    @pytest.mark.parametrize('name', PARTS['gate'])
    def test_gate(self, name, count, size):
        rates = build(type=name, **CONV_CHANNELS)(torch.randn(count, 5, *size))
        assert torch.broadcast_shapes(rates.shape, (count, 7, *size)) == (count, 7, *size)
        assert rates.min() >= 0
        assert rates.max() <= 1

    @pytest.mark.parametrize('name', PARTS['message'])
    def test_message(self, name, count, size):
        assert build(type=name, **CONV_CHANNELS)(torch.randn(count, 5, *size)).shape == (count, 7, *size)

    @pytest.mark.parametrize('name', PARTS['op'])
    def test_op(self, name, count, size):
        feature, message = torch.randn(2, count, 6, *size)
        assert randomised(build(type=name, channels=6))(feature, message).shape == feature.shape

    @pytest.mark.parametrize('name', HEADS)
    def test_head(self, name, count, size):
        """It reads the last of several maps, and gives logits of classes or of pixels."""
        head = build(type=name, in_channels=6).eval()
        last = torch.randn(count, 6, *size)
        logits = head((torch.randn(count, 2, 8, 8), last))
        assert (logits.shape[0], logits.ndim) == (count, HEAD_DIMS[name])
        assert logits.ndim == 2 or logits.shape[2:] == size
        torch.testing.assert_close(head([last]), logits)

    @pytest.mark.parametrize('name', LOSSES)
    def test_loss(self, name, count, size):
        loss = build(type=name)(*loss_batch(LOSS_DIMS[name], count, size))
        assert loss.shape == ()
        assert loss.isfinite()
        assert loss >= 0


@pytest.mark.parametrize('name', PARTS['op'])
def test_op_starts_as_identity(name):
    feature, message = torch.randn(2, 2, 6, 5, 9)
    assert torch.equal(build(type=name, channels=6)(feature, message), feature)
    assert torch.equal(build(type=name, channels=6, identity_init=True)(feature, message), feature)


@pytest.mark.parametrize('name', PARTS['op'])
def test_op_without_identity_passes_at_once(name):
    """What it then gives is compared with eq. 4 in test_golden.py."""
    feature, message = torch.randn(2, 2, 6, 5, 9)
    assert not torch.allclose(build(type=name, channels=6, identity_init=False)(feature, message), feature)


class TestPassing:
    @every_variant
    @pytest.mark.parametrize('count', [1, 2])
    def test_shapes_stay(self, cfg, count):
        """Between branches whose maps differ in width and size."""
        outputs = make_maps(OUT, count)
        new = randomised(build_passing(cfg, ALL_ROUTES))(make_maps(IN, count), outputs)
        assert {task: feature.shape for task, feature in new.items()} == {t: f.shape for t, f in outputs.items()}

    @every_variant
    def test_identity_at_first(self, cfg):
        outputs = make_maps(OUT)
        new = build_passing(cfg, ALL_ROUTES)(make_maps(IN), outputs)
        assert all(torch.equal(new[task], outputs[task]) for task in OUT)

    @every_variant
    def test_its_argument_stays(self, cfg):
        outputs = make_maps(OUT)
        before = dict(outputs)
        randomised(build_passing(cfg, ALL_ROUTES))(make_maps(IN), outputs)
        assert all(outputs[task] is before[task] for task in before)

    @every_variant
    @pytest.mark.parametrize('target', OUT)
    def test_gradient_goes_where_routes_lead(self, cfg, target):
        routes = [('a', 'b'), ('c', 'b'), ('b', 'c')]
        inputs, outputs = make_maps(IN, grad=True), make_maps(OUT, grad=True)
        randomised(build_passing(cfg, routes))(inputs, outputs)[target].square().sum().backward()
        assert reached(inputs) == {source for source, end in routes if end == target}
        assert reached(outputs) == {target}

    @every_variant
    def test_no_parameter_is_unused(self, cfg):
        module = randomised(build_passing(cfg, ALL_ROUTES))
        sum(f.square().sum() for f in module(make_maps(IN), make_maps(OUT)).values()).backward()
        parameters = dict(module.named_parameters())
        assert parameters
        assert reached(parameters) == {*parameters}

    @every_variant
    def test_identity_is_left_by_training(self, cfg):
        """After one step every route's parameters learn: none is held by another's zero."""
        module = build_passing(cfg, ALL_ROUTES)
        optimizer = torch.optim.SGD(module.parameters(), lr=1e-3)
        for _ in range(2):
            optimizer.zero_grad()
            sum(f.square().sum() for f in module(make_maps(IN), make_maps(OUT)).values()).backward()
            optimizer.step()
        parameters = dict(module.named_parameters())
        assert reached(parameters) == {*parameters}

    @every_variant
    def test_a_branch_that_does_not_run_is_left_out(self, cfg):
        module = randomised(build_passing(cfg, ALL_ROUTES))
        inputs, outputs = make_maps(IN), make_maps(OUT)
        two = module(*({task: maps[task] for task in ('a', 'b')} for maps in (inputs, outputs)))
        pair = [route for route in ALL_ROUTES if 'c' not in route]
        alone = build_passing(cfg, pair)
        alone.load_state_dict({key: value for key, value in module.state_dict().items() if key in alone.state_dict()})
        expected = alone(inputs, outputs)
        assert list(two) == ['a', 'b']
        assert all(torch.equal(two[task], expected[task]) for task in two)

    @every_variant
    def test_gates_of_every_route(self, cfg):
        gates = build_passing(cfg, ALL_ROUTES).gates(make_maps(IN), make_maps(OUT))
        assert list(gates) == [f'{source}2{target}' for source, target in ALL_ROUTES]
        assert all(rates.min() >= 0 and rates.max() <= 1 for rates in gates.values())

    @every_variant
    def test_gates_of_the_routes_that_run(self, cfg):
        maps = make_maps(IN)
        del maps['c']
        assert list(build_passing(cfg, ALL_ROUTES).gates(maps, maps)) == ['a2b', 'b2a']

    @every_variant
    def test_bf16(self, cfg):
        close_in_bf16(randomised(build_passing(cfg, [('a', 'b')])), make_maps(IN), make_maps(OUT))

    @every_variant
    @pytest.mark.parametrize(
        ('routes', 'message'),
        [
            ([('a', 'd')], 'route a -> d: a route joins two of the tasks a, b, c'),
            ([('a', 'a')], 'route a -> a: a route joins two of the tasks a, b, c'),
            ([('a', 'b'), ('a', 'b')], 'a2b'),
        ],
    )
    def test_illegal_routes(self, cfg, routes, message):
        with pytest.raises(ValueError, match=message):
            build_passing(cfg, routes)


class TestHead:
    @pytest.mark.parametrize('name', HEADS)
    def test_gradient_reaches_map_and_parameters(self, name):
        head, feature = build(type=name, in_channels=6), torch.randn(2, 6, 5, 9, requires_grad=True)
        head((feature,)).square().sum().backward()
        tensors = dict(head.named_parameters(), feature=feature)
        assert reached(tensors) == {*tensors}

    @pytest.mark.parametrize('name', HEADS)
    def test_bf16(self, name):
        close_in_bf16(build(type=name, in_channels=6).eval(), (torch.randn(2, 6, 5, 9),))


class TestLoss:
    @pytest.mark.parametrize('name', LOSSES)
    def test_right_costs_less_than_wrong(self, name):
        logits, target = loss_batch(LOSS_DIMS[name])
        right = nn.functional.one_hot(target, 3) * 2.0 - 1 if logits.ndim == 2 else target * 2 - 1
        costs = [build(type=name)(right * certainty, target) for certainty in (20, 1, 0, -1, -20)]
        assert costs == sorted(costs)
        assert costs[0] < 0.1 < costs[-1]

    @pytest.mark.parametrize('name', LOSSES)
    def test_gradient_points_to_the_target(self, name):
        logits, target = loss_batch(LOSS_DIMS[name])
        logits.requires_grad_()
        build(type=name)(logits, target).backward()
        on_target = nn.functional.one_hot(target, 3) if logits.ndim == 2 else target
        assert (logits.grad[on_target == 1] <= 0).all()
        assert (logits.grad[on_target == 0] >= 0).all()
        assert logits.grad.flatten(1).any(dim=1).all(), 'an image without gradient'

    @pytest.mark.parametrize('name', LOSSES)
    @pytest.mark.parametrize('logit', [-1e4, 1e4])
    @pytest.mark.parametrize('value', [0, 1])
    def test_extremes_are_finite(self, name, logit, value):
        """Sure and wrong, or sure and right, with one class alone in the target."""
        logits, target = loss_batch(LOSS_DIMS[name])
        logits = torch.full_like(logits, logit, requires_grad=True)
        loss = build(type=name)(logits, torch.full_like(target, value))
        loss.backward()
        assert loss.isfinite()
        assert logits.grad.isfinite().all()

    @pytest.mark.parametrize('name', LOSSES)
    def test_bf16(self, name):
        logits, target = loss_batch(LOSS_DIMS[name], size=(33, 41))
        close_in_bf16(build(type=name), logits.bfloat16(), target)


def make_feats(count=2, grad=False):
    generator = torch.Generator().manual_seed(3)
    return (torch.randn(count, 6, 5, 6, generator=generator).requires_grad_(grad),)


@every_combination
class TestTask:
    def test_losses_reach_map_and_parameters(self, task, head, loss, make_samples):
        module, feats = build_task(task, head, [loss]), make_feats(grad=True)
        losses = module.loss(feats, make_samples())
        assert list(losses) == [f'loss_{loss}']
        sum(losses.values()).backward()
        tensors = dict(module.named_parameters(), feats=feats[0])
        assert reached(tensors) == {*tensors}

    def test_loss_weight(self, task, head, loss, make_samples):
        plain, doubled = (build_task(task, head, [loss], loss_weight=weight).eval() for weight in (1, 2))
        losses = [module.loss(make_feats(), make_samples())[f'loss_{loss}'] for module in (plain, doubled)]
        torch.testing.assert_close(losses[1], 2 * losses[0])

    def test_unlabelled_samples_are_left_out(self, task, head, loss, make_samples):
        module = build_task(task, head, [loss]).eval()
        feats, label = make_feats(4), (module.target,)
        partly = module.loss(feats, make_samples([label, (), label, ()]))
        samples = make_samples([label, (), label])
        torch.testing.assert_close(partly, module.loss((feats[0][[0, 2]],), [samples[0], samples[2]]))

    def test_without_a_label_zero_reaches_every_parameter(self, task, head, loss, make_samples):
        module, feats = build_task(task, head, [loss]), make_feats(grad=True)
        losses = module.loss(feats, make_samples([(), ()]))
        assert all('loss' in name and value == 0 for name, value in losses.items())
        sum(losses.values()).backward()
        gradients = [tensor.grad for tensor in (*module.parameters(), *feats)]
        assert all(gradient is not None and not gradient.any() for gradient in gradients)

    def test_predicts_for_every_sample(self, task, head, loss, make_samples):
        samples = make_samples([(), (), ()])
        build_task(task, head, [loss]).eval().predict(make_feats(3), samples)
        fields = [{name for name in sample.all_keys() if name.startswith('pred')} for sample in samples]
        assert fields[0]
        assert fields == fields[:1] * 3

    def test_bf16(self, task, head, loss, make_samples):
        module = build_task(task, head, [loss]).eval()
        close_in_bf16(lambda: module.loss(make_feats(), make_samples()))
        with torch.autocast('cpu', dtype=torch.bfloat16):
            losses = module.loss(make_feats(), make_samples())
        assert {value.dtype for value in losses.values()} == {torch.float32}


@pytest.mark.parametrize('name', TASKS)
def test_task_is_of_the_base_class(name):
    assert issubclass(MODELS.get(name), Task)
