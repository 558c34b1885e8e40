"""Checkpoints are read without running code from them."""

import os
import random
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.optim.scheduler.lr_scheduler import OneCycleLR
from mmengine.runner import CheckpointLoader
from safetensors.torch import save_file
from torch import nn

from mmskin.config import load_config
from mmskin.inference.exported import is_exported, open_session
from mmskin.models.backbones.pretrained import fit_weights
from mmskin.models.weights import hash_tensors, load_weights, read_checkpoint, read_weights, write_checkpoint
from mmskin.registry import MODELS


class Malicious:
    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return os.mkdir, (self.target,)


class ByAttribute:
    """Reaches ``os.mkdir`` through what a log's own entries need."""

    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return getattr, (getattr(os, 'mkdir'), '__call__')  # noqa: B009


@pytest.fixture(params=[Malicious, ByAttribute])
def evil(request, tmp_path):
    """A checkpoint that would make a folder as it is unpickled, and that folder."""
    path, target = tmp_path / 'evil.pth', tmp_path / 'made_by_the_file'
    weights = nn.Linear(2, 2).state_dict()
    torch.save({'state_dict': weights, 'meta': {}, 'extra': request.param(target)}, path)
    return path, target


@pytest.mark.parametrize('source', ['mmcls://vgg11', 'pavi://a', 's3://a/b.pth', 'cluster:s3://a/b.pth', 'petrel://a'])
def test_a_loader_that_would_run_code_is_not_used(source):
    with pytest.raises(ValueError, match=f'{source}: could not be read without running code'):
        CheckpointLoader.load_checkpoint(source)


def test_no_loader_of_mmengine_is_left():
    owners = {loader.__module__ for loader in CheckpointLoader._schemes.values()}
    assert owners == {'mmskin.models.weights'}


def test_an_unknown_name_is_said():
    with pytest.raises(ValueError, match='torchvision://resnet102: mmengine knows no such weights'):
        CheckpointLoader.load_checkpoint('torchvision://resnet102')


def test_a_file_that_would_run_code_is_refused(evil):
    path, target = evil
    for read in (read_weights, read_checkpoint, lambda path: CheckpointLoader.load_checkpoint(str(path))):
        with pytest.raises(ValueError, match=r'evil\.pth: damaged, or no checkpoint'):
            read(path)
    assert not target.exists()


def test_a_foreign_backbone_does_not_start_from_a_file_that_would_run_code(evil):
    path, target = evil
    init = dict(type='Pretrained', checkpoint=str(path))
    backbone = MODELS.build(dict(type='mmpretrain.ResNet', depth=18, init_cfg=init))
    with pytest.raises(ValueError, match=r'evil\.pth: damaged, or no checkpoint'):
        backbone.init_weights()
    assert not target.exists()


def test_a_download_is_read_as_weights_only(evil, monkeypatch, tmp_path):
    path, target = evil
    handler = partial(SimpleHTTPRequestHandler, directory=path.parent)
    monkeypatch.setattr(SimpleHTTPRequestHandler, 'log_message', lambda *arguments: None)
    torch_home = torch.hub.get_dir()
    torch.hub.set_dir(tmp_path / 'hub')
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            with pytest.raises(ValueError, match=r'evil\.pth: damaged, or no weights'):
                CheckpointLoader.load_checkpoint(f'http://127.0.0.1:{server.server_port}/evil.pth')
        finally:
            server.shutdown()
            torch.hub.set_dir(torch_home)
    assert not target.exists()


def test_the_text_of_a_config_is_left_out(tmp_path):
    """mmengine runs it as it resumes."""
    torch.save({'state_dict': {}, 'meta': {'epoch': 3, 'config': 'import os'}}, tmp_path / 'x.pth')
    assert read_checkpoint(tmp_path / 'x.pth')['meta'] == {'epoch': 3}


def test_mmengines_log_comes_back(tmp_path):
    hub = MessageHub.get_instance('test_weights')
    for value in (np.float64(0.5), 0.25):
        hub.update_scalar('train/loss', value)
    hub.update_info('best', np.float32(0.75))
    weights = nn.Linear(2, 2).state_dict()
    torch.save({'state_dict': weights, 'message_hub': hub.state_dict(), 'meta': {'epoch': 3}}, tmp_path / 'x.pth')
    found = read_checkpoint(tmp_path / 'x.pth')
    series = found['message_hub']['log_scalars']['train/loss']
    assert series.data[0].tolist() == [0.5, 0.25]
    assert series.mean() == 0.375
    assert found['message_hub']['runtime_info']['best'] == np.float32(0.75)
    assert all(torch.equal(read_weights(tmp_path / 'x.pth')[key], value) for key, value in weights.items())


