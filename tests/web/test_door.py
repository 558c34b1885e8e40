"""Who gets through to the page, and what stays outside: with a real server on the loopback."""

import gc
import json
import logging
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Event

import pytest

gradio = pytest.importorskip('gradio', reason="the page needs gradio: pip install '.[serve]'")

import fastapi.routing  # noqa: E402
import httpx  # noqa: E402
from gradio.queueing import ProcessCompletedMessage  # noqa: E402

from mmskin.errors import Mistake  # noqa: E402
from mmskin.web import page  # noqa: E402
from mmskin.web.door import Address  # noqa: E402
from mmskin.web.limits import Limits  # noqa: E402
from mmskin.web.server import running  # noqa: E402

API = 'gradio_api/'
PAGE = {
    ('HEAD', '/'),
    *(
        ('GET', path)
        for path in ('/', '/config', '/config/', '/theme.css', '/manifest.json', '/favicon.ico', '/robots.txt')
    ),
    *(('GET', path) for path in ('/static/{path:path}', '/assets/{path:path}')),
    *(
        ('GET', f'/gradio_api/{path}')
        for path in ('app_id', 'upload_progress', 'queue/data', 'heartbeat/{session_hash}')
    ),
    ('POST', '/gradio_api/upload'),
    ('POST', '/gradio_api/queue/join'),
}


def upload(client, *files):
    """Send files, each a name and its bytes; gives the response."""
    return client.post(f'{API}upload', files=[('files', file) for file in files])


def join(client, uploads, session, function=0, told=('55', 'female')):
    """Ask about uploads, each a name and its path; gives the response."""
    files = [{'path': path, 'orig_name': name, 'meta': {'_type': 'gradio.FileData'}} for name, path in uploads]
    data = [files, *told]  # the network that ships is told age and sex
    return client.post(f'{API}queue/join', json={'data': data, 'fn_index': function, 'session_hash': session})


def answer(client, session):
    """Wait for the answer of a session, as HTML."""
    with client.stream('GET', f'{API}queue/data', params={'session_hash': session}) as stream:
        for line in stream.iter_lines():
            message = json.loads(line.removeprefix('data: ') or '{}')
            if message.get('msg') == 'process_completed':
                assert message['success'], message
                return message['output']['data'][1]
    raise AssertionError('the stream ended without an answer')


def visit(address, *files, **told):
    """All of it: files up, the answer down."""
    with httpx.Client(base_url=address, timeout=120, verify=False) as client:
        response = upload(client, *files)
        assert response.status_code == 200, response.text
        session = secrets.token_hex(8)
        names = [name for name, _ in files]
        joined = join(client, zip(names, response.json(), strict=True), session, **told)
        assert joined.status_code == 200, joined.text
        return answer(client, session)


@pytest.fixture(scope='module')
def served(inferencer):
    limits = Limits(megabytes=1, images=3, total_megabytes=4, seconds=1)
    with running(inferencer, limits, 'tested', Address(names=['skin.example'])) as (address, folder):
        yield address, folder


@pytest.fixture
def client(served):
    with httpx.Client(base_url=served[0], timeout=30) as client:
        yield client


def files_in(folder):
    return [path for path in folder.rglob('*') if path.is_file()]


def test_no_route_of_gradio_but_the_page_s_own_is_open(served, client, photo):
    (path,) = upload(client, ('mole.png', photo)).json()
    body = {'data': [[{'path': path, 'meta': {'_type': 'gradio.FileData'}}]], 'fn_index': 0, 'session_hash': 'knock'}
    with gradio.Blocks() as blocks:
        pass
    routes = {
        (method, route.path)
        for route in getattr(fastapi.routing, 'iter_route_contexts', list)(gradio.routes.App.create_app(blocks).routes)
        for method in (*route.methods, 'PUT', 'DELETE', 'OPTIONS', 'PATCH')
    }
    assert routes >= PAGE
    closed = routes - PAGE
    assert {('POST', '/gradio_api/run/{api_name}'), ('POST', '/gradio_api/call/{api_name}')} <= closed
    for method, route in sorted(closed):
        address = re.sub(r'\{api_name[^}]*\}', 'answer', route)
        response = client.request(method, re.sub(r'\{[^}]*\}', '0', address), json=body)
        assert (response.status_code, response.text) == (404, 'not of this page' if method != 'HEAD' else ''), (
            method,
            route,
        )
    for other in (
        '/gradio_api//run/answer',
        '/gradio_api/upload/',
        '/gradio_api/%72un/answer',
        '/assets/../config/x',
        '//',
    ):
        assert client.post(other, json=body).status_code == 404, other
    assert [*map(str, files_in(served[1]))] == [path], 'the upload was looked at'


