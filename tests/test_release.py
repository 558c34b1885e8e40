"""What builds, checks and serves mmskin elsewhere: workflows, the image, and the release."""

import re
import subprocess

import pytest
import yaml

WORKFLOWS = ('lint', 'tests', 'docs', 'release')


@pytest.mark.parametrize('name', WORKFLOWS)
def test_a_workflow_runs_targets_that_there_are(repository, name):
    text = (repository / '.github' / 'workflows' / f'{name}.yml').read_text()
    workflow = yaml.safe_load(text)
    assert workflow['name'] == name
    makefile = (repository / 'Makefile').read_text()
    targets = re.findall(r'^([a-z-]+):', makefile, re.M)
    wanted = [word for line in re.findall(r'run: make (.*)', text) for word in line.split() if '=' not in word]
    assert wanted
    assert {*wanted} <= {*targets}


def test_issue_templates_are_forms(repository):
    for path in (repository / '.github' / 'ISSUE_TEMPLATE').glob('[!c]*.yml'):
        form = yaml.safe_load(path.read_text())
        assert {'name', 'description', 'body'} <= form.keys()


def test_the_image_copies_what_there_is_and_runs_without_rights(repository):
    text = (repository / 'Dockerfile').read_text()
    copied = [word for line in re.findall(r'^COPY (.*)', text, re.M) for word in line.split()[:-1]]
    assert {'setup.py', 'mmskin', 'configs'} <= {*copied}
    assert [name for name in copied if not (repository / name).exists()] == []
    allowed = re.findall(r'^!(.*)', (repository / '.dockerignore').read_text(), re.M)
    assert {*copied} == {*allowed}
    *_, user = re.findall(r'^USER (.*)', text, re.M)
    assert user not in ('root', '0')


@pytest.mark.parametrize(('version', 'status', 'told'), [('0.1.0', 2, 'commit first'), ('9.9.9', 2, 'has no heading')])
def test_nothing_is_released_that_is_not_committed_or_noted(repository, tmp_path, version, status, told):
    recipe = (repository / 'Makefile').read_text().split('\nrelease:')[1].split('\n\n')[0]
    checks = [line.strip('\t@') for line in recipe.replace('\\\n', ' ').splitlines() if line.startswith('\t@test')]
    checks += [line.strip('\t@') for line in recipe.replace('\\\n', ' ').splitlines() if line.startswith('\t@grep')]
    makefile = ['BIN := .', '.PHONY: release', 'release:', *('\t' + line for line in checks)]
    (tmp_path / 'Makefile').write_text('\n'.join(makefile) + '\n')
    (tmp_path / 'CHANGELOG.md').write_text('## [0.1.0] - 2026-01-01\n')
    (tmp_path / 'python').write_text(f'#!/bin/sh\necho {version}\n')
    (tmp_path / 'python').chmod(0o755)
    git = ['git', '-C', str(tmp_path), '-c', 'user.name=x', '-c', 'user.email=x@x.x']
    subprocess.run([*git, 'init', '-q'], check=True)
    if told != 'commit first':
        subprocess.run([*git, 'add', '-A'], check=True)
        subprocess.run([*git, 'commit', '-qm', 'x'], check=True)
    done = subprocess.run(['make', '-s', 'release'], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == status
    assert told in done.stderr
