"""Everything that explains one prediction."""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from mmskin.engine.hooks.gate_recorder import mean_map
from mmskin.explain.class_activation import class_activation, diagnosis_of
from mmskin.inference.image_sources import HeldImage, ImageSource
from mmskin.inference.inferencer import LesionInferencer
from mmskin.inference.prediction import LesionPrediction
from mmskin.models.multitask import MultiTaskModel
from mmskin.models.watch import closed, unwrap

__all__ = ['Effect', 'Explanation', 'explain']


@dataclass(eq=False)
class Explanation:
    """Why an image got its answer.

    Attributes:
        prediction: The answer.
        image: The upright image, RGB (H, W, 3), no larger than the network needed.
        activation: Grad-CAM of the predicted class, (h, w) over the whole image, from 0 to 1; None without a diagnosis.
        gates: Mean over channels of the gate's values, from 0 to 1 (h, w), over the whole image, by block and route;
            what they are, the operator's ``quantity`` says.
        without: What the answer would be with one route closed, by block and route.
    """

    prediction: LesionPrediction
    image: np.ndarray
    activation: np.ndarray | None = None
    gates: dict[str, np.ndarray] = field(default_factory=dict)
    without: dict[str, LesionPrediction] = field(default_factory=dict)

    @property
    def effects(self) -> dict[str, 'Effect']:
        """How far closing each route moves the answer."""
        return {name: effect_of(self.prediction, one) for name, one in self.without.items()}

    def to_dict(self) -> dict[str, Any]:
        """What ``json.dumps`` takes: the answer, and by route the answer without it and how far that is away."""
        return {
            'prediction': self.prediction.to_dict(contours=False),
            'without': {
                name: {'label': one.label, 'probabilities': one.probabilities, **asdict(self.effects[name])}
                for name, one in self.without.items()
            },
        }


@dataclass(frozen=True)
class Effect:
    """How far one answer is from another; None where the network does not say.

    Attributes:
        probability_change: The largest change of any class's probability.
        mask_change: 1 - Jaccard index of the two masks: 0 where they are the same, 1 where they share nothing.
    """

    probability_change: float | None
    mask_change: float | None


def effect_of(before: LesionPrediction, after: LesionPrediction) -> Effect:
    """How far ``after`` is from ``before``, two answers for one image."""
    was, now = before.probabilities, after.probabilities
    probability = max(abs(was[name] - now[name]) for name in was) if was and now else None
    if before.mask is None or after.mask is None:
        return Effect(probability, None)
    union = int((before.mask | after.mask).sum())
    return Effect(probability, int((before.mask ^ after.mask).sum()) / union if union else 0.0)


def explain(inferencer: LesionInferencer, source: ImageSource) -> Explanation:
    """Predict one image, and look into the network while it does.

    Maps are those of the plain view, also where predictions are averaged over several.

    Raises:
        FileNotFoundError: if the file is missing.
        ValueError: if the image cannot be read.
    """
    source = HeldImage(source.image_id, source.content, source.max_pixels, source.file_name)
    prediction = inferencer(source)
    assert isinstance(prediction, LesionPrediction), 'one source is one image'
    explanation = Explanation(prediction, source.read(inferencer.load.size)[0])
    model = unwrap(inferencer.network)
    if not isinstance(model, MultiTaskModel):
        return explanation
    inputs = inferencer.inputs([source])
    if (task := diagnosis_of(model)) and prediction.label is not None:
        predicted = inferencer.classes.index(prediction.label)
        explanation.activation = class_activation(model, inputs, task, [predicted])[0]
    explanation.gates = {
        f'{site}/{route}': mean_map(rates)[0].astype(np.float32)
        for site, routes in model.gates(inputs).items()
        for route, rates in routes.items()
    }
    for name, route in model.routes().items():
        with closed(*route):
            without = inferencer(source)
        assert isinstance(without, LesionPrediction), 'one source is one image'
        explanation.without[name] = without
    return explanation