def test_a_one_cycle_schedule_comes_back(tmp_path):
    """Its state names the curve by a function of mmengine's."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    for name in ('cos', 'linear'):
        state = OneCycleLR(optimizer, eta_max=2.0, total_steps=10, anneal_strategy=name).state_dict()
        torch.save({'state_dict': {}, 'param_schedulers': [state]}, tmp_path / 'epoch_1.pth')
        (found,) = read_checkpoint(tmp_path / 'epoch_1.pth')['param_schedulers']
        assert found == state


def test_missing_damaged_and_foreign_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'none\.pth: no such checkpoint'):
        read_weights(tmp_path / 'none.pth')
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / 'whole.pth')
    data = (tmp_path / 'whole.pth').read_bytes()
    (tmp_path / 'cut.pth').write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r'cut\.pth: damaged'):
        read_weights(tmp_path / 'cut.pth')
    (tmp_path / 'text.pth').write_bytes(b'half of a download')
    with pytest.raises(ValueError, match=r'text\.pth: damaged'):
        read_weights(tmp_path / 'text.pth')
    torch.save({'state_dict': {1: torch.ones(1)}}, tmp_path / 'numbers.pth')
    with pytest.raises(ValueError, match=r'numbers\.pth: holds no weights by name'):
        load_weights(nn.Linear(3, 2), tmp_path / 'numbers.pth')
    with pytest.raises(ValueError, match=r'whole\.pth was trained with another config'):
        load_weights(nn.Linear(3, 2), tmp_path / 'whole.pth')


@pytest.fixture
def others_file():
    """A folder for files that this process may not read, also where root runs it."""
    with TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        is_root = os.geteuid() == 0
        yield Path(folder), lambda: os.seteuid(65534) if is_root else None
        if is_root:
            os.seteuid(0)


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors', '.onnx', '.xml'])
def test_a_file_that_may_not_be_read_is_not_called_damaged(suffix, others_file):
    folder, give_up_rights = others_file
    path = folder / f'a{suffix}'
    path.touch(mode=0)
    give_up_rights()
    with pytest.raises(PermissionError) as caught:
        (open_session if is_exported(path) else read_checkpoint)(path)
    assert (caught.value.filename, caught.value.strerror) == (str(path), 'Permission denied')


def test_safetensors_in_half_precision_load_into_single(tmp_path):
    trained = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    trained[1].num_batches_tracked += 2**40 + 1  # no float holds it and its neighbours
    halved = {k: v.half() if v.is_floating_point() else v for k, v in trained.state_dict().items()}
    save_file(halved, tmp_path / 'x.safetensors')
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    load_weights(model, tmp_path / 'x.safetensors')
    assert model[0].weight.dtype == torch.float32
    assert torch.equal(model[0].weight, halved['0.weight'].float())
    assert model[1].num_batches_tracked == 2**40 + 1


@pytest.mark.parametrize('dtype', [torch.int8, torch.int64, torch.bool])
def test_whole_numbers_are_not_taken_for_weights(tmp_path, dtype):
    """Torch casts them without a word; eight bits that lost their factors would be such."""
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
    weights = {
        name: tensor.to(dtype) if name == '0.weight' else tensor for name, tensor in network.state_dict().items()
    }
    save_file(weights, tmp_path / 'whole.safetensors')
    message = rf'whole\.safetensors: 0\.weight holds {str(dtype)[6:]}, not fractions'
    with pytest.raises(ValueError, match=message):
        load_weights(network, tmp_path / 'whole.safetensors')
    with pytest.raises(ValueError, match=message):
        fit_weights(network, read_weights(tmp_path / 'whole.safetensors'), str(tmp_path / 'whole.safetensors'), 'two')


def test_missing_damaged_and_foreign_safetensors(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'none\.safetensors: no such checkpoint'):
        read_weights(tmp_path / 'none.safetensors')
    save_file(nn.Linear(2, 2).state_dict(), tmp_path / 'whole.safetensors')
    data = (tmp_path / 'whole.safetensors').read_bytes()
    for cut in (0, 4, len(data) // 2, len(data) - 1):
        (tmp_path / 'cut.safetensors').write_bytes(data[:cut])
        with pytest.raises(ValueError, match=r'cut\.safetensors: damaged'):
            read_weights(tmp_path / 'cut.safetensors')
    with pytest.raises(ValueError, match=r'whole\.safetensors was trained with another config'):
        load_weights(nn.Linear(3, 2), tmp_path / 'whole.safetensors')


def test_a_changed_tensor_is_noticed_by_its_hash(tmp_path):
    path, weights = tmp_path / 'x.safetensors', nn.Linear(2, 2).state_dict()
    save_file(weights, path, metadata={'sha256': hash_tensors(weights)})
    assert set(read_weights(path)) == {'weight', 'bias'}
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r'x\.safetensors: its tensors are not those that were published'):
        read_weights(path)


def test_the_hash_is_of_names_types_shapes_and_values():
    ones = torch.ones(2, 3)
    variants = [{'a': ones}, {'b': ones}, {'a': ones.half()}, {'a': ones.T}, {'a': ones * 2}, {'a': ones, 'b': ones}]
    assert len({hash_tensors(weights) for weights in variants}) == len(variants)
    assert hash_tensors({'a': ones, 'b': ones * 2}) == hash_tensors({'b': ones * 2, 'a': ones})
    assert hash_tensors({'a': ones.T}) == hash_tensors({'a': ones.T.contiguous()})
    assert hash_tensors({'a': torch.tensor(3)}) != hash_tensors({'a': torch.tensor([3])})


def test_a_run_starts_from_safetensors(tmp_path):
    """mmengine's own loader takes every file for a pickle."""
    weights = nn.Linear(2, 2).state_dict()
    save_file(weights, tmp_path / 'x.safetensors')
    found = CheckpointLoader.load_checkpoint(str(tmp_path / 'x.safetensors'), 'cpu')['state_dict']
    assert torch.equal(found['weight'], weights['weight'])


