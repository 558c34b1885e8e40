"""What closing a route changes, on a small network whose passing is felt, and on one whose passing is not."""

import torch

from mmskin.models.routes import join_readings, read_routes
from mmskin.testing.contract import tiny_batch, tiny_network


def readings(scale, **options):
    network = tiny_network(dict(type='GatedFeaturePassing')).eval()
    for name, parameter in network.passing.named_parameters():
        if name.endswith('op.scale'):
            parameter.data.fill_(scale)
    inputs, samples = tiny_batch(3)
    before = [sorted(sample.all_keys()) for sample in samples]
    found = read_routes(network, inputs, samples)
    assert [sorted(sample.all_keys()) for sample in samples] == before
    return found


def test_closing_a_route_moves_what_its_target_reaches():
    """The last site's routes reach their own target alone; the first one's pass on at the second."""
    found = readings(50.0)
    assert list(found) == ['b.0/cls2seg', 'b.0/seg2cls', 'b.1/cls2seg', 'b.1/seg2cls']
    last = found['b.1/seg2cls']
    assert last.closing['cls'].shape == (3,)
    assert last.closing['cls'].min() > 0
    assert not last.closing['seg'].any()
    assert last.moves
    assert last.gate.shape[0] == 3
    assert 0 < last.gate.min() < last.gate.max() < 1
    assert 'closing it moves cls by' in str(last)


def test_a_route_that_moves_nothing_says_so():
    found = readings(0.0)
    assert not any(reading.moves for reading in found.values())
    assert all('closing it moves nothing' in str(reading) for reading in found.values())


def test_batches_are_joined():
    joined = join_readings([readings(50.0), readings(0.0)])['b.1/seg2cls']
    assert joined.closing['cls'].shape == joined.flips['cls'].shape == (6,)
    assert torch.equal(joined.closing['cls'][3:], torch.zeros(3))
    assert joined.gate.shape[0] == 6
