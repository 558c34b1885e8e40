"""What one image costs a network at test time."""

import time
from pathlib import Path
from statistics import median

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.flop_counter import FlopCounterMode

from mmskin.files import write_note
from mmskin.models.watch import unwrap
from mmskin.registry import HOOKS


@HOOKS.register_module()
class InferenceCost(Hook):
    """Measures the network as it is tested, on the first test image alone, and writes the numbers as JSON.

    ``parameters``; ``flops`` of a forward pass with all views of test-time augmentation, by torch's
    ``FlopCounterMode``: convolutions and matrix products, a multiplication and an addition counted as two; ``seconds``,
    the median of a test step in batches of one, from normalisation to the mask at the image's own size; ``device``;
    ``activation_bytes``, what a forward pass of one view keeps for the backward pass, parameters left out: training
    needs this for each image of a batch.

    Args:
        out_file: the JSON file.
        repeats: how many test steps are timed, after two that are not.
    """

    def __init__(self, out_file: str = 'cost.json', repeats: int = 10) -> None:
        self.out_file = Path(out_file)
        self.repeats = repeats

    @torch.no_grad()
    def before_test_epoch(self, runner: Runner) -> None:
        """Measure, on the main process."""
        if not is_main_process():
            return
        loader, model = runner.test_dataloader, runner.model.eval()
        batch = loader.collate_fn([loader.dataset[0]])
        with FlopCounterMode(display=False) as counter:
            model.test_step(batch)
        model.test_step(batch)
        seconds = []
        for _ in range(self.repeats):
            start = time.perf_counter()
            model.test_step(batch)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
        saved = {}  # bytes by address: each piece of memory counts once

        def note(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            saved[storage.data_ptr()] = storage.nbytes()
            return tensor

        network = unwrap(model)
        data = network.data_preprocessor(batch, False)  # type: ignore[operator]
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            outputs = network(**data, mode='tensor')
        del outputs
        weights = {tensor.untyped_storage().data_ptr() for tensor in (*network.parameters(), *network.buffers())}
        on_cpu = f'CPU, {torch.get_num_threads()} threads'
        cost = {
            'parameters': sum(parameter.numel() for parameter in model.parameters()),
            'flops': counter.get_total_flops(),
            'seconds': median(seconds),
            'device': torch.cuda.get_device_name() if torch.cuda.is_available() else on_cpu,
            'activation_bytes': sum(size for address, size in saved.items() if address not in weights),
        }
        write_note(self.out_file, cost)
