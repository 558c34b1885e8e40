"""Fitting a linear classifier on a network's features, in place of an epoch of training."""

from typing import Any

import numpy as np
import torch
from mmengine.dist import get_world_size
from mmengine.runner import EpochBasedTrainLoop, Runner
from rich.progress import track
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader

from mmskin.errors import Mistake
from mmskin.registry import LOOPS, MODELS


@LOOPS.register_module()
class LinearFitLoop(EpochBasedTrainLoop):
    """One look at every training image, then scikit-learn's fit of the classification head's last layer.

    Nothing else of the network changes. What is fitted is a linear layer, so it becomes ``head.fc``, and its checkpoint
    is tested as any other.

    Args:
        runner: The runner, from mmengine.
        dataloader: The training set; samples without a label are passed over.
        classifier: Config of a linear classifier of scikit-learn's, such as
            ``dict(type='sklearn.linear_model.LogisticRegression')``. The layer's outputs are its decision functions,
            whose softmax is a logistic regression's probability; an SVM's is only in the right order.
        task: Name of the task.
        max_epochs: 1.

    Raises:
        Mistake: if there are several processes.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | dict,
        classifier: dict,
        task: str = 'cls',
        max_epochs: int = 1,
        **options: Any,
    ) -> None:
        super().__init__(runner, dataloader, max_epochs, **options)
        if get_world_size() > 1:
            raise Mistake('LinearFitLoop fits on all features at once: train this config in one process')
        self.classifier = MODELS.build(classifier)
        self.fc = self.runner.model.tasks[task].head.fc

    def run_epoch(self) -> None:
        """Collect the features, fit, and write the layer."""
        self.runner.call_hook('before_train_epoch')
        fit_linear(self.classifier, *self.features(), self.fc)
        self._iter += len(self.dataloader)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    @torch.no_grad()
    def features(self) -> tuple[np.ndarray, np.ndarray]:
        """What enters the last layer (N, C), and the labels (N,), over the labelled training images."""
        model, entered = self.runner.model.eval(), []
        with self.fc.register_forward_pre_hook(lambda _, entering: entered.append(entering[0].cpu())):
            labels = []  # of each image, -1 where there is none
            for batch in track(self.dataloader, 'features'):
                data = model.data_preprocessor(batch)
                model(data['inputs'])
                labels += [sample.get('gt_label', torch.tensor([-1])).cpu() for sample in data['data_samples']]
        label = torch.cat(labels)
        return torch.cat(entered)[label >= 0].numpy(), label[label >= 0].numpy()


def fit_linear(classifier: Any, features: np.ndarray, labels: np.ndarray, fc: nn.Linear) -> None:
    """Fit ``classifier`` on standardised features (N, C) and labels (N,), and write it into ``fc``."""
    classes = {*range(fc.out_features)}
    if strange := {*labels.tolist()} - classes:
        raise Mistake(f'label {max(strange)}, but the layer has {fc.out_features} classes; set num_classes of the head')
    if missing := classes - {*labels.tolist()}:
        raise Mistake(f'no training image has the label {", ".join(map(str, sorted(missing)))}; add some')
    scaler = StandardScaler().fit(features)
    classifier.fit(scaler.transform(features), labels)
    weight = classifier.coef_ / scaler.scale_  # the standardisation, folded in
    bias = classifier.intercept_ - weight @ scaler.mean_
    if len(classes) == 2:  # scikit-learn gives the second one's alone
        weight, bias = np.vstack([0 * weight, weight]), np.hstack([0 * bias, bias])
    fc.weight.data.copy_(torch.from_numpy(weight))
    fc.bias.data.copy_(torch.from_numpy(bias))
