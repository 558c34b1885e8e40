"""The mean of several predictions: for views of an image (test-time augmentation), and of several networks."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.structures import PixelData
from torch import Tensor, nn

from mmskin.errors import Mistake
from mmskin.models.multitask import MultiTaskModel
from mmskin.models.tasks.task import Task
from mmskin.models.watch import unwrap
from mmskin.models.weights import load_weights
from mmskin.registry import MODELS
from mmskin.structures import TaskSample

AT_ONCE = 4  # images in a pass: a few small ones cost less together
FLIPS = {'none': (), 'horizontal': (3,), 'vertical': (2,), 'diagonal': (2, 3)}


class View(NamedTuple):
    """A window of the frame, mirrored; coordinates run from -1 to 1 over the frame.

    Attributes:
        axes: Those that are mirrored, of (N, C, h, w).
        side: Of the window, as a fraction of the frame's; above 1 the frame is continued by its reflection.
        centre: Of the window, (x, y).
    """

    axes: tuple[int, ...] = ()
    side: float = 1.0
    centre: tuple[float, float] = (0.0, 0.0)

    def look(self, images: Tensor) -> Tensor:
        """The view of ``images`` (N, C, h, w), at the same size."""
        return cut(images, self.side, self.centre, 'reflection').flip(self.axes)

    def put_back(self, maps: Tensor) -> Tensor:
        """Maps (N, C, h, w) of the view at their place in the frame, and zero where the view did not look."""
        x, y = self.centre
        return cut(maps.flip(self.axes), 1 / self.side, (-x / self.side, -y / self.side), 'zeros')


def cut(maps: Tensor, side: float, centre: tuple[float, float], padding: str) -> Tensor:
    """A window of ``maps`` (N, C, h, w), resampled to their size; the maps themselves if it is the whole frame."""
    if side == 1 and centre == (0, 0):
        return maps
    grid = sampling_grid(side, centre, (maps.shape[2], maps.shape[3]), maps.dtype, maps.device)
    return F.grid_sample(maps, grid.expand(len(maps), -1, -1, -1), padding_mode=padding, align_corners=False)


@lru_cache(maxsize=64)
def sampling_grid(
    side: float, centre: tuple[float, float], shape: tuple[int, int], dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Where the pixels of a window come from, (1, h, w, 2), as ``grid_sample`` takes it."""
    with torch.inference_mode(False):  # a later call may need gradients
        theta = torch.tensor([[[side, 0, centre[0]], [0, side, centre[1]]]], dtype=dtype, device=device)
        return F.affine_grid(theta, [1, 1, *shape], align_corners=False)


