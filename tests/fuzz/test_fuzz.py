"""A small share of what ``make fuzz`` tries: damaged files end in no traceback, nor in other numbers without a word."""

import contextlib
import io
from collections import defaultdict

import pytest
from attack import GOOD, Attack
from doors import DOORS, open_doors
from mangling import KINDS, mangled
from scene import Scene

SHARE = {'tables': 40, 'reports': 1, 'benchmarks': 6, 'trainings': 6, 'programs': 6, 'weights': 12, 'images': 12}


@pytest.fixture(scope='module')
def scene(tmp_path_factory):
    return Scene(tmp_path_factory.mktemp('scene'))


@pytest.mark.parametrize('group', DOORS)
def test_damaged_files(group, scene, tmp_path, monkeypatch):
    with contextlib.redirect_stdout(io.StringIO()):
        attack = Attack([*open_doors(scene, [group])])
    monkeypatch.chdir(tmp_path)
    found = defaultdict(list)
    for door, number, verdict, seen in attack.run(seconds=600, count=SHARE[group]):
        found[verdict].append(f'{door.name} {number}: {seen[-300:]}')
    assert {verdict: cases for verdict, cases in found.items() if verdict not in GOOD} == {}
    assert found['refused']


@pytest.mark.parametrize('kind', KINDS)
def test_a_seed_makes_the_same_damage(kind):
    whole = {'table': b'a,b\n1,2\n', 'json': b'{"a": [1]}', 'python': b'a = [1]\n'}.get(kind, bytes(range(200)))
    damage = [mangled(kind, whole, f'0 {number}') for number in range(50)]
    assert damage == [mangled(kind, whole, f'0 {number}') for number in range(50)]
    assert len({*damage}) > 25
