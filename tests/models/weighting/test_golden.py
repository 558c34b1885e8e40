"""Each method's numbers, worked out by hand or by an independent reference."""

import copy
import math
import re
import sys

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub
from scipy.optimize import minimize
from torch import nn, tensor

TASKS = ('a', 'b', 'c')
TWO = ('a', 'b')


def losses_of(**values):
    return {task: tensor(float(value), requires_grad=True) for task, value in values.items()}


def close(actual, expected, **options):
    torch.testing.assert_close(
        torch.as_tensor(actual),
        torch.as_tensor(expected),
        check_dtype=False,
        **({'rtol': 1e-5, 'atol': 1e-6} | options),
    )


def call(weighting, losses, labelled=None):
    """The loss, the weights, and the gradient of the loss at each task's loss."""
    total, weights = weighting(losses, list(losses) if labelled is None else labelled, nn.Module())
    gradients = torch.autograd.grad(total, list(losses.values()), retain_graph=True)
    return total, [weight.item() for weight in weights.values()], [gradient.item() for gradient in gradients]


class TestFixed:
    def test_golden(self, build):
        total, weights, gradients = call(build('FixedWeights', weights=dict(b=2)), losses_of(a=3, b=5, c=7))
        close(total, 3 + 2 * 5 + 7)
        assert weights == gradients == [1, 2, 1]

    @pytest.mark.parametrize('weights', [dict(d=1), dict(a=-1)])
    def test_bad_weights(self, build, weights):
        with pytest.raises(ValueError, match='some of the tasks a, b, c'):
            build('FixedWeights', weights=weights)


class TestUncertainty:
    def test_golden(self, build):
        """s = (log 2, 0, 0): 3 / 4 + 5 / 2 + 7 / 2 + log(2) / 2; and d/ds = 1/2 - L / (2 exp s)."""
        weighting = build('UncertaintyWeights')
        weighting.log_variance.data[0] = math.log(2)
        total, weights, gradients = call(weighting, losses_of(a=3, b=5, c=7))
        close(total, 6.75 + math.log(2) / 2)
        close(weights, [0.25, 0.5, 0.5])
        close(gradients, [0.25, 0.5, 0.5])
        total.backward()
        close(weighting.log_variance.grad, [0.5 - 0.75, 0.5 - 2.5, 0.5 - 3.5])

    def test_without_a_label(self, build):
        weighting = build('UncertaintyWeights', initial=1)
        total, *_ = call(weighting, losses_of(a=0, b=0, c=7), labelled=['c'])
        close(total, 3.5 * math.exp(-1) + 0.5)
        total.backward()
        close(weighting.log_variance.grad[:2], [0.0, 0.0])

    def test_converges_to_the_losses(self, build):
        """At the minimum over s, exp s = L, and w = 1 / (2 L)."""
        weighting = build('UncertaintyWeights')
        optimizer = torch.optim.SGD(weighting.parameters(), lr=0.5)
        for _ in range(400):
            optimizer.zero_grad()
            weighting(losses_of(a=0.5, b=2, c=4), TASKS, nn.Module())[0].backward()
            optimizer.step()
        close(weighting.log_variance.exp().detach(), [0.5, 2, 4], rtol=1e-3)


class TestGLS:
    def test_golden(self, build):
        """The square root of 4 * 9."""
        total, weights, gradients = call(build('GLS', active=TWO, tasks=TWO), losses_of(a=4, b=9))
        close(total, 6.0)
        close(weights, [6 / 8, 6 / 18])
        assert gradients == weights

    def test_is_the_gradient_of_the_root(self, build):
        losses = losses_of(a=0.3, b=2, c=5)
        root = (losses['a'] * losses['b'] * losses['c']) ** (1 / 3)
        expected = torch.autograd.grad(root, list(losses.values()))
        total, _, gradients = call(build('GLS'), losses)
        close(total.detach(), root.detach())
        close(gradients, torch.stack(expected))

    def test_without_a_label(self, build):
        total, weights, _ = call(build('GLS'), losses_of(a=4, b=0, c=9), labelled=['a', 'c'])
        close(total, 6.0)
        close(weights, [0.75, 0, 1 / 3])

    def test_a_loss_of_zero_has_a_finite_gradient(self, build):
        total, _, gradients = call(build('GLS'), losses_of(a=4, b=0, c=9))
        assert total.isfinite()
        assert np.isfinite(gradients).all()


