"""What README tells a user to do is done here, with the files as they stand there."""

import re

import pytest

from mmskin.apis.config import load_config
from mmskin.registry import MODELS


@pytest.fixture(scope='module')
def blocks(repository):
    """The Python blocks of README that begin with a file's name, by that name."""
    text = (repository / 'README.md').read_text()
    found = re.findall(r'```python\n# (\w+\.py)[^\n]*\n(.*?)```', text, flags=re.DOTALL)
    assert {name for name, _ in found} == {'my_gate.py', 'my_config.py'}
    return dict(found)


def test_a_gate_of_ones_own_beside_its_config(blocks, tmp_path):
    for name, code in blocks.items():
        (tmp_path / name).write_text(code)
    cfg = load_config(tmp_path / 'my_config.py', options={'model.backbone.chain.weights': None})
    model = MODELS.build(cfg.model)
    gates = [type(module).__name__ for name, module in model.named_modules() if name.endswith('.gate')]
    assert gates == ['SpatialGate', 'SpatialGate']


def test_commands_name_files_that_exist(repository):
    text = (repository / 'README.md').read_text()
    paths = set(re.findall(r'\b(?:configs|tools|benchmarks|docs|mmskin)/[\w/]+\.(?:py|sh|png|md)', text))
    assert paths
    assert [path for path in sorted(paths) if not (repository / path).is_file()] == []
