"""The contract of passing operators."""

from collections.abc import Collection, Iterable
from functools import partial
from itertools import permutations, product
from typing import Any

import torch
from torch import nn

from mmskin.models.passing.base import FeaturePassing, Features
from mmskin.models.watch import closed, pass_features
from mmskin.testing.contract import (
    SIZES,
    Contract,
    close,
    close_in_bf16,
    random,
    randomised,
    reached,
    tiny_batch,
    tiny_network,
)

IN, OUT = dict(a=3, b=5, c=4), dict(a=6, b=8, c=7)  # channels that enter and leave a block, by branch
NEXT = dict(a=5, b=7, c=9)  # that leave a later one
MAPS = dict(a=(5, 9), b=(3, 4), c=(9, 17))
ALL_ROUTES = list(permutations(IN, 2))
ROUTES = [('a', 'b'), ('c', 'b'), ('b', 'c')]  # both ways, one way, and from two branches into one
Routes = Iterable[tuple[str, str]]


def maps(channels: dict[str, int], count: int = 2, size: tuple[int, int] | None = None) -> Features:
    """Maps of the branches, which differ in width, and in size unless one is given."""
    return {name: random(count, width, *(size or MAPS[name]), seed=width) for name, width in channels.items()}


def leaves(channels: dict[str, int]) -> Features:
    """The same, waiting for a gradient."""
    return {name: feature.requires_grad_() for name, feature in maps(channels).items()}


def only(features: Features, tasks: Collection[str]) -> Features:
    """The maps of ``tasks``."""
    return {name: feature for name, feature in features.items() if name in tasks}


def passed(operator: nn.Module, *given: Any) -> Features:
    """The maps that ``operator`` gives of those that enter and leave, and of the state that is handed to it, if any."""
    return pass_features('site', operator, *given)[0]


def learn(features: Features) -> None:
    """A backward pass from all of ``features``."""
    torch.stack([feature.square().sum() for feature in features.values()]).sum().backward()


def indirect(target: str, routes: Collection[tuple[str, str]]) -> set[str]:
    """The branches from which routes lead to ``target``, be it through others."""
    reaching = {target}
    while more := {source for source, end in routes if end in reaching} - reaching:
        reaching |= more
    return reaching