@pytest.mark.parametrize('host', ['localhost:7860', '127.0.0.1', '[::1]:7860', 'SKIN.example', 'skin.example:80'])
def test_names_of_the_page(client, host):
    assert client.get('config', headers={'host': host}).status_code == 200
    assert client.get('config', headers={'host': host, 'origin': f'https://{host}'}).status_code == 200


@pytest.mark.parametrize('form', ['{}', 'localhost@{}', '{}@localhost', 'localhost:{}', '127.0.0.1.{}', '{}.'])
def test_other_names_are_refused(client, form):
    host = form.format('evil.example')
    refused = client.get('config', headers={'host': host})
    assert (refused.status_code, '--allow-host' in refused.text) == (400, True)
    assert client.get('config', headers={'origin': f'http://{host}'}).status_code == 403


@pytest.mark.parametrize('host', ['', '[', '10.0.0.1', 'local\thost', '[::1]evil', 'localhost/x', 'localhost?x', 'x#'])
def test_what_is_no_name_is_refused(client, host):
    assert client.get('config', headers={'host': host}).status_code == 400
    assert client.get('config', headers={'origin': f'http://{host}'}).status_code == 403


@pytest.mark.parametrize('origin', ['null', 'evil://localhost', '//localhost', 'localhost'])
def test_an_origin_that_is_no_page_is_refused(client, origin):
    assert client.get('config', headers={'origin': origin}).status_code == 403


@pytest.mark.parametrize('names', [['http://skin.example'], ['*'], ['skin.example', '']])
def test_a_name_that_no_browser_sends_is_refused(names):
    with pytest.raises(Mistake, match=f'--allow-host {re.escape(names[-1])}: give a name'):
        Address(names=names)


def test_a_proxy_that_is_no_address_is_refused():
    with pytest.raises(Mistake, match='--trust-proxy localhost: give its address'):
        Address(proxy='localhost')


@pytest.mark.parametrize(('host', 'start'), [('::1', 'http://[::1]:'), ('::', 'http://localhost:')])
def test_an_address_of_ipv6_is_printed_as_browsers_take_it(host, start):
    address = Address(host)
    try:
        with address.listen() as listener:
            assert address.url(listener).startswith(start)
    except Mistake:
        pytest.skip('no IPv6 here')


def test_a_proxy_is_believed_only_if_it_is_named(inferencer, client):
    forwarded = {'x-forwarded-host': 'evil.example', 'x-forwarded-proto': 'https', 'x-forwarded-for': '9.9.9.9'}
    assert 'evil' not in client.get('config', headers=forwarded).text
    for proxy, root in (('127.0.0.1', 'https://evil.example'), ('127.0.0.2', 'http://127.0.0.1')):
        with running(inferencer, Limits(), 'tested', Address(proxy=proxy)) as (address, _):
            assert httpx.get(f'{address}config', headers=forwarded).json()['root'].startswith(root)


def test_eight_users_with_the_same_file_all_get_answers(served, photo):
    with ThreadPoolExecutor(8) as pool:
        answers = [*pool.map(lambda _: visit(served[0], ('mole.png', photo)), range(8))]
    assert [answer.count('<section') for answer in answers] == [1] * 8
    assert not any('could not be read' in answer for answer in answers)


def test_a_crowd_waits_and_who_finds_no_room_hears_when_to_come_again(inferencer, photo, monkeypatch):
    monkeypatch.setattr(page, 'QUEUE', 30)
    begin = Event()
    monkeypatch.setattr(page, 'predict_uploads', lambda *_: begin.wait(60) and 'answered')
    with running(inferencer, Limits(), 'tested') as (address, _), httpx.Client(base_url=address, timeout=30) as client:

        def ask(session):
            return join(client, [('mole.png', upload(client, ('mole.png', photo)).json()[0])], session)

        asked = [ask(f'user{number}') for number in range(40)]
        begin.set()
        statuses = [response.status_code for response in asked]
        assert statuses[:30] == [200] * 30
        assert statuses[-1] == 503
        assert asked[-1].headers['retry-after'] == '60'
        told = {answer(client, f'user{number}') for number, status in enumerate(statuses) if status == 200}
        assert told == {'answered'}  # all, for what nobody fetches stays in memory as long as this process