@MODELS.register_module()
class TestTimeAugmentation(BaseModel):
    """A model of tasks that predicts from several views: probabilities are averaged, masks mapped back before.

    Every flip is combined with every zoom and every crop. Decisions (class, mask, its post-processing) follow from the
    means. A pixel's mean is over the views that show it, a regression's over those that show the whole frame. Plain
    checkpoints of the wrapped model load as they are.

    Why not mmengine's ``BaseTTAModel``: there the views are made by a second test pipeline, so that every config would
    need two that agree, each view carries its own full-size ground truth, and the way back has to be derived from it.
    Here the views are cut from the normalised batch, on its device, by affine maps whose inverses are known.

    Args:
        module: Config of the model. All its predictions have to come from a ``Task``.
        flips: 'none', 'horizontal', 'vertical' and 'diagonal' (both).
        zooms: Magnifications about the centre; below 1 the image is continued by its reflection.
        crops: Sides of crops as fractions of the frame's; each stands for the four in the corners.
        pairs: Views by flip and zoom, such as ``[('none', 1.15), ('diagonal', 0.9)]``, in place of all combinations.

    Raises:
        Mistake: if a flip is unknown, a crop or zoom is invalid, no view shows the whole frame, or the model has
            no task.
    """

    __test__ = False  # its name would make pytest collect it

    def __init__(
        self,
        module: dict,
        flips: Sequence[str] = tuple(FLIPS),
        zooms: Sequence[float] = (1.0,),
        crops: Sequence[float] = (),
        pairs: Sequence[tuple[str, float]] = (),
    ) -> None:
        super().__init__()
        single = [view for flip, zoom in pairs for view in views((flip,), (zoom,), ())]
        self.views = single or views(flips, zooms, crops)
        if not any(view.side >= 1 for view in self.views):
            asked = f'pairs={tuple(pairs)}' if pairs else f'flips={tuple(flips)}, zooms={tuple(zooms)}'
            raise Mistake(f'{asked}: no view shows the whole frame; add zoom 1.0')
        self.module = MODELS.build(module)
        self.tasks = [part for part in self.module.modules() if isinstance(part, Task)]
        if not self.tasks:
            raise Mistake(f'{type(self.module).__name__} has no Task whose predictions could be averaged')
        self.register_load_state_dict_pre_hook(_to_module)

    def test_step(self, data: dict) -> list[TaskSample]:
        """Predict for a batch as a loader gives it."""
        return self._run_forward(self.module.data_preprocessor(data, False), mode='predict')

    val_step = test_step

    def forward(self, inputs: Tensor, data_samples: list[TaskSample] | None = None, mode: str = 'tensor') -> Any:
        """Predict from all views; other modes are the wrapped model's own."""
        if mode != 'predict':
            return self.module(inputs, data_samples, mode)
        assert data_samples is not None, "mode 'predict' needs data_samples"
        count, predictions = len(inputs), []
        together = max(1, AT_ONCE // count)
        for start in range(0, len(self.views), together):
            some = self.views[start : start + together]
            seen = torch.cat([view.look(inputs) for view in some])
            answers = self.module(seen, [sample for _ in some for sample in blank(data_samples)], mode)
            predictions += [answers[first : first + count] for first in range(0, len(answers), count)]
        for sample, estimates in zip(data_samples, zip(*predictions, strict=True), strict=True):
            for task in deciding(self.tasks):
                self._merge(task, sample, estimates)
        return data_samples

    def _merge(self, task: Task, sample: TaskSample, estimates: Sequence[TaskSample]) -> None:
        """Write into ``sample`` what ``task`` says on the mean of its predictions, if it ran."""
        if task.probability not in estimates[0]:
            return
        values = [getattr(prediction, task.probability) for prediction in estimates]
        if isinstance(values[0], PixelData):  # each pixel's mean is over the views that show it
            pairs = [torch.stack([value.data, torch.ones_like(value.data)]) for value in values]  # (2, C, h, w)
            back = torch.stack([view.put_back(pair) for view, pair in zip(self.views, pairs, strict=True)])
            total, votes = back.sum(dim=0)
            mean = total / votes
        else:  # what they say of the whole frame, all of which one view at least shows
            of_frame = [task.of_frame(value, view.side) for value, view in zip(values, self.views, strict=True)]
            mean = torch.stack([value for value in of_frame if value is not None]).mean(dim=0)
        task.put(sample, mean)


def views(flips: Sequence[str], zooms: Sequence[float], crops: Sequence[float]) -> list[View]:
    """Every flip of every zoom, and of every crop in each of the four corners."""
    if unknown := {*flips} - {*FLIPS}:
        raise Mistake(f'flips={tuple(flips)}: {", ".join(sorted(unknown))} is not one of {", ".join(FLIPS)}')
    if not all(0 < crop < 1 for crop in crops) or not all(zoom > 0 for zoom in zooms):
        raise Mistake(f'crops={tuple(crops)} have to lie within (0, 1), and zooms={tuple(zooms)} above 0')
    windows = [(1 / zoom, (0.0, 0.0)) for zoom in zooms]
    windows += [(crop, (x * (1 - crop), y * (1 - crop))) for crop in crops for x, y in product((-1, 1), repeat=2)]
    return [View(FLIPS[flip], *window) for window, flip in product(windows, flips)]


def blank(samples: Sequence[TaskSample]) -> list[TaskSample]:
    """Samples for what one of several predictions estimates, from which nothing follows by itself."""
    shapes = [{**sample.metainfo, 'ori_shape': sample.img_shape, 'undecided': True} for sample in samples]
    inputs = [{'inputs': sample.inputs} if 'inputs' in sample else {} for sample in samples]
    return [TaskSample(metainfo=shape, **given) for shape, given in zip(shapes, inputs, strict=True)]


def _to_module(model: TestTimeAugmentation, state: dict, prefix: str, *_: Any) -> None:
    """Rename the keys of a plain checkpoint to those of the wrapped model."""
    for key in [key for key in state if key.startswith(prefix) and not key.startswith(f'{prefix}module.')]:
        state[f'{prefix}module.{key.removeprefix(prefix)}'] = state.pop(key)


@MODELS.register_module()
class Ensemble(BaseModel):
    """Networks, such as those of a cross-validation's folds, whose predictions are averaged.

    Probabilities are averaged, and decisions (class, mask, its post-processing) follow from the means, as in
    ``TestTimeAugmentation``, whose ``module`` an ensemble may be. A task need not be every network's: its mean is over
    those that have it. An ensemble in an ensemble counts as its networks. It predicts and does not train.

    Args:
        members: configs of the networks. All prepare images alike.

    Raises:
        Mistake: if there is none, or one prepares images otherwise than the first.
    """

    def __init__(self, members: Sequence[dict]) -> None:
        if not members:
            raise Mistake('an ensemble without members: name one network at least')
        first, *others = (config.get('data_preprocessor') for config in member_configs(dict(members=members)))
        if odd := [other for other in others if other != first]:
            raise Mistake(f'the networks of an ensemble have to prepare images alike; one has {odd[0]}')
        super().__init__()
        self.members = nn.ModuleList(MODELS.build(member) for member in members)
        self.data_preprocessor = self.members[0].data_preprocessor
        self.tasks: list[Task] = [part for part in self.modules() if isinstance(part, Task)]

    def forward(self, inputs: Tensor, data_samples: list[TaskSample] | None = None, mode: str = 'tensor') -> Any:
        """Write the mean predictions for normalised images (N, 3, h, w) into ``data_samples``."""
        assert mode == 'predict' and data_samples is not None, 'an ensemble can only predict samples'
        answers = [network(inputs, blank(data_samples), mode) for network in self.networks()]
        for sample, predictions in zip(data_samples, zip(*answers, strict=True), strict=True):
            for task in deciding(self.tasks):
                name = task.probability
                values = [getattr(prediction, name) for prediction in predictions if name in prediction]
                if values:
                    is_map = isinstance(values[0], PixelData)
                    mean = torch.stack([value.data if is_map else value for value in values]).mean(dim=0)
                    task.put(sample, mean)
        return data_samples

    def networks(self) -> Iterator[nn.Module]:
        """Those that predict: the members, and in place of an ensemble its own."""
        for member in self.members:
            if isinstance(member, Ensemble):
                yield from member.networks()
            else:
                yield member


def deciding(tasks: Sequence[Task]) -> Collection[Task]:
    """Of tasks that several networks share, those of the first network that has them."""
    return {task.probability: task for task in reversed(tasks)}.values()


def member_configs(model: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The configs of the networks that a config's ``model`` is made of: an ensemble's, or itself."""
    return [inner for member in model['members'] for inner in member_configs(member)] if 'members' in model else [model]


def networks_in(network: nn.Module) -> list[MultiTaskModel]:
    """The networks that ``network`` is made of, which may be an ensemble or wrapped; an exported one has none."""
    inner = unwrap(network)
    parts = inner.networks() if isinstance(inner, Ensemble) else [inner]
    return [part for part in parts if isinstance(part, MultiTaskModel)]  # not modules(), which walks every layer


def load_members(network: nn.Module, files: Sequence[str | Path], metainfo: Mapping[str, Any]) -> None:
    """Load a file into each network of an ensemble, or one file into all of ``network``."""
    inner = unwrap(network)
    members = [*inner.members] if isinstance(inner, Ensemble) and len(files) > 1 else [inner]
    for member, file in zip(members, files, strict=True):
        load_weights(member, file, metainfo)
