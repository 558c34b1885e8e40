"""The contract of loss weightings."""

import copy
from collections.abc import Collection, Iterable
from typing import Any, ClassVar

import torch
from mmengine.logging import MessageHub
from torch import Tensor, nn

from mmskin.models.weighting.from_losses import FixedWeights
from mmskin.models.weighting.weighting import Weighting
from mmskin.testing.contract import TASKS, Contract, LinearNetwork, batches, close, linear_network, same

State = dict[str, Tensor]


def say_step(number: int, per_epoch: int = 2) -> None:
    """Let it be step ``number`` of a run, as mmengine does."""
    hub = MessageHub.get_current_instance()
    hub.update_info('iter', number)
    hub.update_info('epoch', number // per_epoch)


def step(
    weighting: Weighting,
    network: LinearNetwork,
    images: Tensor,
    labelled: Collection[str] = TASKS,
    active: Collection[str] = TASKS,
    scale: float = 1.0,
) -> tuple[Tensor, State]:
    """One forward and backward pass, whose gradients stay; gives the loss and the weights."""
    network.zero_grad()
    weighting.zero_grad()
    losses = network.losses(images, labelled, active)
    total, weights = weighting(losses, [task for task in labelled if task in active], network)
    total.backward(torch.tensor(scale))
    return total.detach(), weights


def descend(*modules: nn.Module, lr: float = 0.05) -> None:
    """A step of SGD."""
    for module in modules:
        for parameter in module.parameters():
            if parameter.grad is not None:
                parameter.data -= lr * parameter.grad


def learn(weighting: Weighting, network: LinearNetwork, images: Iterable[Tensor], first: int = 0) -> list[Tensor]:
    """Steps of SGD, two to an epoch, from step ``first`` of a run; gives the losses."""
    say_step(first)
    weighting.train()
    losses = []
    for number, batch in enumerate(images, first):
        say_step(number)
        losses.append(step(weighting, network, batch)[0])
        descend(network, weighting)
    return losses


def gradients(network: nn.Module) -> State:
    """The parameters' gradients, zero where none came."""
    parameters = network.named_parameters()
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in parameters}


def vector(tensors: State) -> Tensor:
    """All in one."""
    return torch.cat([tensor.flatten() for tensor in tensors.values()])


def state_of(weighting: Weighting) -> State:
    """A copy of its state."""
    return {name: value.clone() for name, value in weighting.state_dict().items()}


def stays_finite(state: State, before: State) -> bool:
    """Whether what was known in ``before`` is finite; what is not known yet may be NaN in both."""
    return all(value[before[name].isfinite()].isfinite().all() for name, value in state.items())


