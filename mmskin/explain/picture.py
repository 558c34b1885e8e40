"""One picture that explains one prediction."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mmskin.drawing import PREDICTED, draw_outlines, readable, save_figure, thumbnail
from mmskin.explain.explanation import Effect, Explanation
from mmskin.explain.gate_figures import overlay, show
from mmskin.inference.prediction import LesionPrediction

__all__ = ['draw_explanation']

SIZE = 448  # pixels on the longer side of each panel
WIDTH = 2.9  # inches of each panel


def draw_explanation(explanation: Explanation, path: str | Path) -> None:
    """Draw the answer, where the evidence lies, where gates open, and the answer with each route closed.

    The upper row has the image with its outline, the class activation map and the gates; the lower one the outline
    without each route, and the probabilities side by side.
    """
    image = thumbnail(explanation.image, SIZE)
    rows = [row for row in (maps(explanation, image), answers(explanation, image)) if row]
    with_bars = len(rows) > 1 and explanation.prediction.probabilities is not None
    columns = max(len(rows[0]), len(rows[-1]) + with_bars)
    height = min(max(WIDTH * image.shape[0] / image.shape[1], 2.0), 3 * WIDTH) + 0.8
    figure = Figure(figsize=(WIDTH * columns, height * len(rows)), layout='constrained', dpi=120)
    parts = figure.subfigures(len(rows), 1, squeeze=False)[:, 0]
    for part, panels in zip(parts, rows, strict=True):
        draw_row(part.subplots(1, columns, squeeze=False)[0], panels)
    if with_bars:
        draw_probabilities(parts[1].axes[len(rows[1])], explanation)
    if explanation.prediction.contours is not None:
        key = Line2D([], [], color=PREDICTED, label='predicted outline')
        parts[0].legend(handles=[key], loc='outside upper left', fontsize=8, frameon=False)
    save_figure(figure, path)


def draw_row(axes: Sequence[Axes], panels: Sequence[tuple[str, np.ndarray]]) -> None:
    """Pictures under their titles; the row's other axes stay blank."""
    for axis, (title, picture) in zip(axes, panels, strict=False):
        show(axis, picture)
        axis.set_title(title, fontsize=8)
    for axis in axes[len(panels) :]:
        axis.axis('off')


def maps(explanation: Explanation, image: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Titles and panels of the upper row."""
    panels = [(answer(explanation.prediction), outlined(image, explanation.prediction))]
    if explanation.activation is not None:
        title = f'evidence for {readable(explanation.prediction.label or "")} (Grad-CAM)\nviolet: least, yellow: most'
        panels.append((title, overlay(image, explanation.activation)))
    return panels + [
        (
            f'gate {name}\nviolet: {rates.min():.2f}, yellow: {rates.max():.2f}',
            overlay(image, rates, Normalize(rates.min(), rates.max())),
        )
        for name, rates in explanation.gates.items()
    ]


def answers(explanation: Explanation, image: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Titles and panels of the lower row."""
    return [
        (f'without {name}\n{answer(prediction)}\n{moved(explanation.effects[name])}', outlined(image, prediction))
        for name, prediction in explanation.without.items()
    ]


def moved(effect: Effect) -> str:
    """How far a closed route moved the answer, also where that is next to nothing."""
    changes = {'probabilities': effect.probability_change, 'mask': effect.mask_change}
    return 'moved: ' + ', '.join(f'{name} {change:.2g}' for name, change in changes.items() if change is not None)


def answer(prediction: LesionPrediction) -> str:
    """The diagnosis and its probability."""
    if not prediction.probabilities or prediction.label is None:
        return 'outline'
    return f'{readable(prediction.label)} {prediction.probabilities[prediction.label]:.2f}'


def outlined(image: np.ndarray, prediction: LesionPrediction) -> np.ndarray:
    """The image with the predicted outline."""
    return draw_outlines(image, prediction.contours or [], prediction.size)


def draw_probabilities(axis: Axes, explanation: Explanation) -> None:
    """Bars of each class's probability, as it is and with each route closed."""
    answers = {'all routes': explanation.prediction}
    answers |= {f'without {name.rpartition("/")[2]}': one for name, one in explanation.without.items()}
    names = list(explanation.prediction.probabilities or ())
    axis.axis('on')
    for number, (label, one) in enumerate(answers.items()):
        draw_bars(axis, number, len(answers), label, [(one.probabilities or {})[name] for name in names])
    axis.set_yticks(np.arange(len(names)), [readable(name) for name in names], fontsize=8)
    axis.invert_yaxis()
    axis.set(xlim=(0, 1))
    axis.tick_params(labelsize=8)
    axis.set_title('probabilities', fontsize=8)
    axis.legend(fontsize=7, loc='upper center', bbox_to_anchor=(0.5, -0.1), frameon=False)


def draw_bars(axis: Axes, number: int, count: int, label: str, values: Sequence[float]) -> None:
    """The bars of one answer, beside those of the others."""
    height = 0.8 / count
    places = np.arange(len(values)) + (number - (count - 1) / 2) * height
    axis.barh(places, values, height, label=label)
