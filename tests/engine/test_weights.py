"""Checkpoints are read without running code from them."""

import os

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub
from torch import nn

from mmskin.engine.weights import load_weights, read_weights


class Malicious:
    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return os.mkdir, (self.target,)


def test_a_file_that_would_run_code_is_refused(tmp_path):
    path, target = tmp_path / 'evil.pth', tmp_path / 'made_by_the_file'
    torch.save({'state_dict': nn.Linear(2, 2).state_dict(), 'extra': Malicious(target)}, path)
    with pytest.raises(ValueError, match=r'evil\.pth: damaged, or no checkpoint'):
        read_weights(path)
    assert not target.exists()


def test_mmengines_log_series_do_not_stand_in_the_way(tmp_path):
    hub = MessageHub.get_instance('test_weights')
    hub.update_scalar('train/loss', np.float64(0.5))
    weights = nn.Linear(2, 2).state_dict()
    torch.save({'state_dict': weights, 'message_hub': hub.state_dict(), 'meta': {'epoch': 3}}, tmp_path / 'x.pth')
    found = read_weights(tmp_path / 'x.pth')
    assert all(torch.equal(found[key], value) for key, value in weights.items())


def test_missing_damaged_and_foreign_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'none\.pth: no such checkpoint'):
        read_weights(tmp_path / 'none.pth')
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / 'whole.pth')
    data = (tmp_path / 'whole.pth').read_bytes()
    (tmp_path / 'cut.pth').write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r'cut\.pth: damaged'):
        read_weights(tmp_path / 'cut.pth')
    with pytest.raises(ValueError, match=r'whole\.pth was trained with another config'):
        load_weights(nn.Linear(3, 2), tmp_path / 'whole.pth')
