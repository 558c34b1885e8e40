"""What a network is given with the image, and what joins it to the features or to the logits."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmskin.errors import Mistake
from mmskin.files import number_in
from mmskin.registry import MODELS
from mmskin.structures import TaskSample, is_known

Values = Mapping[str, Tensor]  # (N,) by the input's name, NaN where it is unknown


class Input:
    """One thing that the network is given with the image; each value of it is a number, NaN where it is unknown.

    Attributes:
        allowed: The values that it takes, in words.
        num_bins: Bins of ``members``.
        width: Columns of ``encode``.
    """

    allowed: str
    num_bins: int
    width: int

    def number_of(self, value: Any) -> float:
        """The number of one known value, or NaN if it is not among those that are allowed."""
        raise NotImplementedError

    def read(self, value: Any, name: str) -> float:
        """The number that stands for ``value``, NaN if it is unknown.

        Raises:
            Mistake: if it is not among those that are allowed; the message begins with ``name``.
        """
        number = self.number_of(value) if is_known(value) else math.nan
        if is_known(value) and math.isnan(number):
            raise Mistake(f'{name} is {value!r}; give {self.allowed}, or unknown')
        return number

    def members(self, values: Tensor) -> Tensor:
        """In which bin each of ``values`` (N,) lies: (N, num_bins), 1 there and 0 elsewhere; in none if unknown."""
        raise NotImplementedError

    def encode(self, values: Tensor) -> Tensor:
        """``values`` (N,) as a layer takes them, (N, width): zero where unknown, and last whether they are unknown."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """What builds it again, as JSON holds it."""
        raise NotImplementedError

    def examples(self) -> list[float]:
        """Numbers of known values, from every bin."""
        raise NotImplementedError


@MODELS.register_module()
class Numeric(Input):
    """A number, such as an age.

    Args:
        minimum: The smallest that is accepted.
        maximum: The largest.
        edges: Where the bins of a ``PriorFusion`` meet, rising. The first bin has all below, the last all above.
        mean: Layers see ``(value - mean) / std``; by default the middle of the range.
        std: By default a quarter of the range.
    """

    width = 2

    def __init__(
        self,
        minimum: float,
        maximum: float,
        edges: Sequence[float] = (),
        mean: float | None = None,
        std: float | None = None,
    ) -> None:
        if not minimum < maximum or list(edges) != sorted({*edges}) or (std is not None and not std > 0):
            raise Mistake(
                f'Numeric has minimum={minimum}, maximum={maximum}, edges={tuple(edges)}, std={std}; '
                'the minimum has to be below the maximum, edges have to rise, and std is above 0'
            )
        self.allowed = f'a number from {minimum:g} to {maximum:g}'
        self.minimum, self.maximum, self.edges = minimum, maximum, tuple(edges)
        self.mean = (minimum + maximum) / 2 if mean is None else mean
        self.std = (maximum - minimum) / 4 if std is None else std
        self.num_bins = len(self.edges) + 1

    def number_of(self, value: Any) -> float:
        if isinstance(value, bool):
            return math.nan
        try:
            number = number_in(value.strip()) if isinstance(value, str) else float(value)
        except (OverflowError, TypeError, ValueError):
            return math.nan
        return number if self.minimum <= number <= self.maximum else math.nan

    def members(self, values: Tensor) -> Tensor:
        ends = (-math.inf, *self.edges, math.inf)
        inside = [(values >= low) & (values < high) for low, high in zip(ends[:-1], ends[1:], strict=True)]
        return torch.stack(inside, dim=1).float()

    def encode(self, values: Tensor) -> Tensor:
        unknown = values.isnan()
        scaled = torch.where(unknown, torch.zeros_like(values), (values - self.mean) / self.std)
        return torch.stack([scaled, unknown.to(values.dtype)], dim=1)

    def describe(self) -> dict[str, Any]:
        names = ('minimum', 'maximum', 'edges', 'mean', 'std')
        return {'type': 'Numeric', **{name: getattr(self, name) for name in names}}

    def examples(self) -> list[float]:
        return [float(self.minimum), *map(float, self.edges), float(self.maximum)]


@MODELS.register_module()
class Categorical(Input):
    """One of several words, such as a sex or a site of the body; upper and lower case are the same.

    Args:
        values: The words; each stands for its place among them, from 0.
    """

    def __init__(self, values: Sequence[str]) -> None:
        self.values = tuple(values)
        self.places = {value.casefold(): place for place, value in enumerate(self.values)}
        if isinstance(values, str) or len(self.places) < max(2, len(self.values)):
            raise Mistake(f'Categorical has values={values!r}; give two words or more, none of them twice')
        self.allowed = f'one of {", ".join(self.values)}'
        self.num_bins, self.width = len(self.values), len(self.values) + 1

    def number_of(self, value: Any) -> float:
        return float(self.places.get(str(value).strip().casefold(), math.nan))

    def members(self, values: Tensor) -> Tensor:
        return torch.stack([values == place for place in range(self.num_bins)], dim=1).float()

    def encode(self, values: Tensor) -> Tensor:
        return torch.cat([self.members(values), values.isnan()[:, None].float()], dim=1)

    def describe(self) -> dict[str, Any]:
        return {'type': 'Categorical', 'values': self.values}

    def examples(self) -> list[float]:
        return [float(place) for place in range(len(self.values))]


def build_inputs(inputs: Mapping[str, dict] | None) -> dict[str, Input]:
    """The inputs of a network by name, from their configs.

    Raises:
        Mistake: if a name is no plain word: options of commands and tensors of exported files are named after it.
    """
    if wrong := [name for name in inputs or {} if not name.isidentifier() or name == 'images']:
        raise Mistake(f'inputs are named {", ".join(map(repr, wrong))}; give letters, digits and _, and not "images"')
    return {name: MODELS.build(dict(cfg), kind=Input) for name, cfg in (inputs or {}).items()}


def values_of(inputs: Mapping[str, Input], samples: Iterable[TaskSample | Mapping[str, Any]]) -> dict[str, Tensor]:
    """The values that samples hold in ``inputs``, (N,) by the input's name, NaN where they are unknown."""
    pairs = [(str(sample.get('image_id')), sample.get('inputs', {})) for sample in samples]
    return {
        name: torch.tensor([given.read(known.get(name), f'{image_id}: {name}') for image_id, known in pairs])
        for name, given in inputs.items()
    }