def test_the_answer_is_of_the_age_that_is_told(served, photo):
    ages = ('10', '80', '', 'abc', '300')
    answers = {age: visit(served[0], ('mole.png', photo), told=(age, 'unknown')) for age in ages}
    words = {age: re.sub(r'<[^>]+>', ' ', html) for age, html in answers.items()}
    rates = [re.findall(r'(?:melanoma|nevus|keratosis)\s+([01]\.\d\d)', words[age])[:3] for age in ages[:3]]
    assert all(len(found) == 3 for found in rates)
    assert rates[0] != rates[1] != rates[2] != rates[0]
    for age in ages[3:]:
        assert f'mole.png: age is &#39;{age}&#39;; give a number from 0 to 120, or unknown' in words[age]


def test_what_is_asked_about_has_to_be_an_upload(served, client):
    outside = served[1].parent / 'other.png'
    for path in (
        str(outside),
        '/etc/passwd',
        'http://127.0.0.1:1/x.png',
        str(served[1]),
        f'{served[1]}/x/../image',
        '',
    ):
        assert join(client, [('a.png', path)], 'other').status_code == 410, path
    for body in (
        {},
        [],
        {'data': 3, 'fn_index': 0, 'session_hash': 's'},
        {'data': [[], {'path': '/etc/passwd'}], 'fn_index': 0, 'session_hash': 's'},
        {'data': [[], 'x' * 100], 'fn_index': 0, 'session_hash': 's'},
        {'data': [[], 'x'], 'fn_index': 0, 'session_hash': 's'},  # the page has no field
        {'data': [[3]], 'fn_index': 0, 'session_hash': 's'},
    ):
        assert client.post(f'{API}queue/join', json=body).status_code == 400, body
    assert client.post(f'{API}queue/join', content='[' * 100_000).status_code == 400
    assert client.post(f'{API}queue/join', content=bytes(1_000_001)).status_code == 413


@pytest.mark.parametrize('function', [1, -1, 10**30, None, '0'])
def test_functions_that_the_page_lacks_are_refused(client, photo, function):
    (path,) = upload(client, ('mole.png', photo)).json()
    response = join(client, [('mole.png', path)], 'odd', function)
    assert (response.status_code, response.text) == (400, 'not a question of this page')


def test_limits_of_a_file_a_request_and_all_together(served, client):
    before = files_in(served[1])
    assert 'maximum allowed size' in upload(client, ('large.png', bytes(1_000_001))).text
    assert upload(client, ('small.png', b'x'), ('large.png', bytes(1_000_001))).status_code == 413
    refused = upload(client, *[('a.png', bytes(999_999))] * 5)
    assert (refused.status_code, 'at most 4 MB are accepted' in refused.text) == (413, True)
    question = client.post(f'{API}queue/join', content=bytes(3_900_000))  # all of it is sent, and the answer heard
    assert (question.status_code, 'at most 1 MB are accepted' in question.text) == (413, True)
    assert client.post(f'{API}upload', content=iter([b'x'])).status_code == 411
    assert client.post(f'{API}upload', content=b'x').status_code == 400
    assert upload(client, *[('a.png', b'')] * 31).status_code == 400
    assert files_in(served[1]) == before
    stored = [upload(client, *[('a.png', bytes(999_999))] * 2) for _ in range(2)]
    assert sorted(response.status_code for response in stored) == [200, 507]
    full = next(response for response in stored if response.status_code == 507)
    assert ('try again in a minute' in full.text, full.headers['retry-after']) == (True, '60')


@pytest.mark.parametrize('charset', ['undefined', 'hex', 'punycode', 'utf-16'])
def test_a_form_in_an_encoding_that_is_none_is_no_fault(client, charset):
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="\xff"\r\n\r\nm\r\n--x--\r\n'
    headers = {'content-type': f'multipart/form-data; charset={charset}; boundary=x'}
    assert client.post(f'{API}upload', content=body, headers=headers).status_code in (200, 400)


def test_a_form_is_one_in_capitals_too(client):
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\nm\r\n--x--\r\n'
    response = client.post(f'{API}upload', content=body, headers={'content-type': 'Multipart/Form-Data; boundary=x'})
    assert (response.status_code, len(response.json())) == (200, 1)


@pytest.mark.parametrize('disposition', ['name="files"; filename="a"', 'name="a"', ''])
def test_a_form_of_many_empty_parts_is_refused_at_the_first_that_is_too_many(client, disposition):
    part = f'--x\r\nContent-Disposition: form-data; {disposition}\r\n\r\n\r\n'
    headers = {'content-type': 'multipart/form-data; boundary=x'}
    before = time.process_time()
    response = client.post(f'{API}upload', content=part * 3000 + '--x--\r\n', headers=headers)
    assert response.status_code == 400
    assert time.process_time() - before < 1  # of client and page together: 0.02 s


