"""What runs on Ray, on two nodes of this machine: the service, benchmarks, predictions, sweeps."""

import asyncio
import json
import logging
import os
import pickle
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from mmskin import LesionInferencer
from mmskin.cli import main
from mmskin.cluster import connected, import_ray
from mmskin.engine.sweep import Sweep, write_table
from mmskin.errors import MissingLibrary, Mistake
from mmskin.files import json_text, read_csv, read_note
from mmskin.web.limits import Limits

try:
    import_ray()
except MissingLibrary as error:
    pytest.skip(str(error), allow_module_level=True)

import httpx  # noqa: E402
import psutil  # noqa: E402

from mmskin.web.api import Load, answering  # noqa: E402
from mmskin.web.door import Address  # noqa: E402

LIMITS = Limits(megabytes=1, pixels=1_000_000, total_megabytes=3, seconds=2)
QUEUE = 4
CROWD = 200
SUITE = """
seeds = [0, 1]
metrics = ['cls/AC', 'seg/JA']
options = {options}
methods = [dict(name='small', config='{configs}/multitask/r18_synthetic.py')]
"""
SMALL = {
    **{f'{part}_dataloader.dataset.pipeline.0.size': 48 for part in ('train', 'val', 'test')},
    **{f'{part}_dataloader.num_workers': 0 for part in ('train', 'val', 'test')},
    **{f'{part}_dataloader.persistent_workers': False for part in ('train', 'val')},
    'train_dataloader.batch_size': 1,
    'model.backbone.chain.model': 'test_resnet',  # half a million weights
    'model.backbone.split_after': 'layer2.0',
    'model.backbone.branches.seg.output_stride': None,
    **{f'model.tasks.{task}.head.in_channels': 96 for task in ('cls', 'seg')},
    'default_hooks.logger.interval': 1,
    'default_hooks.visualization.num_images': 1,
    'stages': None,
}


@pytest.fixture(scope='module')
def ray_cluster():
    """Ray on this machine, with a node that leads and does no work; or a skip."""
    ray = import_ray()
    from ray.cluster_utils import Cluster

    cluster = None
    try:
        cluster = Cluster(
            initialize_head=True,
            head_node_args={'num_cpus': 0, 'object_store_memory': 100_000_000, 'include_dashboard': False},
        )
        ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # of many kinds
        if cluster:
            cluster.shutdown()
        pytest.skip(f'Ray does not start on this machine: {error}')
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def start_nodes(cluster):
    """Have two nodes that work, with one core each as they think."""
    try:
        while len(cluster.worker_nodes) < 2:
            cluster.add_node(num_cpus=1, object_store_memory=100_000_000)
    except Exception as error:  # of a machine that is too busy
        pytest.skip(f'a node of Ray does not start on this machine: {error}')


@pytest.fixture
def two_nodes(ray_cluster):
    """The same with two nodes that work, in place of those that a test has killed."""
    start_nodes(ray_cluster)
    return ray_cluster


@pytest.fixture(scope='module')
def model(half_folder):
    """Arguments of ``LesionInferencer``."""
    return {'model': str(half_folder.config.parent), 'device': 'cpu'}


@pytest.fixture(scope='module')
def suite(tmp_path_factory, repository):
    """The path of a suite of two runs."""
    path = tmp_path_factory.mktemp('suite') / 'tiny.py'
    path.write_text(
        SUITE.format(
            options={**SMALL, 'train_cfg.max_epochs': 8, 'train_cfg.val_interval': 8}, configs=repository / 'configs'
        )
    )
    return path


@pytest.mark.parametrize(
    ('answer', 'fault'),
    [(None, 'Connection refused'), (b'HTTP/1.0 505 Not Supported\r\n', 'another program does')],
)
@pytest.mark.parametrize('kind', ['', 'ray://'])
def test_an_address_without_a_cluster_is_said_at_once(answer, fault, kind):
    listener = socket.create_server(('127.0.0.1', 0))
    address = f'{kind}127.0.0.1:{listener.getsockname()[1]}'

    def serve():
        with listener, listener.accept()[0] as line:
            line.sendall(answer)

    start = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(serve) if answer is not None else listener.close()
        with pytest.raises(Mistake, match=f'^no Ray cluster answers at {address}: .*{fault}'), connected(address):
            pass
    assert time.monotonic() - start < 5


def results_of(folder):
    """What the runs of a benchmark left, without what the clock says."""
    notes = {path.parent.name: json.loads(path.read_text()) for path in folder.glob('small/*/run.json')}
    tables = {path.parent.name: path.read_bytes() for path in folder.glob('small/*/per_image.csv')}
    kept = ('results', 'networks', 'plan')
    return {name: {key: note[key] for key in kept} for name, note in notes.items()}, tables


