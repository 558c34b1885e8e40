"""Segment, crop, classify: two networks one after the other."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmskin.errors import Mistake
from mmskin.models.multitask import MultiTaskModel
from mmskin.models.tasks.task import Feats
from mmskin.registry import MODELS

__all__ = ['CropToLesion', 'crop', 'lesion_boxes']


@MODELS.register_module()
class CropToLesion(MultiTaskModel):
    """The branch ``seg`` outlines the lesion, the branch ``cls`` names the disease of the image cropped to it.

    As Yu et al. do (https://doi.org/10.1109/TMI.2016.2642839), here with one outline for each crop and in training too,
    so that the second network learns from what it will see. The branches have to share nothing (``split_after=None``)
    and are to be trained in two stages, ``seg`` first.

    Args:
        margin: Skin left around the lesion's box, on each side, as a share of the box; ours.
        smallest: No crop's side is smaller, as a share of the image's: a stray pixel is no lesion. Ours.
        options: See ``MultiTaskModel``.
    """

    def __init__(self, *args: Any, margin: float = 0.1, smallest: float = 0.2, **options: Any) -> None:
        super().__init__(*args, **options)
        if len(self.backbone.shared.names):
            raise Mistake('CropToLesion shares no blocks: its networks see different images; set split_after=None.')
        if self.passing or {*self.tasks} != {'cls', 'seg'}:
            raise Mistake('CropToLesion has the tasks cls and seg, and passes nothing between them; set passing=None.')
        self.margin = margin
        self.smallest = smallest

    def branch_maps(self, inputs: Tensor) -> dict[str, Feats]:
        """Feature maps by task for normalised images (N, 3, H, W); those of 'cls' are maps of the crops."""
        feats = self.backbone(inputs, ['seg'])
        if 'cls' in self.active_tasks:
            feats |= self.backbone(self.crops(inputs, feats['seg']), ['cls'])
        return {task: feats[task] for task in self.active_tasks}

    def over_image(self, task: str, maps: Tensor, inputs: Tensor) -> Tensor:
        """Maps (N, C, h, w) of a branch as maps of the whole image; those of 'cls' lie in its crop, with 0 around."""
        if task != 'cls':
            return maps
        boxes = self.boxes(self.backbone(inputs, ['seg'])['seg'])
        corner, sides = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
        frames = torch.cat([-corner / sides, (1 - corner) / sides], dim=1)  # as the crops see them
        return crop(maps, frames, inputs.shape[2:]) * inside(boxes, inputs.shape[2:])

    def crops(self, inputs: Tensor, feats: Feats) -> Tensor:
        """The images (N, 3, H, W), each magnified to show what 'seg' calls the lesion."""
        return crop(inputs, self.boxes(feats))

    @torch.no_grad()
    def boxes(self, feats: Feats) -> Tensor:
        """What 'seg' calls the lesion, as ``lesion_boxes`` gives it, from the maps of its branch."""
        logits = self.tasks['seg'](feats)  # (N, 1 or 2, h, w)
        lesion = logits[:, -1] > (0 if logits.shape[1] == 1 else logits[:, 0])
        return lesion_boxes(lesion, self.margin, self.smallest)


def lesion_boxes(masks: Tensor, margin: float = 0.0, smallest: float = 0.0) -> Tensor:
    """The box around each mask as left, top, right, bottom (N, 4), in shares of the frame; all of it for no lesion.

    Args:
        masks: True on the lesion, (N, H, W).
        margin: Added on each side, as a share of the box's own; a box ends at the frame.
        smallest: The smallest side.
    """
    spans = [_span(masks.any(dim), margin, smallest) for dim in (1, 2)]  # horizontal, vertical
    return torch.stack([spans[0][0], spans[1][0], spans[0][1], spans[1][1]], dim=1)


def _span(line: Tensor, margin: float, smallest: float) -> tuple[Tensor, Tensor]:
    """Where the true values of each line (N, L) begin and end, from 0 to 1."""
    length, there = line.shape[1], line.any(1)
    start = line.int().argmax(1) / length * there
    end = torch.where(there, 1 - line.flip(1).int().argmax(1) / length, 1.0)
    half = ((end - start) * (0.5 + margin)).clamp(min=smallest / 2)
    middle = (start + end) / 2
    return (middle - half).clamp(min=0), (middle + half).clamp(max=1)


def crop(images: Tensor, boxes: Tensor, size: Sequence[int] | None = None) -> Tensor:
    """What each image (N, C, H, W) shows inside its box (N, 4), bilinear, at ``size`` (h, w), by default the image's.

    A box that reaches beyond the frame shows there what lies at the frame's border.
    """
    left, top, right, bottom = boxes.to(images.dtype).unbind(1)
    zero = torch.zeros_like(left)
    rows = torch.stack([right - left, zero, left + right - 1, zero, bottom - top, top + bottom - 1], dim=1)
    grid = F.affine_grid(rows.view(-1, 2, 3), [*images.shape[:2], *(size or images.shape[2:])], align_corners=False)
    return F.grid_sample(images, grid, padding_mode='border', align_corners=False)


def inside(boxes: Tensor, size: Sequence[int]) -> Tensor:
    """Whether the centres of the pixels of frames of ``size`` (h, w) lie in their boxes (N, 4): (N, 1, h, w)."""
    left, top, right, bottom = boxes[:, :, None].unbind(1)  # (N, 1)
    y, x = ((torch.arange(side, device=boxes.device) + 0.5) / side for side in size)
    rows, columns = (top <= y) & (y < bottom), (left <= x) & (x < right)
    return (rows[:, :, None] & columns[:, None])[:, None]
