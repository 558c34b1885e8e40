"""Outlining one thing, several that exclude each other, or several that may overlap; and steps that finish a mask."""

from collections.abc import Sequence
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from torch import Tensor

from mmskin.errors import Mistake
from mmskin.masks import largest_component, window_of
from mmskin.models.tasks.task import Answer, Feats, Task
from mmskin.registry import MODELS, as_config
from mmskin.structures import IGNORED, TaskSample

JACCARD = 'expected_jaccard'
LEVELS = 1000  # of probability, among which that threshold is found


def resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Resize ``maps`` (N, C, h, w) to ``size`` (H, W), bilinear."""
    return F.interpolate(maps, tuple(size), mode='bilinear', align_corners=False)


@MODELS.register_module()
class Segmentation(Task):
    """A binary mask per image: ``gt_sem_seg`` in, ``<task>_prob`` and ``<task>_mask`` out.

    A head gives one logit per pixel, or two (background, foreground).

    Args:
        threshold: The probability above which a pixel is foreground. ``'expected_jaccard'`` takes for each outline that
            of the mask with the largest expected Jaccard index, approximated by the ratio of the expected intersection
            to the expected union of independent pixels (Nowozin, Optimal decisions from probabilistic models: the
            intersection-over-union case, CVPR 2014). Where no pixel is above one half, there is nothing to outline.
        post: What changes each final mask, in order: names or configs of `MaskStep`s,
            e.g. ``['FillHoles', dict(type='Dilate', radius=0.02)]``.
        options: See ``Task``.
    """

    target = 'gt_sem_seg'
    kind = 'masks'
    estimated = 'prob'
    num_logits: ClassVar[int | None] = 1  # of foreground against background
    meaning = (
        'probability of the foreground per pixel of the input; resize it to the image bilinearly with half-pixel '
        'centres (align_corners=False), and call foreground what is above the threshold'
    )

    def __init__(
        self, *args: Any, post: Sequence[str | dict] = (), threshold: float | str = 0.5, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        is_probability = isinstance(threshold, float) and 0 < threshold < 1
        if threshold != JACCARD and not is_probability:
            raise Mistake(f'threshold={threshold!r}: give a probability between 0 and 1, or {JACCARD!r}')
        self.threshold = threshold
        self.set_post(post)

    def set_post(self, post: Sequence[str | dict]) -> None:
        """Finish masks by ``post`` from now on."""
        self.post_configs = [as_config(step) for step in post]
        self.post = [MODELS.build(dict(step), kind=MaskStep) for step in self.post_configs]

    def match(self, logits: Tensor, samples: Sequence[TaskSample]) -> tuple[Tensor, Tensor]:
        """Logits of the foreground and 0/1 masks (N, 1, H, W), at the masks' size."""
        masks = self.masks(samples)
        return resize(of_foreground(logits), masks.shape[2:]), masks.to(logits.dtype)

    def masks(self, samples: Sequence[TaskSample]) -> Tensor:
        """The ground truth of samples (N, C, H, W)."""
        return torch.stack([self.truth(sample).data for sample in samples])

    def upstream(self, sample: TaskSample) -> TaskSample:
        """A sample with an int64 ``gt_sem_seg``, which mmseg's losses need."""
        return TaskSample(gt_sem_seg=PixelData(data=self.truth(sample).data.long()))

    def head_loss(self, feats: Feats, samples: Sequence[TaskSample], labelled: list[int]) -> dict[str, Tensor]:
        """The losses of a head of mmseg's, by name; the whole batch goes through its batch norm over pooled maps."""
        masks = [self.upstream(sample) for sample in samples]
        if len(labelled) == len(feats[-1]):
            return self.head.loss(self.neck(feats), masks, {})
        return self.head.loss_by_feat(self(feats)[labelled], masks)

    def estimate(self, feats: Feats, size: Sequence[int]) -> Tensor:
        """Probabilities of the foreground (N, 1, h, w), at the input's ``size``."""
        return resize(of_foreground(self(feats).float()), size).sigmoid()

    def decide(self, sample: TaskSample) -> None:
        """Write ``<task>_mask``, uint8 (C, H, W): where each outline is, at the image's own size; then ``post``."""
        masks = self.outline(sample.get(self.probability).data, sample.ori_shape).to(torch.uint8)
        if self.post:
            arrays = [*masks.cpu().numpy()]
            for step in self.post:
                arrays = [step(array) for array in arrays]
            masks = torch.stack([torch.from_numpy(array) for array in arrays]).to(masks.device)
        sample.set_field(PixelData(data=masks), f'{self.name}_mask')

    def outline(self, probabilities: Tensor, size: Sequence[int]) -> Tensor:
        """Where the outlines are, (C, H, W) at ``size``, of maps of probability (C, h, w) at the input's size."""
        large = resize(probabilities[None], size)[0]
        if not isinstance(self.threshold, str):
            return large > self.threshold
        counts = torch.stack([values.float().histc(LEVELS, 0, 1) for values in probabilities])
        counts = counts.flip(1)  # from 1 down to 0
        edges = torch.arange(LEVELS - 1, -1, -1, device=counts.device) / LEVELS
        sizes, hits = counts.cumsum(dim=1), (counts * (edges + 0.5 / LEVELS)).cumsum(dim=1)
        best = edges[(hits / (sizes + hits[:, -1:] - hits)).argmax(dim=1)]
        return (large >= best[:, None, None]) & (probabilities.amax(dim=(1, 2), keepdim=True) > 0.5)

    def shown(self, probabilities: Tensor) -> Tensor:
        """The maps of probability, one for each mask."""
        return probabilities

    def answer(self, sample: TaskSample, names: Sequence[str] = (), maps: bool = False) -> Answer:
        """The masks; a single one without a name has the task's."""
        masks = sample.get(f'{self.name}_mask').data.cpu().numpy().astype(bool)
        named = self.named(names or ([self.name] if len(masks) == 1 else ()), len(masks))
        answer = Answer(masks=dict(zip(named, masks, strict=True)))
        if maps:
            large = resize(self.shown(sample.get(self.probability).data)[None], sample.ori_shape)[0].cpu().numpy()
            answer.maps = dict(zip(named, large, strict=True))
        return answer

    def describe(self, names: Sequence[str] = ()) -> dict[str, Any]:
        return {**super().describe(names), 'threshold': self.threshold, 'post': self.post_configs}