class TestRLW:
    def test_is_a_softmax_of_normal_numbers(self, build):
        weighting = build('RLW')
        for number in range(3):
            normal = np.random.default_rng((int(weighting.random.seed), number)).standard_normal(3)
            _, weights, gradients = call(weighting, losses_of(a=3, b=5, c=7))
            close(weights, np.exp(normal) / np.exp(normal).sum())
            assert gradients == weights

    def test_no_task_is_preferred(self, build):
        """Over 1000 steps; a standard error is 0.007."""
        weighting = build('RLW')
        drawn = np.array([call(weighting, losses_of(a=1, b=1, c=1))[1] for _ in range(1000)])
        assert np.abs(drawn.mean(0) - 1 / 3).max() < 0.03
        assert drawn.std(0).min() > 0.15

    def test_what_rests_gets_none(self, build):
        _, weights, _ = call(build('RLW', active=('a', 'c')), losses_of(a=1, c=1))
        close(sum(weights), 1.0)


class TestDWA:
    def weights(self, weighting, epochs):
        """The weights in the last of the epochs, each a list of steps with losses of those tasks that have labels."""
        for number, steps in enumerate(epochs):
            MessageHub.get_current_instance().update_info('epoch', number)
            for losses in steps:
                all_losses = losses_of(**{**dict.fromkeys(weighting.tasks, 0.0), **losses})
                _, weights, _ = call(weighting, all_losses, labelled=list(losses))
        return weights

    def test_golden(self, build):
        """Averages 4 and 2, then 2 and 2: r = (1/2, 1), and with T = 2 the weights are 2 softmax(1/4, 1/2)."""
        weighting = build('DWA', active=TWO, tasks=TWO)
        first, second = [dict(a=5, b=1), dict(a=3, b=3)], [dict(a=2, b=2)]
        assert self.weights(weighting, [first]) == [1, 1]
        assert self.weights(weighting, [first, second]) == [1, 1]
        weights = self.weights(build('DWA', active=TWO, tasks=TWO), [first, second, second])
        close(weights, [2 / (1 + math.exp(0.25)), 2 / (1 + math.exp(-0.25))])

    def test_temperature(self, build):
        epochs = [[dict(a=4, b=2)], [dict(a=2, b=2)], [dict(a=2, b=2)]]
        weights = self.weights(build('DWA', active=TWO, tasks=TWO, temperature=0.5), epochs)
        close(weights, [2 / (1 + math.e), 2 / (1 + 1 / math.e)])
        with pytest.raises(ValueError, match='temperature is 0'):
            build('DWA', temperature=0)

    def test_averages_leave_out_what_has_no_label(self, build):
        """Else b's average would be 1 in the first epoch, and its r 2."""
        epochs = [[dict(a=4, b=2), dict(a=4)], [dict(a=2, b=2)], [dict(a=2, b=2)]]
        weights = self.weights(build('DWA', active=TWO, tasks=TWO), epochs)
        close(weights, [2 / (1 + math.exp(0.25)), 2 / (1 + math.exp(-0.25))])

    def test_an_epoch_without_a_label(self, build):
        """b keeps the average of the epoch before, and has r = 1 until it has two."""
        epochs = [[dict(a=4, b=2)], [dict(a=2)], [dict(a=2)]]
        weights = self.weights(build('DWA', active=TWO, tasks=TWO), epochs)
        close(weights, [2 / (1 + math.exp(0.25)), 2 / (1 + math.exp(-0.25))])
        epochs = [[dict(a=1, b=2)], [dict(a=1)], [dict(a=1, b=1)], [dict(a=1)]]
        weights = self.weights(build('DWA', active=TWO, tasks=TWO), epochs)
        close(weights, [2 / (1 + math.exp(-0.25)), 2 / (1 + math.exp(0.25))])