def wait_for(condition, seconds=300):
    """What ``condition`` gives, once that is something."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, 'waited for too long'
        time.sleep(0.05)
    return found


def workers(name):
    """The processes of Ray that work on a function of this name."""
    found = []
    for one in psutil.Process().children(recursive=True):
        try:
            found += [one] if one.cmdline()[:1] == [f'ray::{name}'] else []
        except psutil.Error:
            continue
    return found


def nodes_at_work(cluster, name):
    """The nodes on which a process works on a function of this name."""
    raylets = {node.all_processes['raylet'][0].process.pid: node for node in cluster.worker_nodes}
    return [raylets[worker.ppid()] for worker in workers(name) if worker.ppid() in raylets]


def test_a_benchmark_loses_nothing_and_repeats_nothing_as_a_worker_and_a_node_die(
    two_nodes, suite, data_root, tmp_path, capfd
):
    arguments = ['benchmark', str(suite), '--data-root', str(data_root), '--work-dir']
    alone, spread = tmp_path / 'alone', tmp_path / 'spread'
    assert main([*arguments, str(alone)]) == 0

    def begun():
        return {path.parent for path in spread.glob('small/*/train/epoch_*.pth')}

    with ThreadPoolExecutor() as pool:
        ended = pool.submit(main, [*arguments, str(spread), '--on', 'ray'])
        wait_for(lambda: len(begun()) == 2)
        workers('execute_held')[0].kill()
        two_nodes.remove_node(wait_for(lambda: nodes_at_work(two_nodes, 'execute_held'))[0], allow_graceful=False)
        assert ended.result() == 0
    assert results_of(spread) == results_of(alone)
    for log in spread.glob('small/*/train'):  # what was done before the kill was not done again
        epochs = [json.loads(line) for path in log.rglob('scalars.json') for line in path.read_text().splitlines()]
        assert len([one for one in epochs if 'train/lr' in one and one['epoch'] == 1]) == 3
    assert '2 of 2 runs are finished' in capfd.readouterr().out
    assert main([*arguments, str(spread), '--on', 'ray']) == 0  # nothing is left to do
    assert 'benchmark: small' not in capfd.readouterr().out


def test_predict_writes_the_same_from_a_cluster_as_a_worker_and_a_node_die(
    two_nodes, model, data_root, tmp_path, capfd
):
    folder = tmp_path / 'photos'
    shutil.copytree(data_root / 'ISIC-2017_Test_v2_Data', folder)
    for number in range(9):
        shutil.copy(folder / 'SYN_2000000.jpg', folder / f'copy_{number}.jpg')
    (folder / 'damaged.jpg').write_bytes(b'no image')
    arguments = ['predict', str(folder), '--model', model['model'], '--batch-size', '1', '--out-dir']
    said = []
    for out, options in (('alone', []), ('spread', ['--on', 'ray'])):
        with ThreadPoolExecutor() as pool:
            more = ['--json', str(tmp_path / f'{out}.json'), *options]
            ended = pool.submit(main, [*arguments, str(tmp_path / out), *more])
            if options:
                wait_for(lambda: workers('predict_part'))[0].kill()
                two_nodes.remove_node(
                    wait_for(lambda: nodes_at_work(two_nodes, 'predict_part'))[0], allow_graceful=False
                )
            assert ended.result() == 1
        said.append(capfd.readouterr().out.replace(out, ''))
    assert said[0] == said[1]
    assert (tmp_path / 'alone.json').read_text() == (tmp_path / 'spread.json').read_text()
    files = [path.relative_to(tmp_path / 'alone') for path in (tmp_path / 'alone').rglob('*.*')]
    assert len(files) > 3
    assert [(tmp_path / 'alone' / one).read_bytes() for one in files] == [
        (tmp_path / 'spread' / one).read_bytes() for one in files
    ]


@pytest.mark.long
@pytest.mark.parametrize(
    ('search', 'fault'),
    [
        ('optim_wrapper.optimizer.lr=1e-2..1e-4', 'the first number has to be below the second'),
        ('nothing.here=1..2', 'nothing.here is not a setting'),
    ],
)
def test_a_search_that_is_refused_leaves_no_trace(search, fault, repository, tmp_path, capsys):
    """Else the corrected command would be another search than the folder's."""
    config = str(repository / 'configs/multitask/r18_synthetic.py')
    assert main(['sweep', config, '--search', search, '--metric', 'cls/AC', '--work-dir', str(tmp_path / 'sweep')]) == 2
    assert fault in capsys.readouterr().err
    assert not (tmp_path / 'sweep').exists()


