"""Everything that explains one prediction, and the picture of it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from mmskin.drawing import PREDICTED, draw_outlines, overlay, save_figure, thumbnail
from mmskin.errors import Mistake
from mmskin.files import readable
from mmskin.inference.image_sources import HeldImage, Inputs, find_images
from mmskin.inference.inferencer import LesionInferencer
from mmskin.inference.prediction import LesionPrediction
from mmskin.models.averaging import networks_in
from mmskin.models.fusion import Values, values_of
from mmskin.models.multitask import MultiTaskModel
from mmskin.models.routes import NOTHING
from mmskin.models.tasks.classification import Classification
from mmskin.models.tasks.task import Fused
from mmskin.models.watch import closed
from mmskin.registry import checked

SIZE = 448  # pixels on the longer side of each panel
WIDTH = 2.9  # inches of each panel


@dataclass(eq=False)
class Explanation:
    """Why an image got its answer.

    Attributes:
        prediction: The answer.
        image: The upright image, RGB (H, W, 3), no larger than the network needed.
        activation: Grad-CAM of the predicted class, (h, w) over the whole image, from 0 to 1, of several networks the
            mean; None without a diagnosis.
        gates: Mean over channels of the gate's values, from 0 to 1 (h, w), over the whole image, by block and route;
            what they are, the operator's ``quantity`` says.
        without: What the answer would be with one route closed, by block and route.
        words: What each route is, such as ``what the diagnosis tells the outline``.
    """

    prediction: LesionPrediction
    image: np.ndarray
    activation: np.ndarray | None = None
    gates: dict[str, np.ndarray] = field(default_factory=dict)
    without: dict[str, LesionPrediction] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)

    @cached_property
    def effects(self) -> dict[str, 'Effect']:
        """How far closing each route moves the answer."""
        effects = {}
        was, mask = self.prediction.probabilities, self.prediction.mask
        for name, other in self.without.items():
            now, probability_change, mask_change = other.probabilities, None, None
            if was and now:
                probability_change = max(abs(was[label] - now[label]) for label in was)
            if mask is not None and other.mask is not None:
                union = int((mask | other.mask).sum())
                mask_change = int((mask ^ other.mask).sum()) / union if union else 0.0
            effects[name] = Effect(probability_change, mask_change, self.prediction.label != other.label)
        return effects

    @cached_property
    def moving(self) -> dict[str, LesionPrediction]:
        """The answers without each route that moves anything."""
        return {name: other for name, other in self.without.items() if not self.effects[name].is_nothing}

    @property
    def lines(self) -> list[str]:
        """A line for each route without which the outline looks the same: a picture of it would show nothing."""
        lines = []
        for name, effect in self.effects.items():
            rates = self.gates.get(name)
            gate = '' if rates is None else f' (gate {rates.min():.2f} to {rates.max():.2f})'
            if effect.is_nothing:
                lines.append(f'{self.in_words(name)}{gate} moves nothing: {effect}')
            elif not effect.moves_mask:
                lines.append(f'{self.in_words(name)}{gate} leaves the outline as it is: {effect}')
        return lines

    def in_words(self, route: str) -> str:
        """A route in words, as far as there are any."""
        return self.words.get(route, route)

    def to_dict(self) -> dict[str, Any]:
        """What ``json.dumps`` takes: the answer, and by route the answer without it and how far that is away."""
        effects = self.effects
        return {
            'prediction': self.prediction.to_dict(contours=False),
            'without': {
                name: {
                    'label': other.label,
                    'probabilities': other.probabilities,
                    **asdict(effects[name]),
                    'moves_nothing': effects[name].is_nothing,
                }
                for name, other in self.without.items()
            },
        }


@dataclass(frozen=True)
class Effect:
    """How far one answer is from another; None where the network does not say.

    Attributes:
        probability_change: The largest change of any class's probability.
        mask_change: 1 - Jaccard index of the two masks: 0 where they are the same, 1 where they share nothing.
        other_label: Whether the diagnosis is another.
    """

    probability_change: float | None
    mask_change: float | None
    other_label: bool = False

    @property
    def moves_mask(self) -> bool:
        """Whether the two masks look different: by half a percent or more."""
        return (self.mask_change or 0) > NOTHING

    @property
    def is_nothing(self) -> bool:
        """Whether the answer is the same to half a percent."""
        return not self.other_label and not self.moves_mask and (self.probability_change or 0) <= NOTHING

    def __str__(self) -> str:
        changes = {'probabilities': self.probability_change, 'mask': self.mask_change}
        return ', '.join(f'{kind} {change:.2g}' for kind, change in changes.items() if change is not None)


@checked
def explain(inferencer: LesionInferencer, image: Inputs) -> Explanation:
    """Predict one image, and look into the network while it does.

    Maps are those of the plain view, also where predictions are averaged over several.

    Raises:
        MissingFile: if the file is missing.
        Mistake: if the image cannot be read, or is not a single one.
    """
    sources = [*find_images(image)]
    if len(sources) != 1:
        raise Mistake(f'explain takes one image; {len(sources)} were given')
    (source,) = sources
    source = HeldImage(
        source.image_id, source.content, source.max_pixels, source.file_name, source.inputs, source.mm_per_pixel
    )
    prediction = inferencer(source)
    assert isinstance(prediction, LesionPrediction), 'one source is one image'
    explanation = Explanation(prediction, source.read(inferencer.load.size)[0])
    networks = networks_in(inferencer.network)
    if not networks:
        return explanation
    inputs = inferencer.inputs([source])
    diagnosis = inferencer.diagnosis
    if diagnosis and prediction.probabilities and prediction.label is not None:
        predicted = [*prediction.probabilities].index(prediction.label)
        maps = []
        for network in networks:
            if diagnosis in network.active_tasks:
                values = values_of(network.inputs, [{'image_id': source.name, 'inputs': source.inputs}])
                values = {name: value.to(inputs.device) for name, value in values.items()}
                maps.append(class_activation(network, inputs, diagnosis, [predicted], values)[0])
        height, width = maps[0].shape
        explanation.activation = np.mean([cv2.resize(each, (width, height)) for each in maps], axis=0)
    called = {inferencer.diagnosis: 'the diagnosis', inferencer.outline: 'the outline'}
    for number, network in enumerate(networks, 1):
        which = f'network {number}, ' if len(networks) > 1 else ''
        for site, gates in network.gates(inputs).items():
            for route, rates in gates.items():
                means = rates.float().mean(dim=1)[0].half()  # over channels, (h, w), as GateRecorder keeps them
                explanation.gates[f'{which}{site}/{route}'] = means.float().cpu().numpy()
        for name, (operator, route) in network.routes().items():
            with closed(operator, route):
                without = inferencer(source)
            assert isinstance(without, LesionPrediction), 'one source is one image'
            explanation.without[which + name] = without
            source_task, target = (
                called.get(task, readable(task)) for task in operator.running(network.active_tasks)[route]
            )
            where = f' at {which}{name.rpartition("/")[0]}' if which or len(network.passing_by_site()) > 1 else ''
            explanation.words[which + name] = f'what {source_task} tells {target}{where}'
    return explanation


def class_activation(
    network: MultiTaskModel, inputs: Tensor, task: str, classes: Sequence[int], values: Values | None = None
) -> np.ndarray:
    """Grad-CAM of one class of each image, at the last map that the task's head reads.

    Eq. 1 and 2 of https://arxiv.org/abs/1610.02391.

    Args:
        network: In evaluation mode.
        inputs: Normalised images (N, 3, H, W).
        task: A classification.
        classes: Whose evidence to show, N numbers.
        values: What the network is given with the images, (N,) by the input's name.

    Returns:
        Maps (N, h, w) over the whole images, at the resolution of the map where the branch sees all of the image; from
        0 to 1, each scaled to its own largest value.
    """
    with torch.no_grad():
        *others, last = network.extract_feat(inputs, values)[task]
    with torch.enable_grad():
        last = last.detach().requires_grad_()
        diagnosis = network.tasks[task]
        assert isinstance(diagnosis, Classification), f'{task} names no class'
        logits = diagnosis.by_class(diagnosis(Fused((*others, last), values or {})))
        (slopes,) = torch.autograd.grad(logits[range(len(inputs)), classes].sum(), last)
    with torch.no_grad():
        maps = network.over_image(task, slopes.mean(dim=(2, 3), keepdim=True) * last, inputs)
        maps = maps.sum(dim=1, keepdim=True).relu()
    return (maps / maps.amax(dim=(2, 3), keepdim=True).clamp(min=1e-12))[:, 0].cpu().numpy()


def draw_explanation(explanation: Explanation, path: str | Path) -> None:
    """Draw the answer, where the evidence lies, where gates open, and the answer with each route closed.

    The upper row has the image with its outline, the class activation map and the gates; the lower one the outline
    without each route, and the probabilities side by side. What would be a picture of the same outline is a line of
    text.
    """
    image, prediction, effects = thumbnail(explanation.image, SIZE), explanation.prediction, explanation.effects
    title = '\n'.join(filter(None, (answer(prediction), prediction.note)))
    upper = [(title, draw_outlines(image, prediction.contours or [], prediction.size))]
    if explanation.activation is not None:
        title = f'evidence for {readable(prediction.label or "")} (Grad-CAM)\nviolet: least, yellow: most'
        upper.append((title, overlay(image, explanation.activation)))
    for name, rates in explanation.gates.items():
        if name in explanation.moving or name not in explanation.without:
            title = f'{explanation.in_words(name)}\ngate: violet {rates.min():.2f}, yellow {rates.max():.2f}'
            upper.append((title, overlay(image, rates, Normalize(rates.min(), rates.max()))))
    lower = []
    for name, other in explanation.without.items():
        if effects[name].moves_mask:
            title = f'without {explanation.in_words(name)}\n{answer(other)}\nmoved: {effects[name]}'
            lower.append((title, draw_outlines(image, other.contours or [], other.size)))
    rows = [upper, lower] if explanation.moving else [upper]
    with_bars = len(rows) > 1 and prediction.probabilities is not None
    columns = max(len(rows[0]), len(rows[-1]) + with_bars)
    height = min(max(WIDTH * image.shape[0] / image.shape[1], 2.0), 3 * WIDTH) + 0.8
    figure = Figure(figsize=(WIDTH * columns, height * len(rows)), layout='constrained', dpi=120)
    parts = figure.subfigures(len(rows), 1, squeeze=False)[:, 0]
    for part, panels in zip(parts, rows, strict=True):
        axes = part.subplots(1, columns, squeeze=False)[0]
        for axis, (title, picture) in zip(axes, panels, strict=False):
            axis.imshow(picture)
            axis.set(xticks=[], yticks=[])
            axis.set_title(title, fontsize=8)
        for axis in axes[len(panels) :]:
            axis.axis('off')
    if with_bars:
        draw_probabilities(parts[1].axes[len(rows[1])], explanation)
    if prediction.contours is not None:
        key = Line2D([], [], color=PREDICTED, label='predicted outline')
        parts[0].legend(handles=[key], loc='outside upper left', fontsize=8, frameon=False)
    if explanation.lines:
        parts[-1].supxlabel('\n'.join(explanation.lines), fontsize=8)
    save_figure(figure, path)


def answer(prediction: LesionPrediction) -> str:
    """The diagnosis and its probability."""
    if not prediction.probabilities or prediction.label is None:
        return 'outline'
    return f'{readable(prediction.label)} {prediction.probabilities[prediction.label]:.2f}'


def draw_probabilities(axis: Axes, explanation: Explanation) -> None:
    """Bars of each class's probability, as it is and with each route closed."""
    answers = {'all routes': explanation.prediction}
    answers |= {f'without {explanation.in_words(name)}': other for name, other in explanation.moving.items()}
    names = list(explanation.prediction.probabilities or ())
    places, height = np.arange(len(names)), 0.8 / len(answers)
    axis.axis('on')
    for number, (label, prediction) in enumerate(answers.items()):
        values = [(prediction.probabilities or {})[name] for name in names]
        axis.barh(places + (number - (len(answers) - 1) / 2) * height, values, height, label=label)
    axis.set_yticks(places, [readable(name) for name in names], fontsize=8)
    axis.invert_yaxis()
    axis.set(xlim=(0, 1))
    axis.tick_params(labelsize=8)
    axis.set_title('probabilities', fontsize=8)
    axis.legend(fontsize=7, loc='upper center', bbox_to_anchor=(0.5, -0.1), frameon=False)