@MODELS.register_module()
class MultiClassSegmentation(Segmentation):
    """Background or one of several classes per pixel: ``gt_sem_seg`` in, ``<task>_prob`` and ``<task>_mask`` out.

    The ground truth is (1, H, W): 0 for the background, then the classes from 1, and 255 for pixels that nobody counts.
    The head gives a logit for the background and each class. Losses get logits (N, K + 1, H, W) and classes (N, H, W),
    as ``CrossEntropy`` takes them. ``<task>_prob`` has K + 1 maps, the background's first, and ``<task>_mask`` K.
    """

    num_logits = None
    meaning = (
        'probability of the background and of each class per pixel of the input; resize them to the image bilinearly '
        'with half-pixel centres (align_corners=False), and take the largest'
    )

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self.threshold != 0.5:
            raise Mistake(f'threshold={self.threshold!r}: of several classes the likeliest counts; leave it out')

    def match(self, logits: Tensor, samples: Sequence[TaskSample]) -> tuple[Tensor, Tensor]:
        """Logits (N, K + 1, H, W) and classes (N, H, W), at the masks' size; what does not count is torch's -100."""
        classes = self.masks(samples)[:, 0].long()
        counted = classes[classes != IGNORED]
        if len(counted) and int(counted.max()) >= logits.shape[1]:
            raise Mistake(
                f'the head of {self.name} has {logits.shape[1]} outputs, the background among them, and {self.target} '
                f'the class {int(counted.max())}; give it one for each class and the background'
            )
        return resize(logits, classes.shape[1:]), classes.masked_fill(classes == IGNORED, -100)

    def is_labelled(self, sample: TaskSample) -> bool:
        """Whether any pixel of a sample counts."""
        return super().is_labelled(sample) and bool((self.truth(sample).data != IGNORED).any())

    def estimate(self, feats: Feats, size: Sequence[int]) -> Tensor:
        """Probabilities (N, K + 1, h, w), the background's first, at the input's ``size``."""
        return resize(self(feats).float(), size).softmax(dim=1)

    def outline(self, probabilities: Tensor, size: Sequence[int]) -> Tensor:
        """Where each class but the background is the likeliest; there is no threshold."""
        likeliest = resize(probabilities[None], size)[0].argmax(dim=0)
        return likeliest == torch.arange(1, len(probabilities), device=likeliest.device)[:, None, None]

    def shown(self, probabilities: Tensor) -> Tensor:
        return probabilities[1:]