@pytest.mark.parametrize('length', ['5', '0'])
def test_a_body_in_chunks_is_refused_whatever_length_it_states(served, length):
    host, port = re.fullmatch(r'http://(.*):(\d+)/', served[0]).groups()
    for path in ('upload', 'queue/join'):
        head = f'POST /{API}{path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n'
        with socket.create_connection((host, int(port)), timeout=10) as half:
            half.sendall(f'{head}Content-Length: {length}\r\n\r\nffffffff\r\n'.encode() + bytes(1000))
            assert half.recv(1000).startswith(b'HTTP/1.1 411')


@pytest.mark.parametrize('chunk', [b'zz\r\nabc\r\n', b'-1\r\nabc\r\n'])
def test_a_body_that_is_no_http_leaves_no_traceback(served, chunk, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger('uvicorn.error'), 'handlers', [caplog.handler])
    host, port = re.fullmatch(r'http://(.*):(\d+)/', served[0]).groups()
    head = f'POST /{API}upload HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n'
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(head.encode() + chunk)
        assert connection.recv(1000).startswith(b'HTTP/1.1 4')
    assert httpx.get(served[0]).status_code == 200
    assert not any(record.exc_info for record in caplog.records)


@pytest.mark.parametrize('session', ['\\ud800', '', 'x' * 65, 'ä', 'a/b', 'a\\n'])
def test_a_session_that_no_page_names_is_refused(client, session):
    body = f'{{"data": [[], "55", "female"], "fn_index": 0, "session_hash": "{session}"}}'
    response = client.post(f'{API}queue/join', content=body.encode())
    assert (response.status_code, response.text) == (400, 'not a question of this page')


@pytest.mark.parametrize('value', ['other', 3])
def test_a_choice_that_the_page_lacks_is_answered_in_the_page(served, photo, value, capfd):
    with httpx.Client(base_url=served[0], timeout=120) as client:
        (path,) = upload(client, ('mole.png', photo)).json()
        session = secrets.token_hex(8)
        files = [{'path': path, 'orig_name': 'mole.png', 'meta': {'_type': 'gradio.FileData'}}]
        question = {'data': [files, '55', value], 'fn_index': 0, 'session_hash': session}
        assert client.post(f'{API}queue/join', content=json.dumps(question)).status_code == 200
        assert 'mole.png: sex' in answer(client, session)
    assert 'Traceback' not in capfd.readouterr().err


def heads(length):
    start = f'POST /{API}upload HTTP/1.1\r\nHost: localhost\r\n'
    whole = f'{start}Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {length}\r\n\r\n'
    part = '--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    return [f'{whole}{part}'.encode() + bytes(50_000), whole.encode()]


def test_half_requests_are_dropped_and_leave_nothing(served, photo):
    host, port = re.fullmatch(r'http://(.*):(\d+)/', served[0]).groups()
    before = files_in(served[1])
    with ExitStack() as stack:
        halves = [stack.enter_context(socket.create_connection((host, int(port)), timeout=30)) for _ in range(20)]
        start = time.monotonic()
        for number, half in enumerate(halves):
            half.sendall(heads(900_000)[number % 2])
        for half in halves[:4]:  # and some go at once
            half.close()
        answers = [half.recv(1000) for half in halves[4:]]
        took = time.monotonic() - start
    assert {answer[:12] for answer in answers} == {b'HTTP/1.1 408'}
    assert took < 20
    assert files_in(served[1]) == before
    assert '<section' in visit(served[0], ('mole.png', photo))


def test_what_comes_in_drops_is_dropped_however_much_came_before(served):
    host, port = re.fullmatch(r'http://(.*):(\d+)/', served[0]).groups()
    with socket.create_connection((host, int(port)), timeout=0.1) as half:
        half.sendall(heads(900_000)[0] + bytes(500_000))
        start, said = time.monotonic(), b''
        while not said and time.monotonic() - start < 20:
            try:
                half.sendall(b'x')
                said = half.recv(1000)
            except TimeoutError:
                continue
    assert said.startswith(b'HTTP/1.1 408')
    assert time.monotonic() - start < 10


def held_answers():
    """What Gradio keeps for whoever asked."""
    return [found for found in gc.get_objects() if type(found) is ProcessCompletedMessage]