def test_a_sweep_whose_state_is_cut_off_is_named(repository, tmp_path, capsys):
    """Ray writes it one file after the other; a kill in between ended the next call in a traceback."""
    (tmp_path / 'trials').mkdir()
    (tmp_path / 'state').mkdir()
    (tmp_path / 'state' / 'tuner.pkl').write_bytes(pickle.dumps({}))
    search = ['--search', 'optim_wrapper.optimizer.lr=1e-5..1e-2', '--metric', 'seg/JA', '--work-dir', str(tmp_path)]
    assert main(['sweep', str(repository / 'configs/multitask/r18_synthetic.py'), *search]) == 2
    assert f'{tmp_path / "state"}: damaged, as by a kill or a full disk; remove {tmp_path}' in capsys.readouterr().err


def test_of_trials_that_all_fail_the_reason_is_said_without_its_traceback(tmp_path):
    error = RuntimeError(
        'Traceback of a trial:\n    ^^^^\nmmskin.errors.UnknownName: No optimizer is registered as X.\n'
    )
    results = [SimpleNamespace(metrics=None, config={}, error=error)]
    with pytest.raises(Mistake, match='no trial has a seg/JA: mmskin.errors.UnknownName: No optimizer is'):
        write_table(tmp_path, Sweep('a.py', str(tmp_path), {'x': [1, 2]}, 'seg/JA'), results)


@pytest.mark.long
@pytest.mark.parametrize(
    ('search', 'metric', 'fault'),
    [
        ('optim_wrapper.optimizer.lr=1e-5..1e-2', 'seg/IoU', '--metric seg/IoU: validation gives cls/AC, '),
        ('optim_wrapper.optimizer.rl=1e-5..1e-2', 'seg/JA', "AdamW has no option 'rl'"),
        ('model.tasks.cls.head.dropout=[.1,.2,2.0]', 'seg/JA', '--search model.tasks.cls.head.dropout=2.0: '),
    ],
)
def test_what_no_trial_can_do_is_refused_before_the_trials(
    search, metric, fault, data_root, repository, tmp_path, capfd
):
    config = str(repository / 'configs/multitask/r18_synthetic.py')
    options = [f'{name}={value}' for name, value in SMALL.items()]
    arguments = ['sweep', config, '--data-root', str(data_root), '--work-dir', str(tmp_path / 'sweep')]
    assert main([*arguments, '--search', search, '--metric', metric, '--cfg-options', *options]) == 2
    assert fault in capfd.readouterr().err
    assert not (tmp_path / 'sweep').exists()


def test_a_sweep_prunes_and_goes_on_after_a_kill(two_nodes, data_root, repository, tmp_path, capfd):
    config = str(repository / 'configs/multitask/r18_synthetic.py')
    every = {**SMALL, 'train_cfg.max_epochs': 4, 'train_cfg.val_interval': 1}
    options = [f'{name}={value}' for name, value in every.items()]
    folder = tmp_path / 'sweep'
    (folder / 'state').mkdir(parents=True)
    (folder / 'state' / 'tuner.pkl').write_bytes(pickle.dumps({}))  # all that a kill may have left before any trial
    arguments = ['sweep', config, '--data-root', str(data_root), '--work-dir', str(folder)]
    arguments += ['--metric', 'seg/JA', '--trials', '5', '--cfg-options', *options]
    search = ['--search', 'optim_wrapper.optimizer.lr=1e-5..1e-2', 'train_dataloader.batch_size=[1,3]']

    def told():
        """What each trial noted of its validations."""
        notes = folder.glob('trials/*/validations.json')
        return {path.parent.name: read_note(path)['validations'] for path in notes}

    command = [sys.executable, '-W', 'ignore', '-m', 'mmskin', *arguments, *search]
    killed = subprocess.Popen(command, env={**os.environ, 'RAY_ADDRESS': two_nodes.address}, start_new_session=True)
    wait_for(lambda: any(len(noted) == 4 for noted in told().values()))
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    wait_for(lambda: not workers('train'))
    before = told()
    assert main([*arguments, *search]) == 0
    first = capfd.readouterr().out
    after = told()
    assert len(after) == 5  # no trial was begun twice
    for name, noted in before.items():
        assert after[name][: len(noted)] == noted
    assert all(len({one['place'] for one in noted}) == len(noted) for noted in after.values())
    rows = read_csv(folder / 'sweep.csv')
    assert len(rows) == len({row['optim_wrapper.optimizer.lr'] for row in rows}) == 5
    assert all(1e-5 <= float(row['optim_wrapper.optimizer.lr']) <= 1e-2 for row in rows)
    assert [float(row['seg/JA']) for row in rows] == sorted([float(row['seg/JA']) for row in rows], reverse=True)
    counts = [int(row['validations']) for row in rows]
    assert max(counts) == 4 and min(counts) < 4, counts
    begun = {path: path.stat().st_mtime for path in (folder / 'trials').rglob('*.pth')}
    assert main([*arguments, *search]) == 0
    assert capfd.readouterr().out.splitlines()[-1] == first.splitlines()[-1]
    assert begun == {path: path.stat().st_mtime for path in (folder / 'trials').rglob('*.pth')}
    assert main([*arguments, '--search', 'optim_wrapper.optimizer.lr=1e-5..1e-3']) == 2
    assert 'was started with another search' in capfd.readouterr().err