class WeightingContract(Contract):
    """A weighting makes one loss of the tasks' losses, of which any may lack labels, and is the same after a resume.

    It is a ``Weighting``, tried on three tasks that share a layer.

    Attributes:
        drawn: Whether its weights are drawn at random, so that they depend on how many tasks there are.
        trained: Parameters of the network that have to train for it, such as the layer whose gradients it compares.
    """

    given = dict(tasks=list(TASKS), active_tasks=list(TASKS))
    drawn: ClassVar[bool] = False
    trained: ClassVar[tuple[str, ...]] = ()

    def setup_method(self) -> None:
        """Every test begins in a run's first step."""
        say_step(0)

    def build(self, seed: int = 0, active: Collection[str] = TASKS, **options: Any) -> Weighting:
        """The weighting, for those tasks that are ``active``."""
        return super().build(seed, active_tasks=list(active), **options)

    def test_trains_every_parameter(self) -> None:
        """Of the network and its own; no weight is negative, or has a gradient."""
        weighting, network = self.build(), linear_network()
        total, weights = step(weighting, network, batches()[0])
        assert total.isfinite()
        assert list(weights) == list(TASKS)
        assert all(weight >= 0 and not weight.requires_grad for weight in weights.values())
        graded = [p.grad for p in (*network.parameters(), *weighting.parameters())]
        assert all(gradient is not None and gradient.isfinite().all() and gradient.any() for gradient in graded)

    def test_lowers_every_loss(self) -> None:
        """Within 64 steps."""
        network, images = linear_network(), batches()
        before = network.losses(images.flatten(0, 1))
        learn(self.build(), network, images.repeat(8, 1, 1))
        after = network.losses(images.flatten(0, 1))
        assert all(after[task] < before[task] for task in TASKS)

    def test_a_batch_without_a_label_is_as_if_the_task_were_not_there(self) -> None:
        """The others have the loss, the weights and the gradients of a network that has them alone."""
        for missing in TASKS:
            rest = [task for task in TASKS if task != missing]
            network, alone = linear_network(), linear_network()
            total, weights = step(self.build(), network, batches()[0], rest)
            if self.drawn:
                drawn = {task: float(weights[task]) for task in rest}
                of_the_rest: Weighting = FixedWeights(rest, rest, weights=drawn)
            else:
                of_the_rest = self.build(tasks=rest, active=rest)
            expected, expected_weights = step(of_the_rest, alone, batches()[0], rest, rest)
            assert all(close(weights[task], expected_weights[task]) for task in rest), f'without {missing}: {weights}'
            assert close(total, expected), f'without {missing} the loss is {total}, not {expected}'
            assert close(vector(gradients(network)), vector(gradients(alone))), f'other gradients without {missing}'

    def test_one_label_is_trained_like_one_task(self) -> None:
        """In the direction of the plain gradient of the one loss, and of its order of magnitude."""
        network, plain = linear_network(), linear_network()
        plain.losses(batches()[0], ('c',))['c'].backward()
        step(self.build(), network, batches()[0], ('c',))
        actual, expected = vector(gradients(network)), vector(gradients(plain))
        assert torch.cosine_similarity(actual, expected, dim=0) > 1 - 1e-6
        assert 0.05 < actual.norm() / expected.norm() < 20

    def test_no_label_at_all(self) -> None:
        """Nothing to minimise, no gradient, no state that breaks."""
        weighting, network = self.build(), linear_network()
        step(weighting, network, batches()[0])
        before = state_of(weighting)
        total, _ = step(weighting, network, batches()[0], ())
        assert total == 0
        assert not vector(gradients(network)).any()
        assert stays_finite(state_of(weighting), before)

    def test_many_batches_without_a_label_disturb_nothing(self) -> None:
        """With a network that stays as it is: no weight runs away, nor that of the task when it is back."""
        weighting, network, images = self.build(), linear_network(), batches()
        _, before = step(weighting, network, images[0])
        for number in range(1, 41):
            say_step(number, per_epoch=4)
            step(weighting, network, images[number % 8], ('a', 'c'))
            descend(weighting)
        say_step(80, per_epoch=4)
        _, weights = step(weighting, network, images[0])
        assert all(before[task] / 20 < weights[task] < before[task] * 20 for task in TASKS), f'{before}, then {weights}'

    def test_one_task_has_nothing_to_balance(self) -> None:
        """Its weight is 1, and nothing is learnt."""
        weighting, network = self.build(active=['b']), linear_network()
        before = state_of(weighting)
        total, weights = step(weighting, network, batches()[0], active=['b'])
        assert total == network.losses(batches()[0])['b']
        assert {task: weight.item() for task, weight in weights.items()} == {'b': 1}
        assert same(state_of(weighting), before)
        assert not any(parameter.requires_grad for parameter in weighting.parameters())

    def test_two_of_three_tasks(self) -> None:
        """What rests has no part in it: the same as in a network that has the two alone."""
        after_six_steps: list[State] = []
        for tasks in (TASKS, ('a', 'c')):
            network, weighting = linear_network(), self.build(tasks=list(tasks), active=['a', 'c'])
            for number in range(6):
                say_step(number)
                _, weights = step(weighting, network, batches()[number], active=['a', 'c'])
                descend(network, weighting)
            after_six_steps.append(weights)
        first, second = after_six_steps
        assert list(first) == ['a', 'c']
        assert self.drawn or all(close(first[task], second[task]) for task in first), f'{first}, not {second}'

    def test_resumes_bit_by_bit(self) -> None:
        """From a checkpoint of the network and the weighting."""
        weighting, network, images = self.build(), linear_network(), batches()
        learn(weighting, network, images[:5])
        resumed, copied = self.build(), copy.deepcopy(network)
        torch.manual_seed(99)
        resumed.load_state_dict(state_of(weighting), strict=True)
        assert learn(weighting, network, images[5:], first=5) == learn(resumed, copied, images[5:], first=5)
        assert same(state_of(weighting), state_of(resumed))
        assert same(gradients(network), gradients(copied))

    def test_the_next_stage_starts_afresh(self) -> None:
        """Whichever tasks trained before; the network's weights are another matter."""
        for active in (TASKS, ('a', 'b')):
            weighting, images = self.build(active=active), batches()
            for number, batch in enumerate(images):
                say_step(number)
                step(weighting, linear_network(), batch, active=active)
                descend(weighting)
            following, fresh, networks = self.build(), self.build(), (linear_network(), linear_network())
            following.load_state_dict(state_of(weighting), strict=True)
            assert learn(following, networks[0], images) == learn(fresh, networks[1], images)
            assert same(state_of(following), state_of(fresh))

    def test_seed_decides_the_outcome(self) -> None:
        """Twice the same seed give twice the same losses."""
        first, second = (learn(self.build(), linear_network(), batches()) for _ in range(2))
        assert first == second

    def test_draws_nothing_from_the_generator_of_dropout(self) -> None:
        """Which differs from process to process."""
        weighting, network = self.build(), linear_network()
        before = torch.get_rng_state()
        step(weighting, network, batches()[0])
        assert torch.equal(torch.get_rng_state(), before)

    def test_evaluation_learns_nothing(self) -> None:
        """Be it with gradients or without."""
        weighting, network = self.build().eval(), linear_network()
        before = state_of(weighting)
        say_step(6)
        step(weighting, network, batches()[0])
        with torch.no_grad():
            weighting(network.losses(batches()[0]), TASKS, network)
        assert same(state_of(weighting), before)

    def test_bf16(self) -> None:
        """Weights and loss are of single precision, and gradients those of single precision."""
        network, mixed = linear_network(), linear_network()
        step(self.build(), network, batches()[0])
        with torch.autocast('cpu', dtype=torch.bfloat16):
            total, weights = self.build()(mixed.losses(batches()[0]), TASKS, mixed)
        total.backward()
        assert {tensor.dtype for tensor in (total, *weights.values())} == {torch.float32}
        assert close(vector(gradients(mixed)), vector(gradients(network)), share=0.05)

    def test_a_scaled_loss_has_scaled_gradients_and_the_same_state(self) -> None:
        """As float16's gradient scaler and gradient accumulation have it."""
        states, scaled_back = [], []
        for scale in (1.0, 2.0**16):
            weighting, network = self.build(), linear_network()
            step(weighting, network, batches()[0], scale=scale)
            scaled_back.append(vector(gradients(network)) / scale)
            states.append(state_of(weighting))
        assert close(scaled_back[1], scaled_back[0])
        assert all(torch.allclose(states[1][name], value, equal_nan=True) for name, value in states[0].items())

    def test_an_overflow_spoils_nothing(self) -> None:
        """A scale that was too large gives infinite gradients, upon which the scaler leaves the step out."""
        weighting, network = self.build(), linear_network()
        before = state_of(weighting)
        step(weighting, network, batches()[0], scale=float('inf'))
        assert not vector(gradients(network)).isfinite().all()
        assert stays_finite(state_of(weighting), before)
        step(weighting, network, batches()[0])
        assert vector(gradients(network)).isfinite().all()

    def test_a_frozen_task_is_no_obstacle(self) -> None:
        """A loss that reaches no parameter that trains: the rest is trained."""
        network = linear_network()
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name.startswith('heads.c.') or name in self.trained)
        step(self.build(), network, batches()[0])
        assert network.get_parameter('heads.c.weight').grad.any()  # type: ignore[union-attr]

    def test_accumulates(self) -> None:
        """Gradients add to what is there."""
        network = linear_network()
        step(self.build(), network, batches()[0])
        once = vector(gradients(network))
        total, _ = self.build()(network.losses(batches()[0]), TASKS, network)
        total.backward()
        assert close(vector(gradients(network)), 2 * once)

    def test_a_loss_of_no_task_has_its_own_gradient(self) -> None:
        """What an operator adds, such as a penalty: the weighting leaves it as it is."""
        network, without, alone = (linear_network() for _ in range(3))
        step(self.build(), without, batches()[0])
        alone.losses(batches()[0])['c'].square().backward()
        losses = network.losses(batches()[0])
        penalty = losses['c'].square()  # goes through the same maps as the tasks' losses
        (self.build()(losses, TASKS, network)[0] + penalty).backward()
        assert close(vector(gradients(network)), vector(gradients(without)) + vector(gradients(alone)))

    def test_a_copy_has_its_state(self) -> None:
        """An averaged model is a deep copy."""
        weighting = self.build()
        step(weighting, linear_network(), batches()[0])
        assert same(state_of(copy.deepcopy(weighting)), state_of(weighting))

    def test_float16_with_a_gradient_scaler(self) -> None:
        """As in a step of ``--amp`` on a GPU: what the scaler gives back are the gradients, and all finite."""
        network, scaled, weighting = linear_network(), linear_network(), self.build()
        step(self.build(), network, batches()[0])
        optimizer = torch.optim.SGD([*scaled.parameters(), *weighting.parameters()], lr=0.1)
        scaler = torch.amp.GradScaler('cpu', init_scale=2.0**10)
        with torch.autocast('cpu', dtype=torch.float16):
            total, _ = weighting(scaled.losses(batches()[0]), TASKS, scaled)
        scaler.scale(total).backward()
        scaler.unscale_(optimizer)
        assert close(vector(gradients(scaled)), vector(gradients(network)), share=0.02)
        before = vector(scaled.state_dict())
        scaler.step(optimizer)
        assert not torch.equal(vector(scaled.state_dict()), before)
