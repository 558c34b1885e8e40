"""What every registered way of balancing losses keeps to. It is tested by being registered."""

import copy

import pytest
import torch
from mmengine.logging import MessageHub

from mmskin.models.weighting.gradient_weighting import GradientWeighting
from mmskin.models.weighting.weighting import Weighting
from mmskin.registry import MODELS

TASKS = ('a', 'b', 'c')
MODELS.import_from_location()
EVERY = sorted(name for name, kind in MODELS.module_dict.items() if issubclass(kind, Weighting))
every = pytest.mark.parametrize('name', EVERY)


def test_there_are_some():
    assert {'FixedWeights', 'UncertaintyWeights', 'DWA', 'GradNorm', 'RLW', 'GLS'} <= {*EVERY}
    assert {'PCGrad', 'CAGrad', 'UPGrad'} == {name for name in EVERY if issubclass(MODELS.get(name), GradientWeighting)}


@pytest.fixture(autouse=True)
def epoch():
    """A function that says which epoch it is; all tests begin in the first."""
    hub = MessageHub.get_current_instance()
    hub.update_info('epoch', 0)
    return lambda number: hub.update_info('epoch', number)


def step(weighting, network, images, labelled=TASKS, active=TASKS, scale=1.0):
    """One forward and backward pass, whose gradients stay; gives the loss and the weights."""
    network.zero_grad()
    weighting.zero_grad()
    losses = network.losses(images, labelled, active)
    total, weights = weighting(losses, [task for task in labelled if task in active], network)
    total.backward(torch.tensor(scale))
    return total.detach(), weights


def descend(*modules, lr=0.05):
    for module in modules:
        for parameter in module.parameters():
            if parameter.grad is not None:
                parameter.data -= lr * parameter.grad


