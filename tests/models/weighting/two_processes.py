"""One of two processes that train with the weightings it is told; run by ``test_two_processes.py`` over gloo."""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from mmengine.logging import MessageHub
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.optim import OptimWrapper

from mmskin.registry import MODELS
from mmskin.testing.contract import TASKS, LinearNetwork

LABELLED = [(TASKS, TASKS), (('a', 'c'), TASKS), (('a', 'b'), ('b', 'c')), (('b', 'c'), ('c',)), (TASKS, TASKS)]


class Balanced(BaseModel):
    """The tiny network with a weighting, as `MultiTaskModel` has one."""

    def __init__(self, name):
        super().__init__()
        torch.manual_seed(0)
        self.network = LinearNetwork()
        torch.manual_seed(0)
        self.weighting = MODELS.build(dict(type=name, tasks=TASKS, active_tasks=TASKS))

    def forward(self, images, labelled, mode='loss'):
        total, self.weights = self.weighting(self.network.losses(images, labelled), labelled, self.network)
        return {'loss': total}


def train(name, rank):
    """Five steps, in which the processes have labels for different tasks; gives what has to agree between them."""
    model = MMDistributedDataParallel(Balanced(name), device_ids=None, broadcast_buffers=False)
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1), clip_grad=dict(max_norm=5.0))
    torch.manual_seed(rank)  # as EpochSeed does
    for number, labelled in enumerate(LABELLED):
        MessageHub.get_current_instance().update_info('epoch', number // 2)
        model.train_step((torch.randn(6, 4), labelled[rank]), wrapper)
    weights = {f'weight.{task}': weight for task, weight in model.module.weights.items()}
    found = {key: value.double().nan_to_num(-7.5).tolist() for key, value in model.module.state_dict().items()}
    return found | {key: value.tolist() for key, value in weights.items()}


def half_of_a_batch(name, rank):
    """The gradients of a step for which each process has half of the batch."""
    model = MMDistributedDataParallel(Balanced(name), device_ids=None)
    model(batch().chunk(2)[rank], TASKS)['loss'].backward()
    return {f'gradient.{key}': parameter.grad.tolist() for key, parameter in model.module.named_parameters()}


def batch():
    return torch.randn(8, 4, generator=torch.Generator().manual_seed(5))


def main(rank, port, out, *names):
    dist.init_process_group('gloo', init_method=f'tcp://127.0.0.1:{port}', rank=int(rank), world_size=2)
    found = {name: train(name, int(rank)) | half_of_a_batch(name, int(rank)) for name in names}
    Path(out, f'{rank}.json').write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == '__main__':
    main(*sys.argv[1:])
