"""What every plugin that is a module keeps to, and the small networks and batches that contracts run."""

import copy
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from mmengine.structures import PixelData
from torch import Tensor, nn

from mmskin.models.backbones.chain import BlockChain
from mmskin.models.multitask import MultiTaskModel
from mmskin.registry import MODELS
from mmskin.structures import TaskSample

SIZES = ((1, 1), (5, 9))  # of maps: the smallest, and one that is odd


def random(*shape: int, seed: int = 2) -> Tensor:
    """Numbers of a standard normal distribution, the same at every call."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def randomised(module: nn.Module, std: float = 0.5) -> nn.Module:
    """``module`` with no parameter at a special value, such as the zeros of an identity."""
    generator = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        parameter.data.normal_(0, std, generator=generator)
    return module


def reached(tensors: Mapping[str, Tensor]) -> set[str]:
    """Names of those that have a gradient which is not zero throughout."""
    return {name for name, tensor in tensors.items() if tensor.grad is not None and tensor.grad.any()}


def same(actual: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> bool:
    """Whether tensors by name agree bit by bit; what is not known yet, NaN, agrees with itself."""
    equal = partial(torch.isclose, rtol=0, atol=0, equal_nan=True)
    return actual.keys() == expected.keys() and all(
        bool(equal(actual[name], expected[name]).all()) for name in expected
    )


def close(actual: Tensor, expected: Tensor, share: float = 1e-5) -> bool:
    """Whether two tensors differ by no more than a ``share`` of the expected one's length."""
    return bool((actual.float() - expected.float()).norm() <= share * expected.float().norm() + 1e-12)


def close_in_bf16(function: Callable[..., Any], *arguments: Any) -> bool:
    """Whether a tensor, or tensors by name, come out alike under autocast to bfloat16, which has three digits."""
    with torch.no_grad():
        expected = function(*arguments)
        with torch.autocast('cpu', dtype=torch.bfloat16):
            actual = function(*arguments)
    if isinstance(expected, Tensor):
        actual, expected = {'': actual}, {'': expected}
    return all(close(actual[name], expected[name], share=0.05) for name in expected)


class Contract:
    """What every plugin keeps to; each kind of plugin has a subclass that says the rest.

    Attributes:
        cfg: The plugin's config, less what its user hands in. Arguments other than these need defaults.
        given: What its user hands in.
    """

    cfg: ClassVar[dict]
    given: ClassVar[dict] = {}

    def build(self, seed: int = 0, **options: Any) -> Any:
        """The plugin, with ``options`` that its user adds."""
        torch.manual_seed(seed)
        return MODELS.build({**self.cfg, **self.given, **options})

    def test_state_dict_round_trip(self) -> None:
        """A checkpoint holds all that was learnt."""
        module, other = randomised(self.build()), self.build(seed=1)
        other.load_state_dict(module.state_dict(), strict=True)
        assert same(other.state_dict(), module.state_dict())
        assert not dict(module.named_parameters()).keys() - module.state_dict().keys()

    def test_seed_decides_the_weights(self) -> None:
        """The same seed gives the same start."""
        first, second = (self.build(seed=5).state_dict() for _ in range(2))
        assert same(first, second)

    def test_it_can_be_copied(self) -> None:
        """As an average of weights does."""
        copy.deepcopy(self.build())


class LayerContract(Contract):
    """What a module keeps to that makes one tensor of maps, by default of one with 5 channels."""

    def maps(self, count: int = 2) -> tuple[Tensor, ...]:
        """What it is given of ``count`` images."""
        return (random(count, 5, 5, 9),)

    @staticmethod
    def outcome(module: nn.Module, *maps: Tensor) -> Tensor:
        """What it makes of them."""
        return module(*maps)

    def test_an_image_does_not_depend_on_its_batch(self) -> None:
        """In evaluation."""
        module, maps = randomised(self.build()).eval(), self.maps(3)
        assert close(self.outcome(module, *maps)[:1], self.outcome(module, *(x[:1] for x in maps)))

    def test_gradient_reaches_all(self) -> None:
        """What is read, and every parameter, as distributed training demands."""
        module, maps = randomised(self.build()), self.maps()
        self.outcome(module, *(x.requires_grad_() for x in maps)).square().sum().backward()
        tensors = {**dict(module.named_parameters()), **{f'map {index}': x for index, x in enumerate(maps)}}
        assert reached(tensors) == {*tensors}

    def test_bf16(self) -> None:
        """Mixed precision gives what single precision gives."""
        assert close_in_bf16(partial(self.outcome, randomised(self.build(), std=0.2).eval()), *self.maps())


