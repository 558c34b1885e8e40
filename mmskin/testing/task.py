"""The contracts of tasks, their heads and their losses."""

from collections.abc import Sequence

import torch
from mmengine.structures import PixelData
from torch import Tensor, nn

from mmskin.models.tasks.task import Task
from mmskin.structures import TaskSample
from mmskin.testing.contract import SIZES, Contract, LayerContract, close, close_in_bf16, random, reached

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
        samples = [TaskSample(metainfo=dict(image_id=f'{index:03}', **shapes)) for index in range(len(labelled))]
        for index, sample in enumerate(samples):
            if labelled[index]:
                self.label(sample, index)
        return samples

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


class HeadContract(LayerContract):
    """A head gives logits of an image (N, classes), or of pixels (N, channels, H, W), from the last of several maps."""

    given = dict(in_channels=6)

    def maps(self, count: int = 2) -> tuple[Tensor, ...]:
        """One map."""
        return (random(count, 6, 5, 9),)

    @staticmethod
    def outcome(module: nn.Module, *maps: Tensor) -> Tensor:
        """The logits."""
        return module(maps)

    def dims(self) -> int:
        """Dimensions of its logits: 2 or 4."""
        return self.build().eval()((torch.zeros(2, 6, 5, 5),)).ndim

    def test_logits(self) -> None:
        """For maps of any size and batches of one; pixels' are as large as the map."""
        head, dims = self.build().eval(), self.dims()
        assert dims in (2, 4)
        for size in SIZES:
            for count in (1, 3):
                last = random(count, 6, *size)
                logits = head((random(count, 2, 8, 8), last))
                assert (logits.shape[0], logits.ndim) == (count, dims)
                assert dims == 2 or logits.shape[2:] == size
                assert close(head([last]), logits), 'it reads another map than the last'

    def test_trains_on_one_image(self) -> None:
        """Whose logits and gradients are finite."""
        for size in SIZES:
            head = self.build().train()
            logits = head((random(1, 6, *size),))
            logits.square().sum().backward()
            gradients = [p.grad for p in head.parameters() if p.grad is not None]
            assert all(tensor.isfinite().all() for tensor in (logits, *gradients))


def loss_batch(dims: int, count: int = 2, size: tuple[int, int] = (5, 9)) -> tuple[Tensor, Tensor]:
    """Logits of 2 dimensions, classes, or of 4, pixels, and the target that a task hands to a loss with them."""
    if dims == 2:
        return random(count, 3), torch.arange(count) % 3
    return random(count, 1, *size), torch.ones(count, 1, *size).triu()


class LossContract(Contract):
    """A loss compares logits of classes with labels, or logits of pixels with masks, and gives one number."""

    def dims(self) -> int:
        """Dimensions of the logits that the loss is for: the first that it takes."""
        for dims in (2, 4):
            try:
                self.build()(*loss_batch(dims))
            except (ValueError, RuntimeError, IndexError):
                continue
            return dims
        raise AssertionError(f'{self.cfg} takes neither logits of classes nor of pixels')

    def test_one_number(self) -> None:
        """Finite and not negative, for masks of any size and batches of one."""
        for size in SIZES:
            for count in (1, 3):
                loss = self.build()(*loss_batch(self.dims(), count, size))
                assert loss.shape == ()
                assert loss.isfinite()
                assert loss >= 0

    def test_right_costs_less_than_wrong(self) -> None:
        """And to be sure of what is right costs hardly anything."""
        logits, target = loss_batch(self.dims())
        right = nn.functional.one_hot(target, 3) * 2.0 - 1 if logits.ndim == 2 else target * 2 - 1
        costs = [float(self.build()(right * certainty, target)) for certainty in (20, 1, 0, -1, -20)]
        assert costs == sorted(costs)
        assert costs[0] < 0.1 < costs[-1]

    def test_gradient_points_to_the_target(self) -> None:
        """In every image."""
        logits, target = loss_batch(self.dims())
        logits.requires_grad_()
        self.build()(logits, target).backward()
        gradient = logits.grad
        assert gradient is not None
        on_target = nn.functional.one_hot(target, 3) if logits.ndim == 2 else target
        assert (gradient[on_target == 1] <= 0).all()
        assert (gradient[on_target == 0] >= 0).all()
        assert gradient.flatten(1).any(dim=1).all(), 'an image without gradient'

    def test_gradient_reaches_all(self) -> None:
        """Every parameter of its own, if it has any."""
        loss, (logits, target) = self.build(), loss_batch(self.dims())
        loss(logits.requires_grad_(), target).backward()
        own = dict(loss.named_parameters())
        assert reached(own) == {*own}

    def test_extremes_are_finite(self) -> None:
        """Sure and wrong, or sure and right, with one class alone in the target."""
        for logit in (-1e4, 1e4):
            for value in (0, 1):
                logits, target = loss_batch(self.dims())
                logits = torch.full_like(logits, logit, requires_grad=True)
                loss = self.build()(logits, torch.full_like(target, value))
                loss.backward()
                assert loss.isfinite()
                assert logits.grad is not None
                assert logits.grad.isfinite().all()

    def test_empty_batch(self) -> None:
        """A loss of 0 whose gradient is finite, since a mean over nothing is nan and spoils all weights."""
        logits, target = loss_batch(self.dims())
        loss = self.build()(logits[:0].requires_grad_(), target[:0])
        assert loss == 0
        assert loss.requires_grad

    def test_bf16(self) -> None:
        """Mixed precision gives what single precision gives."""
        logits, target = loss_batch(self.dims(), size=(33, 41))
        assert close_in_bf16(self.build(), logits.bfloat16(), target)