@MODELS.register_module()
class MultiLabelSegmentation(Segmentation):
    """Several masks that may overlap: ``gt_masks`` in, ``<task>_prob`` and ``<task>_mask`` out.

    The ground truth is (C, H, W), 1 where each is, such as the dermoscopic attributes of ISIC-2018. The head gives C
    logits per pixel, each for itself; losses get logits and masks (N, C, H, W), as those of ``Segmentation`` do.
    """

    target = 'gt_masks'
    num_logits = None
    meaning = (
        'probability of each outline per pixel of the input, for itself; resize them to the image bilinearly with '
        'half-pixel centres (align_corners=False), and outline what is above the threshold'
    )

    def match(self, logits: Tensor, samples: Sequence[TaskSample]) -> tuple[Tensor, Tensor]:
        """Logits and 0/1 masks (N, C, H, W), at the masks' size."""
        masks = self.masks(samples)
        self.named(['mask'] * masks.shape[1], logits.shape[1])
        return resize(logits, masks.shape[2:]), masks.to(logits.dtype)

    def head_loss(self, feats: Feats, samples: Sequence[TaskSample], labelled: list[int]) -> dict[str, Tensor]:
        raise Mistake(f"{self.name}: the losses of mmseg's heads are for one class per pixel; give losses")

    def estimate(self, feats: Feats, size: Sequence[int]) -> Tensor:
        """Probabilities (N, C, h, w), at the input's ``size``."""
        return resize(self(feats).float(), size).sigmoid()


def of_foreground(logits: Tensor) -> Tensor:
    """The logit (N, 1, h, w) of foreground against background, from a head's one or two."""
    return logits if logits.shape[1] == 1 else logits[:, 1:] - logits[:, :1]


class MaskStep:
    """A step that finishes a predicted mask, uint8 (H, W), 1 on the lesion; named in ``Segmentation(post=...)``."""

    def __call__(self, mask: np.ndarray) -> np.ndarray:
        raise NotImplementedError


@MODELS.register_module()
class Dilate(MaskStep):
    """Dilate the mask by a disc: holes up to the disc's size are filled, and the outline moves out by its radius.

    Args:
        radius: As a fraction of the image's longer side, so that it means the same at every size.
    """

    def __init__(self, radius: float = 0.01) -> None:
        self.radius = radius

    def __call__(self, mask: np.ndarray) -> np.ndarray:
        radius = round(self.radius * max(mask.shape))
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        return cv2.dilate(mask, disc)


@MODELS.register_module()
class FillHoles(MaskStep):
    """Turn background that a lesion encloses into lesion.

    The paper fills "small holes of the output masks with morphological dilation"; a plain dilation (`Dilate`) moves the
    outline too, this one does not. It is morphological reconstruction by dilation: background is what the frame's
    border reaches through background pixels, side by side; all else is lesion.

    Args:
        max_area: Largest hole that is filled, as a fraction of the image's area. By default all are.
    """

    def __init__(self, max_area: float = 1.0) -> None:
        self.max_area = max_area

    def __call__(self, mask: np.ndarray) -> np.ndarray:
        window = window_of(mask)  # background at its edge goes on beyond it, or is at the frame's border
        _, regions, stats, _ = cv2.connectedComponentsWithStats(1 - mask[window], connectivity=4)
        small = stats[:, cv2.CC_STAT_AREA] <= self.max_area * mask.size
        border = np.concatenate([regions[[0, -1]].ravel(), regions[:, [0, -1]].ravel()])
        small[border] = False
        if not small[1:].any():  # 0 is the lesion
            return mask
        filled = mask.copy()
        filled[window] |= small[regions]
        return filled


@MODELS.register_module()
class LargestComponent(MaskStep):
    """Keep the largest connected part of the mask; an ISIC-2017 image shows one lesion. See ``largest_component``."""

    def __call__(self, mask: np.ndarray) -> np.ndarray:
        return largest_component(mask)
