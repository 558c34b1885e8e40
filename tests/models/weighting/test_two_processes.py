"""Every weighting in two processes over gloo, which have labels for different tasks."""

import json
import socket
from pathlib import Path

import forked
import pytest
import torch

from mmskin.models.weighting.weighting import Weighting
from mmskin.registry import MODELS

HERE = Path(__file__).parent
MODELS.import_from_location()
EVERY = sorted(name for name, kind in MODELS.module_dict.items() if issubclass(kind, Weighting))


@pytest.fixture(scope='module')
def results(tmp_path_factory):
    """What the two processes end with, by weighting."""
    out = tmp_path_factory.mktemp('processes')
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = str(probe.getsockname()[1])
    programs = [forked.Program(HERE / 'two_processes.py', rank, port, out, *EVERY) for rank in ('0', '1')]
    for ended in [program.wait() for program in programs]:
        assert ended.returncode == 0, ended.stderr[-3000:]
    return [json.loads((out / f'{rank}.json').read_text()) for rank in (0, 1)]


@pytest.mark.slow
@pytest.mark.parametrize('name', EVERY)
def test_processes_agree(name, results):
    """Parameters, state and weights bit by bit, after steps in which not every process had every label."""
    first, second = (result[name] for result in results)
    assert first == second
    assert {f'weight.{task}' for task in 'abc'} <= {*first}


@pytest.mark.slow
@pytest.mark.parametrize('name', EVERY)
def test_two_halves_make_a_batch(name, results, build, network):
    """The gradients are those that one process has for the whole batch; the losses are averages over images."""
    whole = torch.randn(8, 4, generator=torch.Generator().manual_seed(5))
    weighting = build(name)
    weighting(network.losses(whole), ('a', 'b', 'c'), network)[0].backward()
    for key, parameter in network.named_parameters():
        found = torch.tensor(results[0][name][f'gradient.network.{key}'])
        torch.testing.assert_close(found, parameter.grad, rtol=1e-3, atol=1e-5)
