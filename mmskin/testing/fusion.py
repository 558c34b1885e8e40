"""The contract of what joins inputs other than the image to a task."""

import math
from typing import cast

import torch
from torch import Tensor

from mmskin.models.fusion import Categorical, Fusion, Numeric, Values
from mmskin.structures import TaskSample
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

INPUTS = dict(age=Numeric(0, 100, edges=(30, 60)), sex=Categorical(('female', 'male')))
CLASSES = 3


def values_for(ages: list[float], sexes: list[float]) -> Values:
    """Values by name."""
    return {'age': torch.tensor(ages), 'sex': torch.tensor(sexes)}


KNOWN = values_for([20.0, 70.0, 45.0], [0.0, 1.0, 1.0])
UNKNOWN = values_for([math.nan] * 3, [math.nan] * 3)


class FusionContract(Contract):
    """A fusion changes a task's last maps (N, 6, h, w), its logits (N, 3) or both by inputs, which may be unknown.

    The inputs are a number, ``age``, and a word, ``sex``.
    """

    given = dict(in_channels=6, inputs=INPUTS)

    def awake(self) -> Fusion:
        """The fusion with weights as training could leave them, after it has counted."""
        fusion = cast(Fusion, randomised(self.build()))
        fusion.fit(values_for([20.0, 70.0, 45.0, math.nan], [0.0, 1.0, 1.0, 0.0]), torch.tensor([0, 1, 2, 1]))
        return fusion.eval()

    @staticmethod
    def outcome(fusion: Fusion, values: Values, count: int = 3) -> Tensor:
        """Maps and logits of the first images as the fusion gives them, in one row for each."""
        maps, logits = random(3, 6, 5, 9)[:count], random(3, CLASSES, seed=4)[:count]
        return torch.cat([fusion.on_maps(maps, values).flatten(1), fusion.on_logits(logits, values)], dim=1)

    def test_shapes_stay(self) -> None:
        """For maps of any size and batches of one, in training and after."""
        for fusion in (self.build(), self.awake()):
            assert isinstance(fusion, Fusion)
            for size in SIZES:
                for count in (1, 3):
                    values = {name: value[:count] for name, value in KNOWN.items()}
                    assert fusion.on_maps(random(count, 6, *size), values).shape == (count, 6, *size)
                    assert fusion.on_logits(random(count, CLASSES), values).shape == (count, CLASSES)

    def test_inputs_matter(self) -> None:
        """Each moves the outcome where it is known."""
        fusion = self.awake()
        before = self.outcome(fusion, UNKNOWN)
        for name in fusion.inputs:
            assert not close(self.outcome(fusion, {**UNKNOWN, name: KNOWN[name]}), before), f'{name} changes nothing'

    def test_unknown_is_allowed(self) -> None:
        """Whether nobody gave a value, or gave NaN; and no NaN comes out."""
        fusion = self.awake()
        absent = self.outcome(fusion, {})
        assert absent.isfinite().all()
        assert torch.equal(absent, self.outcome(fusion, UNKNOWN))

    def test_an_image_does_not_depend_on_its_batch(self) -> None:
        """Not on what is known of the others, either."""
        fusion = self.awake()
        whole = self.outcome(fusion, values_for([20.0, math.nan, 45.0], [math.nan, 1.0, 1.0]))
        assert close(self.outcome(fusion, values_for([20.0], [math.nan]), count=1), whole[:1])

    def test_gradient_reaches_all(self) -> None:
        """Maps, logits and every parameter, and is finite, where some values are unknown."""
        fusion = cast(Fusion, randomised(self.build()))
        maps, logits = random(3, 6, 5, 9).requires_grad_(), random(3, CLASSES).requires_grad_()
        values = values_for([20.0, math.nan, 45.0], [0.0, 1.0, math.nan])
        (fusion.on_maps(maps, values).square().sum() + fusion.on_logits(logits, values).square().sum()).backward()
        tensors = dict(fusion.named_parameters(), maps=maps, logits=logits)
        assert all(tensor.grad is not None and tensor.grad.isfinite().all() for tensor in tensors.values())
        assert {'maps', 'logits'} <= reached(tensors)

    def test_counts_what_it_gets(self) -> None:
        """Also where a class has no image, or an input no known value."""
        fusion = self.build()
        fusion.fit(UNKNOWN, torch.tensor([0, 0, 1]))
        assert self.outcome(fusion, KNOWN).isfinite().all()

    def test_bf16(self) -> None:
        """Mixed precision gives what single precision gives."""
        assert close_in_bf16(self.outcome, self.awake(), KNOWN)

    def test_in_a_network(self) -> None:
        """It trains where samples hold inputs, where some do and where none does, and predicts in all these cases."""
        described = {name: one.describe() for name, one in INPUTS.items()}
        heads = dict(type='ClsHead', in_channels=12), dict(type='ASPPHead', in_channels=12, rates=(1, 2))
        ce, wce = dict(ce=dict(type='CrossEntropy')), dict(wce=dict(type='WeightedCrossEntropy'))
        tasks = dict(
            cls=dict(type='Classification', head=heads[0], losses=ce, fusion=self.cfg),
            seg=dict(type='Segmentation', head=heads[1], losses=wce),
        )
        cases: list[list[dict]] = [[{'age': 20, 'sex': 'male'}, {}], [{}, {}]]
        for known in cases:
            images, samples = tiny_batch()
            for sample, inputs in zip(samples, known, strict=True):
                if inputs:
                    sample.inputs = inputs
            network = tiny_network(dict(type='GatedFeaturePassing'), inputs=described, tasks=tasks).train()
            sum(network(images, samples, 'loss').values()).backward()
            fusion = network.tasks['cls'].fusion
            assert all(parameter.grad is not None for parameter in fusion.parameters()), 'a parameter is unused'
            predicted: list[TaskSample] = network.eval()(images, samples, 'predict')
            assert all(sample.cls_score.isfinite().all() for sample in predicted)
