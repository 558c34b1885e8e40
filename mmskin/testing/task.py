"""The contract of tasks."""

from collections.abc import Sequence

import torch
from mmengine.structures import PixelData
from torch import Tensor

from mmskin.models.tasks.task import Task
from mmskin.structures import TaskSample
from mmskin.testing.contract import Contract, close, close_in_bf16, random, reached

__all__ = ['TaskContract']

SIZE = (33, 41)  # of the images


def feats(count: int = 2, requires_grad: bool = False) -> tuple[Tensor]:
    """A branch's map (N, 6, 5, 6)."""
    return (random(count, 6, 5, 6, seed=3).requires_grad_(requires_grad),)


class TaskContract(Contract):
    """A task has losses over the samples that have its label, and predictions for all.

    It is a ``Task``; its config names a head of 6 channels and losses.
    """

    def label(self, sample: TaskSample, index: int) -> None:
        """Give ``sample`` the labels of mmskin's own tasks; a task with a label of another name writes that."""
        generator = torch.Generator().manual_seed(index)
        sample.gt_label = torch.tensor([index % 3])
        sample.gt_sem_seg = PixelData(data=torch.randint(2, (1, *SIZE), generator=generator, dtype=torch.uint8))
        sample.gt_values = torch.randn(3, generator=generator)
        sample.gt_labels = torch.randint(2, (3,), generator=generator).float()
        sample.gt_masks = PixelData(data=torch.randint(2, (2, *SIZE), generator=generator, dtype=torch.uint8))

    def samples(self, labelled: Sequence[bool] = (True, True)) -> list[TaskSample]:
        """One sample per entry, with labels or without."""
        shapes = dict(img_path='', img_shape=SIZE, ori_shape=(SIZE[0] + 8, SIZE[1] + 13))
        found = [TaskSample(metainfo=dict(image_id=f'{index:03}', **shapes)) for index in range(len(labelled))]
        for index, sample in enumerate(found):
            if labelled[index]:
                self.label(sample, index)
        return found

    def test_it_is_a_task(self) -> None:
        """With the base class that leaves unlabelled samples out, and a label that the contract knows."""
        task = self.build()
        assert isinstance(task, Task)
        assert task.target in self.samples()[0], f'the contract gives no {task.target}; write it in `label`'

    def test_losses_reach_map_and_parameters(self) -> None:
        """As distributed training demands."""
        task, maps = self.build(), feats(requires_grad=True)
        losses = task.loss(maps, self.samples())
        assert losses
        assert all(name.startswith('loss') and loss.shape == () for name, loss in losses.items())
        torch.stack([*losses.values()]).sum().backward()
        tensors = dict(task.named_parameters(), feats=maps[0])
        assert reached(tensors) == {*tensors}

    def test_trains_on_one_image(self) -> None:
        """Whose losses are finite."""
        losses = self.build().train().loss(feats(1), self.samples((True,)))
        assert all(loss.isfinite() for loss in losses.values())

    def test_loss_weight(self) -> None:
        """Is a factor on all losses."""
        plain, doubled = (self.build(loss_weight=weight).eval().loss(feats(), self.samples()) for weight in (1, 2))
        assert all(close(doubled[name], 2 * loss) for name, loss in plain.items())

    def test_unlabelled_samples_are_left_out(self) -> None:
        """As if the batch were smaller."""
        task, maps = self.build().eval(), feats(4)
        partly = task.loss(maps, self.samples((True, False, True, False)))
        samples = self.samples((True, False, True))
        whole = task.loss((maps[0][[0, 2]],), [samples[0], samples[2]])
        assert partly.keys() == whole.keys()
        assert all(close(partly[name], loss) for name, loss in whole.items())

    def test_without_a_label_zero_reaches_every_parameter(self) -> None:
        """So that distributed training does not wait for it."""
        task, maps = self.build(), feats(requires_grad=True)
        losses = task.loss(maps, self.samples((False, False)))
        assert losses
        assert all('loss' in name and value == 0 for name, value in losses.items())
        torch.stack([*losses.values()]).sum().backward()
        gradients = [tensor.grad for tensor in (*task.parameters(), *maps)]
        assert all(gradient is not None and not gradient.any() for gradient in gradients)

    def test_predicts_for_every_sample(self) -> None:
        """The probability, and what follows from it, in the fields of its name, labelled or not."""
        samples, task = self.samples((False, True, False)), self.build().eval()
        task.predict(feats(3), samples)
        fields = [{name for name in sample.all_keys() if not name.startswith('gt_')} for sample in samples]
        assert task.probability in fields[0]
        assert fields == fields[:1] * 3

    def test_bf16(self) -> None:
        """Mixed precision gives what single precision gives, in single precision."""
        task = self.build().eval()
        assert close_in_bf16(lambda: task.loss(feats(), self.samples()))
        with torch.autocast('cpu', dtype=torch.bfloat16):
            losses = task.loss(feats(), self.samples())
        assert {value.dtype for value in losses.values()} == {torch.float32}