class TinyChain(BlockChain):
    """Five blocks, as small as a network with a stride of 32 can be."""

    def __init__(self) -> None:
        shapes = {'stem': (3, 4, 4), 'a.0': (4, 6, 2), 'b.0': (6, 8, 2), 'b.1': (8, 10, 1), 'c.0': (10, 12, 2)}
        blocks = {}
        for name, (in_channels, out_channels, stride) in shapes.items():
            conv = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
            blocks[name] = nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU())
        super().__init__(blocks)


def tiny_network(passing: dict | str, at_scales: bool = False, **options: Any) -> MultiTaskModel:
    """Classification and segmentation that split after the second block and pass features at the next two.

    Segmentation's maps are twice as large as classification's at both.

    Args:
        passing: Config of the operator, or of several by their sites.
        at_scales: One operator is at both blocks, and one in front of the decoders at their two levels, of which the
            diagnosis reads the coarser one.
        options: Others of ``MultiTaskModel``.
    """
    out_blocks = ['b.1', 'c.0'] if at_scales else ['c.0']
    branches = dict(cls=dict(out_blocks=out_blocks), seg=dict(out_blocks=out_blocks, output_stride=8))
    cls, seg = dict(type='ClsHead', in_channels=12), dict(type='ASPPHead', in_channels=12, rates=(1, 2))
    if at_scales:
        seg = dict(type='UNetHead', channels=4)
    sites = [('b.0', 'b.1'), ('decoder/32', 'decoder/16')] if at_scales else ['b.0', 'b.1']
    by_site = isinstance(passing, dict) and 'type' not in passing
    cfg = dict(
        type='MultiTaskModel',
        backbone=dict(type='SplitBackbone', chain=dict(type=TinyChain), split_after='a.0', branches=branches),
        tasks=dict(
            cls=dict(type='Classification', head=cls, losses=dict(ce=dict(type='CrossEntropy'))),
            seg=dict(type='Segmentation', head=seg, losses=dict(wce=dict(type='WeightedCrossEntropy'))),
        ),
        passing=passing if by_site else dict.fromkeys(sites, passing),
    )
    torch.manual_seed(0)
    return MODELS.build({**cfg, **options})


def tiny_batch(count: int = 2, size: tuple[int, int] = (65, 81)) -> tuple[Tensor, list[TaskSample]]:
    """Normalised images (N, 3, h, w) and samples with both labels."""
    generator = torch.Generator().manual_seed(0)
    samples = [TaskSample(metainfo=dict(image_id=f'{i}', img_shape=size, ori_shape=size)) for i in range(count)]
    for index, sample in enumerate(samples):
        sample.gt_label = torch.tensor([index % 3])
        sample.gt_sem_seg = PixelData(data=torch.randint(2, (1, *size), generator=generator, dtype=torch.uint8))
    return torch.randn(count, 3, *size, generator=generator), samples


TASKS = ('a', 'b', 'c')
BATCHES = 8


class LinearNetwork(nn.Module):
    """Three tasks on one shared layer; b's loss reads a's head as well, as it would after feature passing."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.ModuleDict({'shared': nn.Sequential(nn.Linear(4, 5), nn.Tanh())})
        self.heads = nn.ModuleDict({task: nn.Linear(5, 2) for task in TASKS})

    def losses(
        self, images: Tensor, labelled: Collection[str] = TASKS, active: Collection[str] = TASKS
    ) -> dict[str, Tensor]:
        """The active tasks' mean squares of images (N, 4); without labels a connected zero, as of ``Task.loss``."""
        outputs = {task: head(self.backbone['shared'](images)) for task, head in self.heads.items()}
        outputs['b'] = outputs['b'] + 0.5 * outputs['a']
        values = {task: (outputs[task] - number).square().mean() for number, task in enumerate(TASKS, 1)}
        return {task: value if task in labelled else 0 * value for task, value in values.items() if task in active}


def linear_network() -> LinearNetwork:
    """The network with the same weights at every call."""
    torch.manual_seed(0)
    return LinearNetwork()


def batches() -> Tensor:
    """Eight batches of six images (8, 6, 4)."""
    return random(BATCHES, 6, 4, seed=1)
