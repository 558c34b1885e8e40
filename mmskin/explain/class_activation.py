"""Where in an image the evidence for a diagnosis lies."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mmskin.models.multitask import MultiTaskModel
from mmskin.models.tasks.classification import Classification

__all__ = ['class_activation', 'diagnosis_of']


def diagnosis_of(network: MultiTaskModel) -> str | None:
    """The name of the network's first active task that is a ``Classification``, or None."""
    return next((name for name in network.active_tasks if isinstance(network.tasks[name], Classification)), None)


def class_activation(network: MultiTaskModel, inputs: Tensor, task: str, classes: Sequence[int]) -> np.ndarray:
    """Grad-CAM of one class of each image, at the last map that the task's head reads.

    Eq. 1 and 2 of https://arxiv.org/abs/1610.02391.

    Args:
        network: In evaluation mode.
        inputs: Normalised images (N, 3, H, W).
        task: A classification.
        classes: Whose evidence to show, N numbers.

    Returns:
        Maps (N, h, w) over the whole images, at the resolution of the map where the branch sees all of the image; from
        0 to 1, each scaled to its own largest value.
    """
    with torch.no_grad():
        *others, last = network.extract_feat(inputs)[task]
    with torch.enable_grad():
        last = last.detach().requires_grad_()
        logits = network.tasks[task]((*others, last))
        (slopes,) = torch.autograd.grad(logits[range(len(inputs)), classes].sum(), last)
    with torch.no_grad():
        maps = (slopes.mean(dim=(2, 3), keepdim=True) * last).sum(dim=1, keepdim=True).relu()
        maps = network.over_image(task, maps, inputs)
    return (maps / maps.amax(dim=(2, 3), keepdim=True).clamp(min=1e-12))[:, 0].cpu().numpy()