class Fusion(nn.Module):
    """Joins what the network is given with the image to a task: to its last maps, to its logits, or to both.

    A subclass changes one of ``on_maps`` and ``on_logits``. All inputs may be unknown for any image, in training too.

    Args:
        in_channels: Channels of the last map that the task's head gets.
        inputs: The network's, by name.
        reads: Names of those that are joined, all by default.

    Attributes:
        width: Columns of ``encode``.
    """

    def __init__(self, in_channels: int, inputs: Mapping[str, Input], reads: Sequence[str] | None = None) -> None:
        super().__init__()
        names = [*inputs] if reads is None else [*reads]
        if not names or not {*names} <= {*inputs}:
            raise Mistake(
                f'{type(self).__name__} reads {names} of the inputs {[*inputs]}; '
                'name some of them, and describe them in the inputs of the model'
            )
        self.in_channels = in_channels
        self.inputs = {name: inputs[name] for name in names}
        self.width = sum(given.width for given in self.inputs.values())

    def on_maps(self, maps: Tensor, values: Values) -> Tensor:
        """The last maps (N, in_channels, h, w) as the head gets them."""
        return maps

    def on_logits(self, logits: Tensor, values: Values) -> Tensor:
        """The task's logits (N, ...) as losses and predictions get them."""
        return logits

    def fit(self, values: Values, labels: Tensor) -> None:
        """Learn what can be counted, before training starts, from the training set's values and int64 labels (N,)."""

    def value_of(self, name: str, values: Values, like: Tensor) -> Tensor:
        """The values (N,) of one input, unknown where nobody gave any, for a batch like ``like``."""
        return values[name] if name in values else like.new_full((len(like),), math.nan, dtype=torch.float32)

    def encode(self, values: Values, like: Tensor) -> Tensor:
        """All inputs side by side (N, width) for a batch like ``like``; a layer on it learns what unknown means."""
        parts = [given.encode(self.value_of(name, values, like)) for name, given in self.inputs.items()]
        return torch.cat(parts, dim=1)


