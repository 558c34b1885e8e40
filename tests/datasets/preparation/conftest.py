"""An HTTP server that misbehaves as it is told, and archives as the challenge has them."""

import threading
import zipfile
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mmskin.datasets.preparation.catalogue import CATALOGUE
from mmskin.datasets.preparation.download import Patience
from mmskin.datasets.synthetic import SyntheticLesions

SPLITS = {'train': 'ISIC-2017_Training', 'val': 'ISIC-2017_Validation', 'test': 'ISIC-2017_Test_v2'}


@dataclass
class FileServer:
    """What is served, how, and what was asked.

    ``faults`` are used up one a GET: 'break:N' closes the connection after N bytes, 'stall:N' sends nothing more after
    N bytes, 'wrong' sends other bytes, 'status:N' answers with that status, 'ok' does nothing.
    """

    url: str
    files: dict = field(default_factory=dict)
    faults: list = field(default_factory=list)
    ranges: bool = True
    heeds_if_range: bool = True
    etag: str = '"1"'
    modified: str = ''
    states_size: bool = True
    requests: list = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def asked(self):
        """The ranges that were asked for."""
        return [headers.get('Range') for method, _, headers in self.requests if method == 'GET']


class Handler(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        state = self.server.state
        state.requests.append((self.command, self.path, dict(self.headers)))
        fault = state.faults.pop(0) if body and state.faults else 'ok'
        data = state.files.get(self.path.strip('/'))
        if data is None or fault.startswith('status:'):
            return self.send_error(404 if data is None else int(fault[7:]))
        start = self.start(state, len(data))
        if start >= len(data) > 0:
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header('Content-Range', f'bytes {start}-{len(data) - 1}/{len(data)}')
        if state.states_size:
            self.send_header('Content-Length', str(len(data) - start))
        for name, value in (('ETag', state.etag), ('Last-Modified', state.modified)):
            if value:
                self.send_header(name, value)
        self.end_headers()
        if body:
            self.send(data[start:], fault, state)

    def start(self, state, size):
        wanted, version = self.headers.get('Range'), self.headers.get('If-Range')
        changed = state.heeds_if_range and version and version not in (state.etag, state.modified)
        return int(wanted[6:-1]) if wanted and state.ranges and not changed else 0

    def send(self, data, fault, state):
        kind, _, count = fault.partition(':')
        if kind == 'wrong':
            data = bytes(255 - byte for byte in data)
        self.wfile.write(data[: int(count)] if count else data)
        self.wfile.flush()
        if kind == 'stall':
            state.over.wait(5)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    http = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    http.state = FileServer(f'http://127.0.0.1:{http.server_port}/')
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield http.state
    http.state.over.set()
    http.shutdown()
    http.server_close()


@pytest.fixture
def hasty():
    """No test waits."""
    return Patience(timeout=0.3, attempts=3, pause=0.001)


@pytest.fixture(scope='session')
def official(tmp_path_factory):
    """Small archives with the official names and inner folders, with the superpixels and litter that come along."""
    root = tmp_path_factory.mktemp('official')
    SyntheticLesions(seed=3, shape=(48, 64)).write(root / 'set', num_train=6, num_val=3, num_test=3)
    folder = root / 'archives'
    folder.mkdir()
    for name in SPLITS.values():
        for part in ('Data', 'Part1_GroundTruth'):
            pack(root / 'set' / f'{name}_{part}', folder / f'{name}_{part}.zip')
        table = f'{name}_Part3_GroundTruth.csv'
        (folder / table).write_bytes((root / 'set' / table).read_bytes())
    return folder


def pack(source, target):
    with zipfile.ZipFile(target, 'w') as file:
        for path in sorted(source.iterdir()):
            file.write(path, f'{source.name}/{path.name}')
            if path.suffix == '.jpg':
                file.writestr(f'{source.name}/{path.stem}_superpixels.png', b'superpixels')
        file.writestr('__MACOSX/._junk', 'junk')


@pytest.fixture
def catalogue():
    """The real one, in which ISIC-2017 has these archives: no checksums, no addresses, and as many images."""
    known = CATALOGUE['isic2017']
    archives = tuple(replace(archive, checksum='') for archive in known.archives)
    return {**CATALOGUE, 'isic2017': replace(known, archives=archives, folders=())}


@pytest.fixture
def serving(server, official):
    """The server with these archives."""
    server.files = {path.name: path.read_bytes() for path in official.iterdir()}
    return server