class TestGradNorm:
    def test_golden(self, build):
        """Norms 1 and 3, equal rates: G = 2, so w goes by -0.1 (-1, 3) to (1.1, 0.7), and then to a sum of 2."""
        weighting = build('GradNorm', active=TWO, tasks=TWO, lr=0.1)
        weighting.adapt(tensor([5.0, 7.0]), tensor([True, True]), tensor([1.0, 3.0]))
        close(weighting.task_weights, [1.1 / 0.9, 0.7 / 0.9])

    def test_the_slower_task_gains(self, build):
        """Equal norms; a's loss is where it was, b's at half: r = (4/3, 2/3), targets 4/3 and 2/3 of the norms."""
        weighting = build('GradNorm', active=TWO, tasks=TWO, lr=0.1, alpha=1)
        weighting.initial.copy_(tensor([1.0, 1.0]))
        weighting.adapt(tensor([1.0, 0.5]), tensor([True, True]), tensor([2.0, 2.0]))
        close(weighting.task_weights, [1.2, 0.8])

    @pytest.mark.parametrize('alpha', [0, 1.5])
    def test_steps_down_the_gradient_of_the_papers_loss(self, build, network, images, alpha):
        """That of algorithm 1 by differentiating twice, with G_i from the weighted losses and the target detached."""
        weighting, reference = build('GradNorm', alpha=alpha), copy.deepcopy(network)
        weights, initial = torch.ones(3), torch.stack([*reference.losses(images[0]).values()]).detach()
        shared = reference.backbone['shared'][0].weight
        for batch in images[:4]:
            network.zero_grad()
            weighting(network.losses(batch), TASKS, network)[0].backward()
            weights.requires_grad_(True)
            losses = torch.stack([*reference.losses(batch).values()])
            norms = torch.stack(
                [
                    torch.autograd.grad(w * value, shared, create_graph=True)[0].norm()
                    for w, value in zip(weights, losses, strict=True)
                ]
            )
            rate = losses / initial
            target = (norms.mean() * (rate / rate.mean()) ** alpha).detach()
            slope = torch.autograd.grad((norms - target).abs().sum(), weights)[0]
            weights = weights.detach() - 0.025 * slope
            weights *= 3 / weights.sum()
            close(weighting.task_weights, weights)
        assert (weights - 1).abs().max() > 0.01

    def test_weights_of_the_loss(self, build, network, images):
        weighting = build('GradNorm')
        weighting.task_weights.copy_(tensor([0.5, 2.0, 0.5]))
        losses = network.losses(images[0])
        total, weights = weighting(losses, TASKS, network)
        close(total.detach(), 0.5 * losses['a'] + 2 * losses['b'] + 0.5 * losses['c'])
        total.backward()
        close([*weights.values()], [0.5, 2.0, 0.5])  # those of this step, though they have moved

    def test_no_weight_becomes_negative(self, build):
        weighting = build('GradNorm', active=TWO, tasks=TWO, lr=100)
        weighting.adapt(tensor([5.0, 7.0]), tensor([True, True]), tensor([1.0, 3.0]))
        assert (weighting.task_weights > 0).all()
        close(weighting.task_weights.sum(), 2.0)

    def test_names_a_layer_that_is_not_trained(self, build, network, images):
        for layer, part in (('backbone.shered', network.heads), ('backbone.shared', network.backbone)):
            part.requires_grad_(False)
            with pytest.raises(ValueError, match=re.escape(f'last weights of {layer!r}')):
                build('GradNorm', layer=layer)(network.losses(images[0]), TASKS, network)
            part.requires_grad_(True)


class Plane(nn.Module):
    """Losses with given gradients at a point (x, y), whose coordinates are parameters of their own."""

    def __init__(self, *gradients):
        super().__init__()
        self.x, self.y = (nn.Parameter(torch.zeros(1)) for _ in range(2))
        self.own = nn.Parameter(torch.zeros(1))  # the first task's
        self.gradients = gradients

    def losses(self):
        values = {task: dx * self.x + dy * self.y for task, (dx, dy) in zip(TASKS, self.gradients, strict=False)}
        values['a'] = values['a'] + 3 * self.own
        return {task: (value + 1).squeeze() for task, value in values.items()}


