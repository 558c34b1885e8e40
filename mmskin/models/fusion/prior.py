"""What inputs other than the image say of the classes on their own, added to the logits."""

from typing import Any

import torch
from torch import Tensor, nn

from mmskin.errors import Mistake
from mmskin.models.fusion.base import Fusion, Values
from mmskin.registry import MODELS

__all__ = ['PriorFusion']


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
        for name, one in self.inputs.items():
            table = torch.zeros(one.num_bins, num_classes)
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
        for name, one in self.inputs.items():
            added = one.members(self.value_of(name, values, logits)) @ getattr(self, f'table_{name}')
            logits = logits + self.weight * added
        return logits

    @torch.no_grad()
    def fit(self, values: Values, labels: Tensor) -> None:
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < self.num_classes:
            raise Mistake(f'PriorFusion has num_classes={self.num_classes}, and a label is {int(labels.max())}')
        classes = nn.functional.one_hot(labels, self.num_classes).double()
        for name, one in self.inputs.items():
            counts = one.members(values[name]).double().T @ classes + self.smoothing  # (num_bins, num_classes)
            of_class, of_all = counts / counts.sum(dim=0), counts.sum(dim=1) / counts.sum()
            getattr(self, f'table_{name}').copy_((of_class / of_all[:, None]).log())
