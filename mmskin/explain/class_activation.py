"""Where in an image the evidence for a diagnosis lies."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mmskin.models.multitask import MultiTaskModel
from mmskin.models.tasks.classification import Classification
from mmskin.optional import needs

__all__ = ['class_activation', 'diagnosis_of', 'grad_cam']


class LogitsOf(nn.Module):
    """A network that gives the logits of one task alone, as captum wants them."""

    def __init__(self, network: MultiTaskModel, task: str) -> None:
        super().__init__()
        self.network, self.task = network, task

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (N, num_classes) for normalised images (N, 3, H, W)."""
        outputs = self.network(inputs, mode='tensor')
        assert isinstance(outputs, dict), 'mode tensor gives logits by task'
        return outputs[self.task]


def diagnosis_of(network: MultiTaskModel) -> str | None:
    """The name of the network's first active task that is a ``Classification``, or None."""
    return next((name for name in network.active_tasks if isinstance(network.tasks[name], Classification)), None)


def class_activation(network: MultiTaskModel, inputs: Tensor, task: str, classes: Sequence[int]) -> np.ndarray:
    """Grad-CAM of one class of each image at the last block of the task's branch (https://arxiv.org/abs/1610.02391).

    Args:
        network: In evaluation mode.
        inputs: Normalised images (N, 3, H, W).
        task: A classification.
        classes: Whose evidence to show, N numbers.

    Returns:
        Maps (N, h, w) over the whole images, at the block's resolution where the branch sees all of the image; from 0
        to 1, each scaled to its own largest value.

    Raises:
        ModuleNotFoundError: if captum is not installed.
    """
    logits = LogitsOf(network, task)
    last = network.backbone.branch(task)[network.backbone.out_blocks[task][-1]]
    with torch.enable_grad():
        inputs = inputs.detach().clone().requires_grad_()  # a gradient reaches the block even if its weights are fixed
        maps = grad_cam()(logits, last).attribute(inputs, list(classes), relu_attributions=True)
    maps = network.over_image(task, maps, inputs)
    return (maps / maps.amax(dim=(2, 3), keepdim=True).clamp(min=1e-12))[:, 0].detach().cpu().numpy()


def grad_cam() -> type:
    """Captum's class.

    Raises:
        ModuleNotFoundError: if captum is not installed.
    """
    return needs('captum.attr', 'explain').LayerGradCam