def surgery(weighting, *gradients):
    plane = Plane(*gradients)
    total, weights = weighting(plane.losses(), TASKS[: len(gradients)], plane)
    total.backward()
    assert total == len(gradients)
    assert plane.own.grad == 3  # not what the weighting is about
    return [plane.x.grad.item(), plane.y.grad.item()], [weight.item() for weight in weights.values()]


class TestGradients:
    """(1, 0) and (-1, 1) conflict in x alone: per parameter it would come to 0 there; as one vector it does not."""

    CONFLICT = ((1.0, 0.0), (-1.0, 1.0))
    PEACE = ((1.0, 0.0), (1.0, 2.0))

    def two(self, build, name, **options):
        return build(name, active=TWO, tasks=TWO, **options)

    @pytest.mark.parametrize('name', ['PCGrad', 'UPGrad'])
    def test_projection(self, build, name):
        """g_a + g_b / 2 = (1/2, 1/2), and g_b + g_a = (0, 1)."""
        gradient, weights = surgery(self.two(build, name), *self.CONFLICT)
        close(gradient, [0.5, 1.5], atol=2e-3)  # TorchJD's UPGrad adds 1e-4 to the products
        close(weights, [2, 1.5], atol=2e-3)

    @pytest.mark.parametrize('name', ['PCGrad', 'UPGrad'])
    def test_without_conflict_it_is_the_sum(self, build, name):
        gradient, weights = surgery(self.two(build, name), *self.PEACE)
        close(gradient, [2.0, 2.0], atol=1e-3)
        close(weights, [1.0, 1.0], atol=1e-3)

    @pytest.mark.parametrize('size', [1e-6, 1e6])
    @pytest.mark.parametrize('name', ['PCGrad', 'CAGrad', 'UPGrad'])
    def test_small_and_large_gradients(self, build, name, size):
        _, expected = surgery(self.two(build, name), *self.CONFLICT)
        _, weights = surgery(self.two(build, name), *(tuple(size * d for d in g) for g in self.CONFLICT))
        close(weights, expected, rtol=1e-3)

    def test_cagrad_by_symmetry(self, build):
        """(1, 0) and (0, 1): w = (1/2, 1/2), so d = (1 + c) g_0, times 2."""
        gradient, _ = surgery(self.two(build, 'CAGrad', c=0.5), (1.0, 0.0), (0.0, 1.0))
        close(gradient, [1.5, 1.5], rtol=1e-3)

    def test_cagrad_without_c_is_the_sum(self, build):
        close(surgery(self.two(build, 'CAGrad', c=0), *self.CONFLICT)[0], [0.0, 1.0], atol=1e-3)
        with pytest.raises(ValueError, match='c is 1'):
            build('CAGrad', c=1)

    @pytest.mark.parametrize('c', [0.2, 0.5])
    def test_cagrad_by_scipy(self, build, c):
        """The paper's dual, eq. 4, minimised by another solver, as the authors do."""
        rows = np.array([(1.0, 0.5), (-2.0, 1.0), (0.5, 3.0)])
        average = rows.mean(0)
        radius = c * np.linalg.norm(average)

        def dual(w):
            return w @ rows @ average + radius * np.linalg.norm(w @ rows)

        simplex = dict(bounds=[(0, 1)] * 3, constraints=dict(type='eq', fun=lambda w: 1 - w.sum()))
        direction = minimize(dual, np.full(3, 1 / 3), tol=1e-12, **simplex).x @ rows
        expected = 3 * (average + radius * direction / np.linalg.norm(direction))
        gradient, _ = surgery(build('CAGrad', c=c), *map(tuple, rows))
        close(gradient, expected, rtol=2e-3, atol=2e-3)

    def test_pcgrad_of_three(self, build):
        """Algorithm 1 for one of the orders that may be drawn for each task."""
        rows = np.array([(1.0, 0.1), (-2.0, 1.0), (-0.5, -3.0)])

        def projected(i, order):
            gradient = rows[i].copy()
            for j in order:
                gradient -= min(gradient @ rows[j], 0) / (rows[j] @ rows[j]) * rows[j]
            return gradient

        choices = [[projected(i, o) for o in ((j, k), (k, j))] for i, j, k in ((0, 1, 2), (1, 0, 2), (2, 0, 1))]
        possible = [a + b + c for a in choices[0] for b in choices[1] for c in choices[2]]
        weighting = build('PCGrad')
        found = np.array([surgery(weighting, *map(tuple, rows))[0] for _ in range(12)])
        distances = np.array([[np.abs(one - other).max() for other in possible] for one in found])
        assert distances.min(1).max() < 1e-5
        assert len({row.round(4).tobytes() for row in found}) > 1  # the order does vary

    def test_upgrad_of_three_conflicts_with_none(self, build):
        rows = np.array([(1.0, 0.1), (-2.0, 1.0), (0.5, -0.1)])
        assert (rows @ rows.sum(0)).min() < -0.3  # unlike the sum
        gradient, _ = surgery(build('UPGrad'), *map(tuple, rows))
        assert (rows @ gradient).min() > -1e-2

    @pytest.mark.parametrize('name', ['PCGrad', 'CAGrad', 'UPGrad'])
    def test_as_torchjd_does_it(self, build, network, images, name):
        """By its own backward pass over what the tasks share, two tasks without a passage between them."""
        from torchjd import aggregation
        from torchjd.autojac import jac_to_grad, mtl_backward

        reference = copy.deepcopy(network)
        features = reference.backbone['shared'](images[0])
        outputs = [reference.heads[task](features) for task in ('a', 'c')]
        values = [(output - number).square().mean() for output, number in zip(outputs, (1, 3), strict=True)]
        mtl_backward(values, features=features)
        jac_to_grad(
            reference.backbone.parameters(), getattr(aggregation, name)(**({'c': 0.5} if name == 'CAGrad' else {}))
        )

        weighting = build(name, active=('a', 'c'), tasks=('a', 'c'))
        weighting(network.losses(images[0], active=('a', 'c')), ('a', 'c'), network)[0].backward()
        factor = 1 if name == 'PCGrad' else 2  # theirs are averages
        for key, parameter in network.named_parameters():
            expected = reference.get_parameter(key).grad
            if not key.startswith('heads.b'):
                close(parameter.grad, expected * (factor if key.startswith('backbone') else 1), rtol=1e-3, atol=1e-4)

    def test_what_two_tasks_reach_is_shared(self, build, network, images):
        """b's loss reads a's head, so it is part of the surgery; c's head is c's alone."""
        own = {}
        for task in TASKS:
            network.zero_grad()
            network.losses(images[0])[task].backward(retain_graph=True)
            own[task] = [network.heads[head].weight.grad for head in ('a', 'c')]
        network.zero_grad()
        total, weights = build('CAGrad')(network.losses(images[0]), TASKS, network)
        total.backward()
        close(network.heads['a'].weight.grad, weights['a'] * own['a'][0] + weights['b'] * own['b'][0])
        close(network.heads['c'].weight.grad, own['c'][1])


@pytest.mark.parametrize('name', ['PCGrad', 'CAGrad', 'UPGrad'])
class TestWithoutTorchJD:
    @pytest.fixture(autouse=True)
    def no_torchjd(self, monkeypatch):
        monkeypatch.setitem(sys.modules, 'torchjd.aggregation', None)

    def test_a_network_tests_and_predicts(self, build, network, images, name):
        """Nothing is weighted there, so nothing is needed."""
        weighting = build(name).eval()
        other = build(name)
        other.load_state_dict(weighting.state_dict())
        total, _ = copy.deepcopy(weighting)(network.losses(images[0]), TASKS, network)
        assert total.isfinite()

    @pytest.mark.parametrize('active', [TASKS, ('a',)])
    def test_a_training_says_so_at_its_start(self, build, name, active):
        """Also in a first stage with one task, long before the one that needs it."""
        weighting = nn.ModuleDict(dict(weighting=build(name, active=active)))
        with pytest.raises(ImportError, match=re.escape("torchjd is not installed: pip install '.[torchjd]'")):
            weighting.train()