@pytest.fixture(scope='module')
def photo(data_root):
    """An image file's bytes."""
    return next((data_root / 'ISIC-2017_Test_v2_Data').glob('*.jpg')).read_bytes()


@pytest.fixture(scope='module')
def service(ray_cluster, model):
    """The address of a service with small limits."""
    start_nodes(ray_cluster)
    with answering(model, LIMITS, Load(queue=QUEUE, batch_size=2), Address(names=['skin.example'])) as url:
        yield url


@pytest.fixture
def client(two_nodes, service):
    with httpx.Client(base_url=service, timeout=60) as client:
        yield client


def measured(client):
    """The numbers of ``/metrics`` by name."""
    lines = client.get('/metrics').text.splitlines()
    return {name: float(value) for name, value in (line.rsplit(' ', 1) for line in lines if line[0] != '#')}


def listeners(process):
    """The addresses at which a process and those that it started wait for somebody."""
    for one in (process, *process.children(recursive=True)):
        try:
            yield from (place.laddr.ip for place in one.net_connections('inet') if place.status == psutil.CONN_LISTEN)
        except psutil.Error:  # it has ended
            continue


def test_the_service_answers_as_predict_writes_it(client, model, photo):
    inferencer = LesionInferencer(**model)
    expected = json.loads(json_text({**inferencer(photo).to_dict(contours=True), 'image_id': 'mole'}))
    scores = expected.pop('probabilities')
    for form in ({'content': photo, 'params': {'name': 'mole.jpg'}}, {'files': {'image': ('mole.jpg', photo)}}):
        response = client.post('/predict', **{**form, 'params': {**form.get('params', {}), 'contours': 'true'}})
        found = response.json()
        assert response.status_code == 200, found
        assert found.pop('probabilities') == pytest.approx(scores, abs=1e-6)
        assert found == expected
    assert 'contours' not in client.post('/predict', content=photo).json()
    sized = client.post('/predict', content=photo, params={'mm_per_pixel': 0.02}).json()
    assert sized['measurements']['area_mm2'] == pytest.approx(expected['measurements']['area'] * 0.02**2)


def chunks(data):
    yield data


@pytest.mark.parametrize(
    ('request_', 'status', 'message'),
    [
        ({'content': b'no image', 'params': {'name': 'a.jpg'}}, 400, 'a.jpg: not an image that can be read'),
        ({'content': b''}, 400, 'image: the file is empty'),
        ({'content': bytes(1_000_001)}, 413, '1.0 MB at once; at most 1 MB are accepted'),
        ({'files': {'image': ('b.png', bytes(1_000_001))}}, 400, 'b.png: 1.0 MB; at most 1 MB are accepted'),
        ({'files': {'photo': ('b.png', b'x')}}, 400, 'the form has no file "image"'),
        ({'content': chunks(b'x')}, 411, 'a request has to state its length'),
        ({'content': b'x', 'params': {'age': '55'}}, 400, 'image: age: this network takes nothing with the image'),
        ({'content': b'x', 'params': {'name': ['a', 'b']}}, 422, 'name: given twice'),
        ({'content': b'x', 'params': {'mm_per_pixel': '-1'}}, 422, 'mm_per_pixel: .* greater'),
        ({'content': b'x', 'headers': {'host': 'evil.example'}}, 400, 'not known under that name'),
        ({'content': b'x', 'headers': {'origin': 'http://evil.example'}}, 403, 'another site may not ask this service'),
        ({'content': b'x', 'url': '/other'}, 404, 'not of this service'),
    ],
)
def test_the_limits_of_the_page_are_the_service_s_too(client, request_, status, message):
    response = client.post(**{'url': '/predict', **request_})
    assert response.status_code == status
    (text,) = response.json().values()
    assert re.search(message, text) and '\n' not in text, text