def train(weighting, network, images, epoch, first=0):
    """Steps of SGD, two to an epoch; gives the losses."""
    losses = []
    for number, batch in enumerate(images, first):
        epoch(number // 2)
        losses.append(step(weighting, network, batch)[0])
        descend(network, weighting)
    return losses


def gradients(network):
    return {name: parameter.grad.clone() for name, parameter in network.named_parameters()}


def state_of(weighting):
    return {name: value.clone() for name, value in weighting.state_dict().items()}


def equal(first, second):
    """Whether two dicts of tensors agree bit by bit; what is not known yet (NaN) agrees with itself."""
    assert first.keys() == second.keys()
    return all(torch.equal(first[key].nan_to_num(-7.5), second[key].nan_to_num(-7.5)) for key in first)


@every
def test_trains_every_parameter(name, build, network, images):
    weighting = build(name)
    total, weights = step(weighting, network, images[0])
    assert total.isfinite()
    assert list(weights) == list(TASKS)
    assert all(weight >= 0 and not weight.requires_grad for weight in weights.values())
    graded = [p.grad for p in (*network.parameters(), *weighting.parameters())]
    assert all(gradient is not None and gradient.isfinite().all() and gradient.any() for gradient in graded)


@every
def test_lowers_every_loss(name, build, network, images, epoch):
    before = network.losses(images.flatten(0, 1))
    train(build(name), network, images.repeat(8, 1, 1), epoch)
    after = network.losses(images.flatten(0, 1))
    assert all(after[task] < before[task] for task in TASKS)


@every
@pytest.mark.parametrize('missing', TASKS)
def test_a_batch_without_a_label_is_as_if_the_task_were_not_there(name, build, network, images, missing):
    """The other tasks' gradients reach the network, with finite weights; the task's own parameters get zeros."""
    rest = tuple(task for task in TASKS if task != missing)
    total, weights = step(build(name), network, images[0], rest)
    found = gradients(network)
    assert total > 0
    assert all(0 < weights[task] < 10 for task in rest)
    assert all(gradient.isfinite().all() for gradient in found.values())
    assert found['backbone.shared.0.weight'].any()
    if missing != 'a':  # whose head b reads
        assert not found[f'heads.{missing}.weight'].any()


@every
def test_one_label_is_trained_like_one_task(name, build, network, images):
    """In the direction of the plain gradient of the one loss."""
    sum(network.losses(images[0], ('c',)).values()).backward()
    plain = torch.cat([gradient.flatten() for gradient in gradients(network).values()])
    step(build(name), network, images[0], ('c',))
    found = torch.cat([gradient.flatten() for gradient in gradients(network).values()])
    assert torch.cosine_similarity(found, plain, dim=0) > 1 - 1e-6
    assert 0.1 < found.norm() / plain.norm() < 3


@every
def test_no_label_at_all(name, build, network, images):
    weighting = build(name)
    step(weighting, network, images[0])
    total, _ = step(weighting, network, images[0], ())
    assert total == 0
    assert not any(gradient.any() for gradient in gradients(network).values())
    assert all(
        value.isfinite().all() for key, value in state_of(weighting).items() if key not in ('average', 'earlier')
    )


@every
def test_many_batches_without_a_label_disturb_nothing(name, build, network, images, epoch):
    """With a network that stays as it is: no weight runs away, nor that of the task when it is back."""
    weighting = build(name)
    step(weighting, network, images[0])
    for number in range(40):
        epoch(1 + number // 4)
        step(weighting, network, images[number % 8], ('a', 'c'))
        descend(weighting)
    epoch(20)
    _, weights = step(weighting, network, images[0])
    assert all(0.02 < weight < 5 for weight in weights.values())


@every
def test_one_task_has_nothing_to_balance(name, build, network, images):
    weighting = build(name, active=('b',))
    before = state_of(weighting)
    total, weights = step(weighting, network, images[0], active=('b',))
    assert total == network.losses(images[0])['b']
    assert {task: weight.item() for task, weight in weights.items()} == {'b': 1}
    assert equal(state_of(weighting), before)
    assert not any(parameter.requires_grad for parameter in weighting.parameters())


@every
def test_two_of_three_tasks(name, build, network, images, epoch):
    """What rests has no part in it: the same as in a network that has the two alone."""
    results = []
    for tasks in (TASKS, ('a', 'c')):
        torch.manual_seed(0)
        net, weighting = copy.deepcopy(network), build(name, tasks=tasks, active=('a', 'c'))
        for number in range(6):
            epoch(number // 2)
            _, weights = step(weighting, net, images[number], active=('a', 'c'))
            descend(net, weighting)
        results.append(weights)
    assert list(results[0]) == ['a', 'c']
    if name != 'RLW':  # which draws a number for each
        torch.testing.assert_close(*results)


@every
def test_resumes_bit_by_bit(name, build, network, images, epoch):
    weighting = build(name)
    train(weighting, network, images[:5], epoch)
    resumed, copied = build(name), copy.deepcopy(network)
    torch.manual_seed(99)
    resumed.load_state_dict(state_of(weighting), strict=True)
    straight = train(weighting, network, images[5:], epoch, first=5)
    again = train(resumed, copied, images[5:], epoch, first=5)
    assert straight == again
    assert equal(state_of(weighting), state_of(resumed))
    assert equal(gradients(network), gradients(copied))


@every
def test_other_tasks_start_afresh(name, build, network, images, epoch):
    """In the next stage, if it trains other tasks."""
    weighting = build(name, active=('a', 'b'))
    for number, batch in enumerate(images):
        epoch(number // 2)
        step(weighting, network, batch, active=('a', 'b'))
        descend(network, weighting)
    state = state_of(weighting)
    joint = build(name)
    fresh = state_of(joint)
    joint.load_state_dict(state, strict=True)
    assert equal(state_of(joint), fresh)
    same = build(name, active=('a', 'b'))
    same.load_state_dict(state, strict=True)
    assert equal(state_of(same), state)


@every
def test_seed_decides_the_outcome(name, build, network, images, epoch):
    outcomes = [train(build(name), copy.deepcopy(network), images, epoch) for _ in range(2)]
    assert outcomes[0] == outcomes[1]


@every
def test_draws_nothing_from_the_generator_of_dropout(name, build, network, images):
    weighting = build(name)
    before = torch.get_rng_state()
    step(weighting, network, images[0])
    assert torch.equal(torch.get_rng_state(), before)


@every
def test_evaluation_learns_nothing(name, build, network, images, epoch):
    weighting = build(name).eval()
    before = state_of(weighting)
    epoch(3)
    step(weighting, network, images[0])
    with torch.no_grad():
        weighting(network.losses(images[0]), TASKS, network)
    assert equal(state_of(weighting), before)


@every
def test_bf16(name, build, network, images):
    step(build(name), network, images[0])
    expected = gradients(network)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = network.losses(images[0])
        total, weights = build(name)(losses, TASKS, network)
    network.zero_grad()
    total.backward()
    assert total.dtype == torch.float32
    assert all(weight.dtype == torch.float32 for weight in weights.values())
    torch.testing.assert_close(gradients(network), expected, rtol=0.1, atol=0.05)


@every
def test_a_scaled_loss_has_scaled_gradients_and_the_same_state(name, build, network, images):
    """As float16's gradient scaler and gradient accumulation have it."""
    states, found = [], []
    for scale in (1.0, 2.0**16):
        weighting = build(name)
        step(weighting, network, images[0], scale=scale)
        found.append({key: gradient / scale for key, gradient in gradients(network).items()})
        states.append(state_of(weighting))
    torch.testing.assert_close(found[1], found[0])
    torch.testing.assert_close(states[1], states[0], equal_nan=True)


@every
def test_an_overflow_spoils_nothing(name, build, network, images):
    """A scale that was too large gives infinite gradients, upon which the scaler leaves the step out."""
    weighting = build(name)
    step(weighting, network, images[0], scale=float('inf'))
    assert not all(gradient.isfinite().all() for gradient in gradients(network).values())
    state = state_of(weighting)
    assert all(value.isfinite().all() for key, value in state.items() if key not in ('average', 'earlier', 'initial'))
    step(weighting, network, images[0])
    assert all(gradient.isfinite().all() for gradient in gradients(network).values())


@every
def test_a_frozen_task_is_no_obstacle(name, build, network, images):
    """A loss that reaches no parameter that trains: the rest is trained."""
    network.requires_grad_(False)
    network.heads['c'].requires_grad_(True)
    network.backbone['shared'][0].weight.requires_grad_(name == 'GradNorm')
    losses = network.losses(images[0])
    total, _ = build(name)(losses, TASKS, network)
    total.backward()
    assert network.heads['c'].weight.grad.any()


@every
def test_accumulates(name, build, network, images):
    """Gradients add to what is there."""
    step(build(name), network, images[0])
    once = gradients(network)
    total, _ = build(name)(network.losses(images[0]), TASKS, network)
    total.backward()
    torch.testing.assert_close(gradients(network), {key: 2 * gradient for key, gradient in once.items()})


@every
def test_copies(name, build, network, images):
    """An averaged model is a deep copy."""
    weighting = build(name)
    step(weighting, network, images[0])
    assert equal(state_of(copy.deepcopy(weighting)), state_of(weighting))


@every
def test_float16_with_a_gradient_scaler(name, build, network, images):
    """As in a step of `--amp` on a GPU: what the scaler gives back are the gradients, and all finite."""
    step(build(name), network, images[0])
    expected = gradients(network)
    weighting = build(name)
    optimizer = torch.optim.SGD([*network.parameters(), *weighting.parameters()], lr=0.1)
    scaler = torch.amp.GradScaler('cpu', init_scale=2.0**10)
    with torch.autocast('cpu', dtype=torch.float16):
        total, _ = weighting(network.losses(images[0]), TASKS, network)
    optimizer.zero_grad()
    scaler.scale(total).backward()
    scaler.unscale_(optimizer)
    torch.testing.assert_close(gradients(network), expected, rtol=0.05, atol=0.02)
    before = network.heads['c'].weight.clone()
    scaler.step(optimizer)
    assert not torch.equal(network.heads['c'].weight, before)