@pytest.mark.parametrize('tta', [False, True])
@pytest.mark.parametrize(('trained', 'tested'), [('DWA', None), (None, 'DWA'), ('DWA', 'UncertaintyWeights')])
def test_what_balanced_the_losses_does_not_hinder_a_test(trained, tested, tta, repository, tmp_path):
    def build(weighting, seed):
        torch.manual_seed(seed)
        model = {**cfg.model, 'weighting': weighting and dict(type=weighting)}
        return MODELS.build(dict(type='TestTimeAugmentation', module=model) if tta and seed else model)

    cfg = load_config(repository / 'configs/fpm/r18_synthetic.py')
    source, model = build(trained, 0), build(tested, 1)
    torch.save(source.state_dict(), tmp_path / 'a.pth')
    load_weights(model, tmp_path / 'a.pth')
    network = model.module if tta else model
    for one, other in zip(source.tasks.parameters(), network.tasks.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize('write', [write_checkpoint, lambda path, checkpoint: torch.save(checkpoint, path)])
def test_no_flipped_bit_changes_what_is_read(write, tmp_path):
    """Of our own checkpoints and of foreign ones; what lies between the parts of an archive may change."""
    torch.manual_seed(0)
    network = nn.Linear(20, 30)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 20)).sum().backward()
    optimizer.step()
    path = tmp_path / 'x.pth'
    write(path, {'state_dict': network.state_dict(), 'optimizer': optimizer.state_dict(), 'meta': {'epoch': 3}})
    whole, draw = path.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        try:
            found = read_checkpoint(path)
        except ValueError as error:
            assert str(error).startswith(f'{path}: damaged')
            refused += 1
            continue
        assert found['meta'] == {'epoch': 3}
        assert all(torch.equal(found['state_dict'][name], value) for name, value in network.state_dict().items())
        moments = found['optimizer']['state'][0]
        assert all(torch.equal(moments[name], value) for name, value in optimizer.state_dict()['state'][0].items())
    assert refused > 100


def test_a_checkpoint_is_checked_against_the_hash_that_it_states(tmp_path):
    """Also if the archive is sound, as after another program changed it."""
    path = tmp_path / 'x.pth'
    write_checkpoint(path, {'state_dict': nn.Linear(2, 2).state_dict(), 'optimizer': {'state': [torch.ones(3)]}})
    assert read_checkpoint(path).keys() == {'state_dict', 'optimizer'}
    stored = torch.load(path, weights_only=True)
    stored['optimizer']['state'][0][1] = 2
    torch.save(stored, path)
    with pytest.raises(ValueError, match=r'x\.pth: damaged since it was written \(the sha256 of its tensors is wrong'):
        read_weights(path)


def test_a_foreign_archive_without_checksums_is_read(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({'a': torch.ones(3)}, tmp_path / 'x.pth')
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(read_weights(tmp_path / 'x.pth')['a'], torch.ones(3))


@pytest.mark.parametrize('wrapper', ['module.', '_orig_mod.', 'module._orig_mod.'])
def test_a_wrapped_networks_checkpoint_is_one(wrapper, tmp_path):
    weights = nn.Linear(2, 2).state_dict()
    torch.save({f'{wrapper}{name}': tensor for name, tensor in weights.items()}, tmp_path / 'x.pth')
    network = nn.Linear(2, 2)
    load_weights(network, tmp_path / 'x.pth')
    assert all(torch.equal(network.state_dict()[name], tensor) for name, tensor in weights.items())
