"""A model folder from a config and a checkpoint: what prediction needs, and nothing else."""

import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import init_default_scope
from safetensors.torch import save
from torch import Tensor, nn

import mmskin
from mmskin.config import class_names, config_name, tested_metainfo, texts_in
from mmskin.engine.checkpoints import find_checkpoints
from mmskin.engine.runner import ChannelsLast
from mmskin.errors import Mistake
from mmskin.files import check_name, whole_file
from mmskin.inference.zoo import FILES, ModelFolder
from mmskin.models.averaging import load_members
from mmskin.models.weights import BLOCK, HASH, hash_tensors, pack, read_metadata, stated_hash, without_lookups
from mmskin.registry import HOOKS, MODELS, checked

FORMAT_VERSION = '1'
KEPT = [
    *('custom_hooks', 'custom_imports', 'default_scope', 'env_cfg', 'log_level', 'model', 'randomness', 'test_cfg'),
    *('test_dataloader', 'test_evaluator', 'tta', 'tta_model'),
]
LEVEL = re.compile(r'/\d+')  # '/16' is a place in the network
KEPT_HOOKS = (ChannelsLast,)  # the others train


@checked
def publish_weights(
    cfg: Config,
    checkpoints: str | Path | Sequence[str | Path],
    out_dir: str | Path,
    half: bool = False,
    int8: bool = False,
    tested: Iterable[frozenset[str]] = (),
    card: Callable[[ModelFolder], str] | None = None,
) -> ModelFolder:
    """Write a model's files. They replace those of an earlier one together, when all are on the disk.

    An averaged network's checkpoint gives the average: mmengine's ``EMAHook`` saves it as ``state_dict``.

    Args:
        cfg: The config, as ``load_config`` gives it, or ``read_models`` for an ensemble, which becomes one file.
        checkpoints: A checkpoint file, or the work folder of a finished training; of an ensemble one for each network.
        out_dir: The model's folder; files that are there are replaced.
        half: Keep kernels and matrices in float16, which halves the file. Vectors (biases, batch norm's statistics,
            whose range float16 may not hold) stay as they are: they are few, and rounding them costs more.
        int8: Keep kernels and matrices in 8 bits, a quarter of the size (see ``pack``); those that are depth-wise or
            small in float16.
        tested: The networks of the tests and the audit that the card will have; see ``networks_of``.
        card: What the card says of the files, which have other names yet; see ``model_card``. Without one the folder is
            no model.

    Raises:
        Mistake: if the config would hold a path of this machine, the checkpoint is another network's, the folder's name
            cannot be a model's, a file there belongs to no published model, or another network was tested.
    """
    folder = ModelFolder(*(Path(out_dir) / name for name in FILES))
    check_name(Path(out_dir).resolve().name, 'the name of the model')
    if not folder.weights.exists() and (others := [path for path in folder if path.exists()]):
        raise Mistake(f'{others[0]}: is not part of a published model and would be replaced; name another folder')
    published = config_for_testing(cfg)
    init_default_scope(published.get('default_scope', 'mmskin'))
    model: nn.Module = MODELS.build(published.model)
    files = find_checkpoints(checkpoints)
    load_members(model, files, tested_metainfo(cfg))
    weights: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        tensor = tensor.detach().cpu()
        is_matrix = tensor.is_floating_point() and tensor.ndim > 1
        if is_matrix and int8 and tensor[0].numel() >= BLOCK and tensor.numel() % BLOCK == 0:
            weights |= pack(name, tensor)
            continue
        tensor = tensor.half() if is_matrix and (half or int8) else tensor
        weights[name] = tensor.clone().contiguous()  # in a memory of its own, as safetensors demands
    # of a model that is written again, its file says it
    origins = [read_metadata(file).get('config') if file.suffix == '.safetensors' else None for file in files]
    origin = ', '.join(dict.fromkeys(name or config_name(cfg.filename) for name in origins))
    heading = (
        f'"""{origin} as mmskin {mmskin.__version__} published it: for testing, with the weights next to it."""\n\n'
    )
    metadata = {
        'format_version': FORMAT_VERSION,
        'mmskin_version': mmskin.__version__,
        HASH: hash_tensors(weights),
        'dtype': ', '.join(sorted({str(tensor.dtype).removeprefix('torch.') for tensor in weights.values()})),
        'config': origin,
        'classes': json.dumps(class_names(cfg)),
    }
    none: set[str] = set()  # of a test by an earlier version
    own = ({metadata[HASH]}, {stated_hash(file) for file in files}, none)
    if any(networks not in own for networks in tested):
        raise Mistake(f'{out_dir}: the results or the audit are of other weights; make them with this model')
    with ExitStack() as stack:  # the last one gets its name first, and the card last
        about = stack.enter_context(whole_file(folder.card)) if card else None
        settings, tensors = (stack.enter_context(whole_file(path)) for path in (folder.config, folder.weights))
        tensors.write(save(weights, metadata=metadata))
        settings.write((heading + published.pretty_text).encode())
        for file in (tensors, settings):
            file.flush()
            os.fsync(file.fileno())
        if about and card:
            about.write(card(folder._replace(weights=Path(tensors.name))).encode(errors='backslashreplace'))
        folder.card.unlink(missing_ok=True)  # of other weights; without a card the folder is no model yet
    return folder


def config_for_testing(cfg: Config) -> Config:
    """What of ``cfg`` a test needs. No part of it looks weights up, and it names no place on this machine."""
    kept = Config({key: cfg[key] for key in KEPT if key in cfg}).to_dict()
    hooks = kept.get('custom_hooks') or ()
    kept['custom_hooks'] = [hook for hook in hooks if HOOKS.get(hook['type']) in KEPT_HOOKS]
    kept['model'] = without_lookups(kept['model'])
    for text in texts_in(kept):
        if Path(text).is_absolute() and not LEVEL.fullmatch(text):
            raise Mistake(
                f'{cfg.filename}: the published config would hold {text}, which is a place on this machine; '
                'give another by --cfg-options, such as test_dataloader.dataset.data_root=data/isic2017'
            )
    return Config(kept)