def test_a_bomb_is_counted_before_it_is_decoded(client, photo):
    bomb = photo.replace(b'\xff\xc0\x00\x11\x08' + (48).to_bytes(2, 'big'), b'\xff\xc0\x00\x11\x08' + b'\xea\x60')
    assert bomb != photo
    response = client.post('/predict', content=bomb)
    assert (response.status_code, 'pixels are' in response.json()['error']) == (400, True), response.text


def test_everything_listens_to_this_machine_alone(service):
    assert service.startswith('http://127.0.0.1:')
    found = {*listeners(psutil.Process())}
    assert found and found <= {'127.0.0.1', '::1', '::ffff:127.0.0.1'}


def test_the_description_names_what_is_asked(client):
    assert client.get('/health').json() == {'status': 'ok', 'networks': 1}
    paths = client.get('/openapi.json').json()['paths']
    assert paths.keys() == {'/predict', '/health', '/metrics'}
    assert {'200', '400', '413', '503', '504'} <= paths['/predict']['post']['responses'].keys()


def test_of_a_crowd_some_are_answered_and_the_others_hear_503(client, service, photo):
    """Their images have 100 times the bytes that the service holds at once."""
    padded = photo + bytes(900_000)  # what follows the end of a JPEG is not read
    before = measured(client)
    held = []

    async def ask(session):
        response = await session.post('/predict', content=padded)
        return response.status_code, response.headers.get('retry-after'), response.json().get('error', '')

    async def watch(session):
        while True:
            text = (await session.get('/metrics')).text
            held.append(float(re.search(r'^mmskin_held_bytes (.*)$', text, re.M)[1]))
            await asyncio.sleep(0.05)

    async def crowd():
        limits = httpx.Limits(max_connections=CROWD + 1)
        async with httpx.AsyncClient(base_url=service, timeout=120, limits=limits) as session:
            watching = asyncio.ensure_future(watch(session))
            answers = await asyncio.gather(*(ask(session) for _ in range(CROWD)))
            watching.cancel()
        return answers

    memory = psutil.Process().memory_info().rss
    answers = asyncio.run(crowd())
    statuses = Counter(status for status, _, _ in answers)
    assert statuses.keys() == {200, 503}, statuses
    assert all(again == '1' and 'waiting here' in text for status, again, text in answers if status == 503)
    assert max(held) <= LIMITS.total_bytes
    assert psutil.Process().memory_info().rss - memory < 150e6  # of the 180 MB that were sent, most of all the client's
    after = measured(client)
    for status, count in statuses.items():
        name = f'mmskin_requests_total{{status="{status}"}}'
        assert after[name] - before.get(name, 0) == count
    assert (after['mmskin_held_bytes'], after['mmskin_requests_in_progress']) == (0, 0)
    assert client.post('/predict', content=photo).status_code == 200


@pytest.mark.long
def test_a_network_that_is_killed_comes_back(client, photo):
    (network,) = [one for one in psutil.Process().children(recursive=True) if 'ServeReplica' in one.cmdline()[0]]
    network.send_signal(signal.SIGKILL)
    statuses = set()
    for _ in range(300):
        response = client.post('/predict', content=photo)
        statuses.add(response.status_code)
        if response.status_code == 200:
            break
        assert response.json()['error']
        time.sleep(0.2)
    assert response.status_code == 200 and statuses <= {200, 503, 504}, statuses
    assert client.get('/health').status_code == 200


def test_a_model_that_is_not_there_is_said_in_a_line(two_nodes):
    with pytest.raises(Mistake, match='nowhere'), answering({'model': 'nowhere'}, LIMITS, Load()):
        pass


BROKEN = """
from mmskin.registry import MODELS


@MODELS.register_module()
class Broken:
    def __init__(self):
        raise RuntimeError('no such chip')
"""


def test_a_plugin_that_fails_is_said_at_once(two_nodes, half_folder, tmp_path):
    (tmp_path / 'broken_plugin.py').write_text(BROKEN)
    (tmp_path / 'config.py').write_text(
        f'import sys\nsys.path.insert(0, {str(tmp_path)!r})\n_base_ = {str(half_folder.config)!r}\n'
        'custom_imports = dict(imports=["broken_plugin"])\nmodel = dict(_delete_=True, type="Broken")\n'
    )
    model = {'model': str(tmp_path / 'config.py'), 'checkpoint': str(half_folder.weights), 'device': 'cpu'}
    message = r'broken_plugin\.py, line 8: RuntimeError: no such chip$'
    with pytest.raises(Mistake, match=message), answering(model, LIMITS, Load()):
        pass
