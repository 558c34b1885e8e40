"""What every registered gate, message, op, passing operator, fusion, head, loss and task keeps to.

The lists are read from the registry, so that a plugin is tested by being registered. The contracts themselves are in
`mmskin.testing`, for plugins outside as well. A plugin is taken for what its package says; in `mmskin.models.passing`
an operator is known by its base class, and a ...Gate, a ...Message and an ...Op by the end of their names.
"""

import itertools

import pytest

from mmskin.errors import Mistake
from mmskin.models.fusion import Fusion
from mmskin.models.passing.base import FeaturePassing
from mmskin.models.tasks.task import Task
from mmskin.registry import MODELS
from mmskin.testing import (
    FusionContract,
    GateContract,
    HeadContract,
    LossContract,
    MessageContract,
    OpContract,
    PassingContract,
    TaskContract,
)


def registered(package):
    """The plugins of ``package`` by name, of which there has to be one."""
    MODELS.import_from_location()
    home = f'mmskin.models.{package}.'
    plugins = {name: kind for name, kind in MODELS.module_dict.items() if f'{kind.__module__}.'.startswith(home)}
    assert plugins, f'no plugin is registered in {home}'
    return dict(sorted(plugins.items()))


PLUGINS = registered('passing')
PARTS = {part: [name for name in PLUGINS if name.endswith(part.capitalize())] for part in ('gate', 'message', 'op')}
PASSINGS = [name for name, kind in PLUGINS.items() if issubclass(kind, FeaturePassing)]
HEADS, LOSSES = (list(registered(package)) for package in ('heads', 'losses'))
TASKS = [name for name, kind in registered('tasks').items() if issubclass(kind, Task)]
FUSIONS = [name for name, kind in registered('fusion').items() if issubclass(kind, Fusion)]
CONTRACTS = dict(gate=GateContract, message=MessageContract, op=OpContract)

WIDTHS = dict(in_channels=dict(a=1, b=1), out_channels=dict(a=1, b=1))
BCE = {'BCEWithLogitsLoss': 'torch.nn.BCEWithLogitsLoss'}
LOSSES_OF_TASKS = {  # torch's, by name, or ours of so many dimensions of the logits; then those of the head
    'Classification': (2, 2),
    'MultiLabelClassification': (BCE, 2),
    'OrdinalClassification': (BCE, 2),
    'Regression': ({'SmoothL1Loss': 'torch.nn.SmoothL1Loss'}, 2),
    'Segmentation': (4, 4),
    'MultiClassSegmentation': ({'CrossEntropy': 'CrossEntropy'}, 4),
    'MultiLabelSegmentation': (4, 4),
}
OUTPUTS = {'MultiClassSegmentation': dict(out_channels=3), 'MultiLabelSegmentation': dict(out_channels=2)}


def variants():
    """Every passing operator as it is by default, and with each other gate, message and op in turn."""
    for name in PASSINGS:
        yield dict(type=name)
        for part, plugins in sorted(PARTS.items()):
            for plugin in plugins:
                if takes(name, part, plugin):
                    yield dict(type=name, **{part: dict(type=plugin)})


def takes(name, part, plugin):
    """Whether the operator has an option ``part`` that is not ``plugin`` already."""
    try:
        chosen = MODELS.build(dict(type=name, **WIDTHS, **{part: dict(type=plugin)}))
    except Mistake:
        return False
    return repr(chosen) != repr(MODELS.build(dict(type=name, **WIDTHS)))


def contracts():
    """A test class by name for every plugin that has a contract."""
    for cfg in variants():
        yield '_'.join(value if key == 'type' else value['type'] for key, value in cfg.items()), PassingContract, cfg
    for part, contract in CONTRACTS.items():
        yield from ((name, contract, dict(type=name)) for name in PARTS[part])
    yield from ((name, FusionContract, dict(type=name)) for name in FUSIONS)
    yield 'LearntPriorFusion', FusionContract, dict(type='PriorFusion', learn=True)
    yield from ((name, HeadContract, dict(type=name)) for name in HEADS)
    yield from ((name, LossContract, dict(type=name)) for name in LOSSES)


for plugin, contract, cfg in contracts():
    globals()[f'Test{plugin}'] = type(f'Test{plugin}', (contract,), dict(cfg=cfg))


def dims(contract, name):
    """Dimensions of the logits of a head or a loss."""
    return type(name, (contract,), dict(cfg=dict(type=name)))().dims()


HEAD_DIMS = {name: dims(HeadContract, name) for name in HEADS}
LOSS_DIMS = {name: dims(LossContract, name) for name in LOSSES}


def losses_of(task):
    """The losses that a task takes: what a config calls each, by name."""
    losses, _ = LOSSES_OF_TASKS[task]
    return losses if isinstance(losses, dict) else {name: name for name in LOSSES if LOSS_DIMS[name] == losses}


COMBINATIONS = [
    (task, head, loss)
    for task in TASKS
    for head, loss in itertools.product(HEADS, losses_of(task))
    if HEAD_DIMS[head] == LOSSES_OF_TASKS[task][1]
]


def task_cfg(task, head, loss):
    """The config of a task with one loss."""
    losses = {loss: dict(type=losses_of(task)[loss])}
    return dict(type=task, head=dict(type=head, in_channels=6, **OUTPUTS.get(task, {})), losses=losses)


for combination in COMBINATIONS:
    plugin = f'Test{"_".join(combination)}'
    globals()[plugin] = type(plugin, (TaskContract,), dict(cfg=task_cfg(*combination)))


def test_every_plugin_is_tested():
    """Nothing in passing is of an unknown kind, and there is something of each."""
    assert {*PLUGINS} == {*PASSINGS, *itertools.chain(*PARTS.values())}
    assert all([PASSINGS, *PARTS.values()])
    assert {f'Test{name}' for name in [*PLUGINS, *FUSIONS, *HEADS, *LOSSES]} <= {*globals()}


@pytest.mark.parametrize('name', PLUGINS)
def test_every_plugin_says_where_it_is_from(name):
    """A page, an equation of the paper's, or that it is ours, or that there is nothing to it."""
    text = MODELS.get(name).__doc__
    assert any(word in text for word in ('https://', 'eq. ', ' ours', 'y_i = f_i'))


def test_every_head_and_loss_fits_a_task():
    assert {head for _, head, _ in COMBINATIONS} == {*HEADS}
    assert {*LOSSES} <= {loss for *_, loss in COMBINATIONS}


def test_every_task_has_a_label_here():
    """A new kind of task is added to LOSSES_OF_TASKS, and a label of its own to TaskContract.label."""
    assert {task for task, *_ in COMBINATIONS} == {*TASKS}
