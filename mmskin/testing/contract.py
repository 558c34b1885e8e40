"""What every plugin that is a module keeps to, and what the contracts check it with."""

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmskin.registry import MODELS

__all__ = ['Contract', 'close', 'close_in_bf16', 'random', 'randomised', 'reached', 'same']

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