@MODELS.register_module()
class ConcatFusion(Fusion):
    """The branch's last map, pooled, and the inputs go through a hidden layer, whose result is added to the map.

    Concatenation as in https://doi.org/10.1111/exd.13777, with the sum around it (ours), so that the head keeps its
    width and the network starts as it is without inputs. An unknown input has a vector of its own, which is learnt.

    Args:
        hidden: Width of the layer.
        options: See ``Fusion``.
    """

    def __init__(self, *args: Any, hidden: int = 64, **options: Any) -> None:
        super().__init__(*args, **options)
        last = nn.Linear(hidden, self.in_channels)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(nn.Linear(self.in_channels + self.width, hidden), nn.ReLU(), last)

    def on_maps(self, maps: Tensor, values: Values) -> Tensor:
        pooled = maps.mean(dim=(2, 3))  # (N, C)
        side_by_side = torch.cat([pooled, self.encode(values, maps).to(pooled.dtype)], dim=1)
        return maps + self.layers(side_by_side)[:, :, None, None]


@MODELS.register_module()
class FiLMFusion(Fusion):
    """The inputs scale and shift each channel of the branch's last map (https://arxiv.org/abs/1709.07871, eq. 1).

    It starts from the map as it is. An unknown input has a vector of its own, which is learnt.

    Args:
        hidden: Width of the layer between.
        options: See ``Fusion``.
    """

    def __init__(self, *args: Any, hidden: int = 32, **options: Any) -> None:
        super().__init__(*args, **options)
        last = nn.Linear(hidden, 2 * self.in_channels)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(nn.Linear(self.width, hidden), nn.ReLU(), last)

    def on_maps(self, maps: Tensor, values: Values) -> Tensor:
        scale, shift = self.layers(self.encode(values, maps))[:, :, None, None].chunk(2, dim=1)
        return maps * (1 + scale) + shift


@MODELS.register_module()
class PriorFusion(Fusion):
    """Adds log P(bin | class) / P(bin) of each known input to the logits, from counts in the training set.

    That is Bayes' rule for inputs and image that are independent given the class; published as a histogram of ages
    for melanoma, per class and for several inputs here (ours). An unknown input adds exactly nothing. The table is
    counted before training starts and stays in the checkpoint.

    Args:
        num_classes: Classes of the task.
        smoothing: Added to each count, so that an empty bin rules nothing out.
        weight: Factor on what is added.
        learn: Train the table on from the counts.
        in_training: Whether the losses see what is added. If not, the image's part learns as if alone, and the table is
            added to its predictions, as the published one is.
        options: See ``Fusion``.
    """

    def __init__(
        self,
        *args: Any,
        num_classes: int = 3,
        smoothing: float = 1.0,
        weight: float = 1.0,
        learn: bool = False,
        in_training: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        if not smoothing > 0:
            raise Mistake(f'smoothing={smoothing} of PriorFusion; give a number above 0')
        if learn and not in_training:
            raise Mistake('learn=True of PriorFusion needs in_training=True: a table that no loss sees learns nothing')
        self.num_classes, self.smoothing, self.weight, self.in_training = num_classes, smoothing, weight, in_training
        for name, given in self.inputs.items():
            table = torch.zeros(given.num_bins, num_classes)
            if learn:
                self.register_parameter(f'table_{name}', nn.Parameter(table))
            else:
                self.register_buffer(f'table_{name}', table)

    def on_logits(self, logits: Tensor, values: Values) -> Tensor:
        if logits.shape[1:] != (self.num_classes,):
            raise Mistake(
                f'PriorFusion has num_classes={self.num_classes}, and the logits of its task are '
                f'{tuple(logits.shape)}; it is for classifications, and takes their number of classes'
            )
        if self.training and not self.in_training:
            return logits
        for name, given in self.inputs.items():
            added = given.members(self.value_of(name, values, logits)) @ getattr(self, f'table_{name}')
            logits = logits + self.weight * added
        return logits

    @torch.no_grad()
    def fit(self, values: Values, labels: Tensor) -> None:
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < self.num_classes:
            raise Mistake(f'PriorFusion has num_classes={self.num_classes}, and a label is {int(labels.max())}')
        classes = nn.functional.one_hot(labels, self.num_classes).double()
        for name, given in self.inputs.items():
            counts = given.members(values[name]).double().T @ classes + self.smoothing  # (num_bins, num_classes)
            of_class, of_all = counts / counts.sum(dim=0), counts.sum(dim=1) / counts.sum()
            getattr(self, f'table_{name}').copy_((of_class / of_all[:, None]).log())
