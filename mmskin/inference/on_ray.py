"""Predicting on a cluster, with the answers in the order and form of one process."""

import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from mmskin.cluster import connected, remote_task, resources
from mmskin.inference.image_sources import ImageSource
from mmskin.inference.inferencer import LesionInferencer
from mmskin.inference.prediction import FailedImage, LesionPrediction

AHEAD = 2  # parts for each place where one is worked on: the next one waits there already
BATCHES = 8  # batches in a part, so that a part takes longer than handing it over


def iterate_on_ray(
    settings: Mapping[str, Any],
    sources: Sequence[ImageSource],
    lesion_probability: bool = False,
    address: str | None = None,
) -> Iterator[LesionPrediction | FailedImage]:
    """What ``LesionInferencer(**settings).iterate(sources)`` gives, from all nodes of a Ray cluster.

    A part of the images that is lost with its process or node is predicted again, on another, three times at most. No
    more parts are on their way than ``AHEAD`` for each place, however many images there are.

    Args:
        settings: Of ``LesionInferencer``, as JSON has them.
        sources: The images; their files have to be seen from each node.
        lesion_probability: With the map of probabilities.
        address: Of the cluster; by default one is started on this machine.
    """
    with connected(address) as ray:
        wanted = resources()
        here = ray.cluster_resources()
        places = here['GPU'] if wanted['num_gpus'] else here['CPU'] / wanted['num_cpus']
        task = remote_task(predict_part, max_retries=3)
        size = BATCHES * settings.get('batch_size', 1)
        size = max(1, min(size, len(sources) // int(places) or 1))  # of few images, each place has some
        flying: deque = deque()
        for start in range(0, len(sources), size):
            flying.append(task.remote(json.dumps(settings), sources[start : start + size], lesion_probability))
            if len(flying) >= AHEAD * places:
                yield from ray.get(flying.popleft())
        while flying:
            yield from ray.get(flying.popleft())


def predict_part(
    settings: str, sources: Sequence[ImageSource], lesion_probability: bool
) -> list[LesionPrediction | FailedImage]:
    """The answers for some images, with a network that this process reads once."""
    return [*read_once(settings).iterate(sources, lesion_probability)]


@lru_cache(maxsize=1)
def read_once(settings: str) -> LesionInferencer:
    """The network that the settings name."""
    return LesionInferencer(**json.loads(settings))