def test_what_nobody_waits_for_is_forgotten(inferencer, photo):
    with (
        running(inferencer, Limits(life=1), 'tested') as (address, folder),
        httpx.Client(base_url=address, timeout=30) as client,
    ):
        upload(client, ('unasked.png', photo))
        joined = join(client, [('mole.png', upload(client, ('mole.png', photo)).json()[0])], 'gone')
        assert joined.status_code == 200
        end = time.monotonic() + 20
        while files_in(folder) and time.monotonic() < end:
            time.sleep(0.1)
        assert files_in(folder) == []
        while held_answers() and time.monotonic() < end:
            time.sleep(0.1)
        assert client.get(f'{API}queue/data', params={'session_hash': 'gone'}).status_code == 404
        assert held_answers() == []


def load_of(pid):
    """Memory in MB and descriptors of a process."""
    status = Path(f'/proc/{pid}/status').read_text(encoding='utf-8')
    return int(re.search(r'VmRSS:\s*(\d+)', status)[1]) / 1000, len([*Path(f'/proc/{pid}/fd').iterdir()])


def patiently(address, *files):
    """A visit that comes again when it is told to."""
    for _ in range(200):
        try:
            return visit(address, *files)
        except AssertionError as error:
            if 'Queue is full' not in str(error) and 'try again' not in str(error):
                raise
            time.sleep(3)
    raise AssertionError('never answered')


def abandon(address, name, content):
    """An upload that nobody asks about; gives the status."""
    with httpx.Client(base_url=address, timeout=120, verify=False) as client:
        return upload(client, (name, content)).status_code


@pytest.mark.long
@pytest.mark.skipif(not Path('/proc/self/fd').exists(), reason='counts descriptors in /proc')
def test_a_hundred_users_are_answered_under_100_other_uploads_and_500_half_requests(photo, tmp_path, capsys):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    command = [sys.executable, '-m', 'mmskin', 'serve', '--port', str(port), '--device', 'cpu']
    command += ['--max-total-megabytes', '150']
    environment = {**os.environ, 'TMPDIR': str(tmp_path)}
    figures, answers, address = {}, [], f'http://127.0.0.1:{port}/'
    junk = bytes(range(256)) * 4000  # 1 MB
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as run, ExitStack() as stack:
        stack.callback(run.kill)
        next(line for line in run.stdout if line.startswith('serving'))
        answers.append(visit(address, ('mole.png', photo)))
        figures['before'] = (*load_of(run.pid), 0)
        halves = [stack.enter_context(socket.create_connection(('127.0.0.1', port), timeout=60)) for _ in range(500)]
        for number, half in enumerate(halves):
            half.sendall([*heads(20_000_000), b'POST /gradio_api/up'][number % 3])
        with ThreadPoolExecutor(204) as pool:
            jobs = [pool.submit(patiently, address, ('mole.png', photo)) for _ in range(104)]
            floods = [pool.submit(abandon, address, 'a.png', junk) for _ in range(100)]
            peak = [0, 0, 0]
            while not all(job.done() for job in (*jobs, *floods)):
                now = (*load_of(run.pid), stored(tmp_path))
                peak = [*map(max, zip(peak, now, strict=True))]
                time.sleep(0.5)
            answers += [job.result() for job in jobs]
            statuses = Counter(job.result() for job in floods)
        figures['peak'] = tuple(peak)
        time.sleep(60)
        dropped = sum(half.recv(1000)[:12] in (b'HTTP/1.1 408', b'') for half in halves)
        figures['a minute later'] = (*load_of(run.pid), stored(tmp_path))
        left = uploads_in(tmp_path)
        run.send_signal(signal.SIGTERM)
        assert run.wait(30) == 0
    with capsys.disabled():
        for when, (memory, descriptors, disk) in figures.items():
            print(f'\n{when}: {memory:.0f} MB of memory, {descriptors} descriptors, {disk:.1f} MB of uploads', end='')
        print(f'\n{len(answers)} honest answers, floods {dict(statuses)}, {dropped} of 500 half requests dropped')
    assert all('<section' in answer for answer in answers)
    assert dropped == 500
    assert left == []
    assert figures['peak'][2] <= 300
    assert figures['a minute later'][1] <= figures['before'][1] + 10
    assert figures['a minute later'][0] <= figures['before'][0] + 300


def uploads_in(folder):
    """Files of uploads that have a name."""
    return [Path(place) / name for place, _, names in os.walk(folder) if len(Path(place).name) == 32 for name in names]


def stored(folder):
    """MB of uploads on the disk; they may go at any moment."""
    size = 0
    for path in uploads_in(folder):
        with suppress(FileNotFoundError):
            size += path.stat().st_size
    return size / 1e6