class PassingContract(Contract):
    """An operator passes features along routes between any number of branches, whose maps may differ in every way.

    It is a ``FeaturePassing``; its routes as built, ``ends``, say what it should do. Like all operators it has the
    options ``routes``, ``detach`` and ``identity_init``.
    """

    given = dict(in_channels=IN, out_channels=OUT, routes=ALL_ROUTES)

    def awake(self, **options: Any) -> FeaturePassing:
        """The operator, away from the identity."""
        return randomised(self.build(**options), std=0.3)  # type: ignore[return-value]

    def test_it_is_an_operator(self) -> None:
        """With the base class that tells which of its parts run."""
        assert isinstance(self.build(), FeaturePassing)

    def test_shapes_stay(self) -> None:
        """Each target keeps the shape and type of its own map, and no map is lost."""
        for count in (1, 2):
            outputs = maps(OUT, count)
            new = passed(self.awake(), maps(IN, count), outputs)
            assert new.keys() == outputs.keys()
            assert all(new[task].shape == outputs[task].shape for task in outputs)
            assert {feature.dtype for feature in new.values()} == {torch.float32}

    def test_trains_on_one_image(self) -> None:
        """Even on maps of one cell, where PyTorch's batch norm raises an error: there is a `BatchNorm` that doesn't."""
        for size in SIZES:
            operator = self.awake().train()
            new = passed(
                operator, maps(IN, 1, size), {task: x.requires_grad_() for task, x in maps(OUT, 1, size).items()}
            )
            learn(new)
            tensors = [*new.values(), *(p.grad for p in operator.parameters() if p.grad is not None)]
            assert all(tensor.isfinite().all() for tensor in tensors), f'maps of {size}'

    def test_identity_at_first(self) -> None:
        """A network that is joined by it gives at first what it gave before."""
        for operator in (self.build(), self.build().eval()):
            outputs = maps(OUT)
            new = passed(operator, maps(IN), outputs)
            assert all(torch.equal(new[task], outputs[task]) for task in OUT)

    def test_passes_at_once_without_identity(self) -> None:
        """In every branch in which a route ends."""
        operator, outputs = self.build(identity_init=False), maps(OUT)
        new = passed(operator, maps(IN), outputs)
        changed = {task for task in OUT if not torch.allclose(new[task], outputs[task])}
        assert changed == {target for _, target in operator.ends.values()}

    def test_something_passes(self) -> None:
        """Once away from the identity, in every branch in which a route ends, and in no other."""
        operator, outputs = self.awake(routes=ROUTES), maps(OUT)
        new = passed(operator, maps(IN), outputs)
        changed = {task for task in OUT if not torch.equal(new[task], outputs[task])}
        assert changed == {target for _, target in operator.ends.values()}

    def test_its_arguments_stay(self) -> None:
        """The caller's maps are as they were."""
        given, before = (maps(IN), maps(OUT)), (maps(IN), maps(OUT))
        passed(self.awake(), *given)
        assert all(torch.equal(mine[task], old[task]) for mine, old in zip(given, before, strict=True) for task in IN)

    def test_evaluation_repeats_itself(self) -> None:
        """Twice the same maps give twice the same."""
        operator = self.awake().eval()
        first, second = (passed(operator, maps(IN), maps(OUT)) for _ in range(2))
        assert all(torch.equal(first[task], second[task]) for task in OUT)

    def test_an_image_does_not_depend_on_its_batch(self) -> None:
        """In evaluation, unless the operator says that it ``mixes_images``, as a control may."""
        operator, together = self.awake().eval(), (maps(IN, 3), maps(OUT, 3))
        if operator.mixes_images:
            return
        alone = ({task: feature[:1] for task, feature in features.items()} for features in together)
        new, first = passed(operator, *together), passed(operator, *alone)
        assert all(close(new[task][:1], first[task]) for task in OUT)

    def test_gradient_goes_where_routes_lead(self) -> None:
        """From a target it reaches what routes bring there and, if they are chained, what others bring on.

        It goes nowhere else, and not through routes that are detached.
        """
        detached: list[list[tuple[str, str]]] = [[], [('a', 'b')], [('c', 'b'), ('b', 'c')]]
        for detach, target in product(detached, OUT):
            operator, inputs, outputs = self.awake(routes=ROUTES, detach=detach), leaves(IN), leaves(OUT)
            learn({target: passed(operator, inputs, outputs)[target]})
            open_routes = [ends for ends in operator.ends.values() if ends not in detach]
            direct = {target, *(source for source, end in open_routes if end == target)}
            sources = reached(inputs) | reached(outputs)
            assert direct <= sources, f'{target} does not learn from {direct - sources}; detach={detach}'
            most = indirect(target, open_routes) if operator.chained else direct
            assert sources <= most, f'a gradient goes from {target} to {sources - most}; detach={detach}'

    def test_a_closed_route_brings_nothing(self) -> None:
        """Inside ``closed`` no gradient goes along it, and it has no gates; afterwards all is as before."""
        operator = self.awake(routes=ROUTES).eval()
        before = passed(operator, maps(IN), maps(OUT))
        for name, (source, target) in operator.ends.items():
            inputs, outputs = leaves(IN), leaves(OUT)
            with closed(operator, name):
                learn({target: passed(operator, inputs, outputs)[target]})
                assert name not in operator.gates(inputs, outputs)
            open_routes = {ends for ends in ROUTES if ends != (source, target)}
            assert source not in reached(inputs) | reached(outputs) or source in indirect(target, open_routes)
        after = passed(operator, maps(IN), maps(OUT))
        assert all(torch.equal(after[task], before[task]) for task in OUT)

    def test_no_parameter_is_unused(self) -> None:
        """What does not run with the branches that do is in ``idle_parts``, as distributed training demands."""
        some_routes: list[Routes] = [ALL_ROUTES, ROUTES, [('a', 'b')], [('b', 'a')], []]
        some_tasks: list[tuple[str, ...]] = [('a', 'b', 'c'), ('a', 'b'), ('b', 'c'), ('a',)]
        for routes, tasks in product(some_routes, some_tasks):
            operator = self.awake(routes=routes)
            learn(passed(operator, only(leaves(IN), tasks), only(leaves(OUT), tasks)))
            parts = nn.ModuleList(operator.idle_parts(tasks))
            idle = {id(parameter) for parameter in parts.parameters()}
            parameters = dict(operator.named_parameters())
            expected = {name for name, parameter in parameters.items() if id(parameter) not in idle}
            assert reached(parameters) == expected, f'routes {routes}, of which {tasks} run'

    def test_identity_is_left_by_training(self) -> None:
        """After one step every route's parameters learn: none is held by another's zero."""
        operator = self.build()
        parameters = dict(operator.named_parameters())
        if parameters:
            optimizer = torch.optim.SGD(operator.parameters(), lr=1e-3)
        for _ in range(2 if parameters else 0):
            optimizer.zero_grad()
            learn(passed(operator, maps(IN), maps(OUT)))
            optimizer.step()
        assert reached(parameters) == {*parameters}

    def test_a_branch_that_rests_is_left_out(self) -> None:
        """Whichever runs, gets a map."""
        for tasks in (('a',), ('a', 'b'), ('c', 'b')):
            outputs = only(maps(OUT), tasks)
            new = passed(self.awake(), only(maps(IN), tasks), outputs)
            assert new.keys() == outputs.keys()
            assert all(new[task].shape == outputs[task].shape for task in tasks)

    def test_gates(self) -> None:
        """Rates in [0, 1] with four axes, by the name of each gated route that runs, and a word on what they are."""
        operator = self.awake().eval()
        for tasks in (('a', 'b', 'c'), ('a', 'b')):
            inputs, outputs = only(maps(IN), tasks), only(maps(OUT), tasks)
            with torch.no_grad():
                gates = operator.gates(inputs, outputs)
            assert gates.keys() == operator.gated(tasks).keys(), f'{operator.quantity=}, and gates of {[*gates]}'
            assert gates.keys() <= operator.running(tasks).keys()
            for rates in gates.values():  # (2, C, h, w), in [0, 1]
                assert rates.ndim == 4
                assert len(rates) == 2
                assert 0 <= float(rates.min()) <= float(rates.max()) <= 1

    def two_sites(self) -> tuple[FeaturePassing, FeaturePassing]:
        """The operator at a site and at the next, whose maps have other widths."""
        return self.awake(routes=ROUTES), self.awake(routes=ROUTES, in_channels=OUT, out_channels=NEXT)

    def test_a_state_travels(self) -> None:
        """What a ``CarryingPassing`` hands on matters at the next site, is of each image alone and stays."""
        first, then = (operator.eval() for operator in self.two_sites())
        if not first.carries:
            return
        states = [pass_features('site', first, maps(IN, 3), maps(OUT, 3))[1]]
        states += [pass_features('site', first, *({t: x[:1] for t, x in maps(ch, 3).items()} for ch in (IN, OUT)))[1]]
        given = maps(OUT, 3), maps(NEXT, 3)
        new, again, without = (passed(then, *given, state) for state in (states[0], states[0], None))
        assert all(new[task].shape == given[1][task].shape for task in NEXT)
        assert all(torch.equal(new[task], again[task]) for task in NEXT)
        assert any(not torch.equal(new[task], without[task]) for task in NEXT), 'the state changes nothing'
        alone = passed(then, *({task: x[:1] for task, x in features.items()} for features in given), states[1])
        assert first.mixes_images or all(close(new[task][:1], alone[task]) for task in NEXT)

    def test_a_state_learns_along_routes(self) -> None:
        """A gradient goes through it to what routes bring to a target, and no further."""
        for target in OUT:
            first, then = self.two_sites()
            if not first.carries:
                return
            inputs, outputs = leaves(IN), leaves(OUT)
            state = pass_features('site', first, inputs, outputs)[1]
            learn({target: passed(then, leaves(OUT), leaves(NEXT), state)[target]})
            routes = [*first.ends.values()]
            most = indirect(target, routes) if first.chained else {source for source, end in routes if end == target}
            assert reached(inputs) | reached(outputs) <= {target, *most}

    def test_bf16(self) -> None:
        """Mixed precision gives what single precision gives."""
        assert close_in_bf16(partial(passed, randomised(self.build(), std=0.1).eval()), maps(IN), maps(OUT))

    def test_double_precision(self) -> None:
        """No part of it is of a fixed type."""
        given = ({name: feature.double() for name, feature in maps(channels).items()} for channels in (IN, OUT))
        new = passed(self.awake().double(), *given)
        assert {feature.dtype for feature in new.values()} == {torch.float64}

    def test_illegal_routes(self) -> None:
        """An unknown branch, one that leads to itself, one that stands twice, one to be detached that is none."""
        illegal: list[dict] = [dict(routes=routes) for routes in ([('a', 'd')], [('a', 'a')], [('a', 'b'), ('a', 'b')])]
        for options in (*illegal, dict(routes=[('a', 'b')], detach=[('b', 'a')])):
            try:
                self.build(**options)
            except ValueError:
                continue
            raise AssertionError(f'{options} is no error')

    def test_in_a_network(self) -> None:
        """All that requires a gradient gets one, with passing, without, and with one task of two at rest."""
        self.check_network()
        self.check_network(use_passing=False)
        self.check_network(active_tasks=['seg'])
        self.check_network(count=1)

    def test_at_several_scales(self) -> None:
        """The same with one operator at two blocks and one at two levels of the decoders, where maps travel."""
        self.check_network(at_scales=True)
        self.check_network(at_scales=True, active_tasks=['seg'])

    def check_network(self, count: int = 2, **options: Any) -> None:
        """One step's gradients in a stage with ``options``, for ``count`` images, and its gates."""
        model = tiny_network(self.cfg, **options).train()
        randomised(model.passing)
        images, samples = tiny_batch(count)
        torch.stack(list(model(images, samples, mode='loss').values())).sum().backward()
        waiting = {name for name, p in model.named_parameters() if p.requires_grad and p.grad is None}
        assert not waiting, f'no gradient with {options} for {waiting}'
        assert model.eval().gates(images).keys() == ({*model.sites.values()} if model.use_passing else set())

    def test_joined_network_starts_as_the_separate_ones(self) -> None:
        """With passing and without, the same logits."""
        images, _ = tiny_batch(1)
        for at_scales in (False, True):
            networks = (tiny_network(self.cfg, at_scales, use_passing=passing) for passing in (True, False))
            joined, separate = (network.eval()(images) for network in networks)
            assert all(torch.equal(joined[task], separate[task]) for task in separate)
