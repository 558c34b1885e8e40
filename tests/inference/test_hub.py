"""Models on the Hugging Face Hub: fetched from, and put on, a server on this machine that speaks its file API."""

import base64
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from mmskin import LesionInferencer
from mmskin.errors import Mistake
from mmskin.inference.zoo import model_folder

COMMIT = '0' * 39 + '1'


class Hub(BaseHTTPRequestHandler):
    """Repositories by name, each a dict of files; notes what it is asked."""

    def do_GET(self) -> None:
        self.server.asked.append(f'{self.command} {self.path}')
        path = self.path.partition('?')[0]
        if path.startswith('/api/models/'):
            name = '/'.join(path.split('/')[3:5])
            files = self.server.repositories.get(name)
            tree = [{'type': 'file', 'path': key, 'size': len(data), 'oid': 'x'} for key, data in (files or {}).items()]
            info = {'id': name, 'sha': COMMIT, 'siblings': [{'rfilename': key} for key in files or ()]}
            return self.reply(tree if '/tree/' in path else info) if files is not None else self.missing('RepoNotFound')
        name, _, file = path.strip('/').partition('/resolve/')
        file = file.partition('/')[2]
        data = self.server.repositories.get(name, {}).get(file)
        return self.missing('EntryNotFound') if data is None else self.reply(data)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.server.asked.append(f'{self.command} {self.path}')
        body = self.rfile.read(int(self.headers.get('content-length') or 0))
        if self.path == '/api/repos/create':
            return self.reply({'url': f'{self.server.address}/me/mine', 'name': 'me/mine', 'id': 'me/mine'})
        if self.path == '/api/validate-yaml':  # of a card
            return self.reply({'errors': [], 'warnings': []})
        if '/preupload/' in self.path:
            files = json.loads(body)['files']
            return self.reply({'files': [{**one, 'uploadMode': 'regular', 'shouldIgnore': False} for one in files]})
        assert '/commit/' in self.path, self.path
        lines = [json.loads(line) for line in body.splitlines()]
        files = {
            one['value']['path']: base64.b64decode(one['value']['content']) for one in lines if one['key'] == 'file'
        }
        self.server.repositories['me/mine'] = files
        return self.reply({'commitUrl': f'{self.server.address}/me/mine/commit/{COMMIT}', 'commitOid': COMMIT})

    def reply(self, content: object) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(200)
        self.send_header('content-length', str(len(data)))
        self.send_header('content-type', 'application/octet-stream' if content is data else 'application/json')
        self.send_header('x-repo-commit', COMMIT)
        self.send_header('etag', f'"{hashlib.sha1(data).hexdigest()}"')
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(data)

    def missing(self, code: str) -> None:
        self.send_response(404)
        self.send_header('x-error-code', code)
        self.send_header('content-length', '0')
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(('127.0.0.1', 0), Hub) as server:
        server.address, server.asked = f'http://127.0.0.1:{server.server_port}', []
        folder = model_folder().config.parent
        server.repositories = {
            'owner/name': {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        }
        server.repositories['owner/name']['config.json'] = b'{"model": "evil", "device": "cpu"}'
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def run(hub: ThreadingHTTPServer, home: object, code: str) -> str:
    """What a Python process prints whose Hub is ours; the library reads the address as it is imported."""
    environment = {**os.environ, 'HF_ENDPOINT': hub.address, 'HF_HOME': str(home), 'HF_TOKEN': 'hf_x'}
    environment |= {'HF_HUB_DISABLE_XET': '1', 'HF_HUB_DISABLE_TELEMETRY': '1', 'NO_PROXY': '127.0.0.1'}
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_model_is_fetched_once_and_put_on_the_hub(hub: ThreadingHTTPServer, tmp_path: object) -> None:
    code = """
from mmskin import LesionInferencer
from mmskin.inference.zoo import model_folder
found = LesionInferencer.from_pretrained('owner/name', trust_remote_code=True, device='cpu')
sample = 'SAMPLE'
assert found(sample).probabilities == LesionInferencer(device='cpu')(sample).probabilities
assert found.novelty is not None
found.push_to_hub('me/mine')
LesionInferencer.from_pretrained('owner/name', trust_remote_code=True, device='cpu', local_files_only=True)
"""
    sample = model_folder().config.parents[2] / 'samples' / 'painted_1.jpg'
    run(hub, tmp_path, code.replace('SAMPLE', str(sample)))
    assert hub.repositories['me/mine'].keys() == hub.repositories['owner/name'].keys()
    for name, data in hub.repositories['owner/name'].items():
        assert name == 'config.json' or hub.repositories['me/mine'][name] == data
    assert str(tmp_path).encode() not in hub.repositories['me/mine']['config.json']
    fetched = [one for one in hub.asked if one.startswith('GET /owner/name/resolve') and 'weights' in one]
    assert len(fetched) == 1


def test_code_of_others_runs_only_if_they_are_trusted(hub: ThreadingHTTPServer, tmp_path: object) -> None:
    hub.repositories['owner/name']['config.py'] = b'print("it ran")'
    code = """
from mmskin import LesionInferencer
try:
    LesionInferencer.from_pretrained('owner/name')
except ValueError as error:
    print(error)
"""
    told = run(hub, tmp_path, code)
    assert 'owner/name: its config is Python' in told and 'trust_remote_code=True' in told
    assert 'it ran' not in told
    assert not [one for one in hub.asked if 'config.py' in one]


def test_a_folder_is_read_as_it_is() -> None:
    folder = model_folder().config.parent
    assert LesionInferencer.from_pretrained(folder, device='cpu').classes == LesionInferencer(device='cpu').classes


def test_what_is_no_model_folder_is_not_saved(tmp_path: object) -> None:
    config, weights, _ = model_folder()
    copy = tmp_path / 'weights.safetensors'
    copy.write_bytes(weights.read_bytes())
    with pytest.raises(Mistake, match='only model folders go to the Hub'):
        LesionInferencer(config, copy, device='cpu').save_pretrained(tmp_path / 'out')
