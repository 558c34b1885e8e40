"""Who waits for the networks of the service, and who is sent away; in place of networks, something slow."""

import asyncio
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from threading import Semaphore

import pytest

from mmskin.cluster import import_ray
from mmskin.errors import MissingLibrary
from mmskin.web.limits import Limits

try:
    import_ray()
except MissingLibrary as error:
    pytest.skip(str(error), allow_module_level=True)

import httpx  # noqa: E402
from starlette.responses import PlainTextResponse  # noqa: E402

from mmskin.web.api import Load, Service, ServiceDoor  # noqa: E402
from mmskin.web.door import Address, listening  # noqa: E402

TIMEOUT = 2.0


class Answer:
    """What a handle of Ray Serve gives for a question."""

    def __init__(self, answer):
        self.task = asyncio.ensure_future(answer)

    def __await__(self):
        return self.task.__await__()

    def cancel(self):
        self.task.cancel()


class SlowNetwork:
    """Answers one question after the other, each in so many seconds."""

    def __init__(self, seconds):
        self.seconds, self.free = seconds, asyncio.Lock()
        self.asked = []

    def remote(self, *question):
        self.asked.append(question)
        return Answer(self.look())

    async def look(self):
        async with self.free:
            await asyncio.sleep(self.seconds)
        return b'{}', 1


def crowd(seconds, counts):
    """The answers of crowds that come one after the other: status, text, and seconds."""

    async def ask(session):
        start = time.monotonic()
        response = await session.post('/predict', content=b'image')
        return response.status_code, response.text, time.monotonic() - start

    async def all_of_them():
        service = Service(SlowNetwork(seconds), Limits(), Load(timeout=TIMEOUT), {})
        transport = httpx.ASGITransport(app=service.app())
        async with httpx.AsyncClient(transport=transport, base_url='http://service', timeout=60) as session:
            return [await asyncio.gather(*(ask(session) for _ in range(count))) for count in counts]

    return asyncio.run(all_of_them())


def test_who_would_be_answered_too_late_hears_so_at_once():
    first, second = crowd(0.1, [60, 60])
    for answers in (first, second):
        statuses = Counter(status for status, _, _ in answers)
        assert statuses.keys() == {200, 503} and statuses[200] >= 3, statuses
        assert all('images are waiting here already' in text for status, text, _ in answers if status == 503)
    refused, answered = ([seconds for status, _, seconds in second if status == wanted] for wanted in (503, 200))
    assert median(refused) < max(answered)  # who is told too late waits as long as anybody, the timeout


def test_a_network_that_hangs_is_a_504():
    (answers,) = crowd(1000, [3])
    assert {status for status, _, _ in answers} == {504}
    assert all('no answer within 2 seconds' in text for _, text, _ in answers)


def test_one_after_the_other_is_never_sent_away():
    assert {answers[0][0] for answers in crowd(0.3, [1] * 8)} == {200}


@pytest.mark.parametrize(('field', 'status'), [('age', 422), ('nonsense', 422), ('_charset_', 200)])
def test_what_is_said_in_a_form_is_refused_not_ignored(field, status):
    async def ask():
        transport = httpx.ASGITransport(app=Service(SlowNetwork(0), Limits(), Load(), {'age': 'a number'}).app())
        async with httpx.AsyncClient(transport=transport, base_url='http://service') as session:
            return await session.post('/predict', files={'image': ('a.png', b'image')}, data={field: '45'})

    response = asyncio.run(ask())
    assert response.status_code == status
    assert status == 200 or response.json()['error'].startswith(f'{field}: not read in a form; say it in the address')


def test_nothing_in_the_address_is_passed_over():
    """A misspelt name without a value goes to the network, too, which refuses it."""
    network = SlowNetwork(0)

    async def ask():
        transport = httpx.ASGITransport(app=Service(network, Limits(), Load(), {'age': 'a number'}).app())
        async with httpx.AsyncClient(transport=transport, base_url='http://service') as session:
            await session.post('/predict?agee=&age=&contours=1', content=b'image')
            return await session.post('/predict', files={'image': ('a.png', b'image')}, data={'image': 'b.png'})

    response = asyncio.run(ask())
    assert network.asked == [(b'image', 'image', {'agee': '', 'age': ''}, None, True)]
    assert (response.status_code, response.json()) == (422, {'error': 'image: given twice'})


def test_what_was_posted_is_answered_as_the_server_ends():
    """And what is open for ever, such as a page, has nobody wait."""
    begun = Semaphore(0)

    async def answer(scope, receive, send):
        if scope['type'] == 'http':
            begun.release()
            while scope['method'] == 'GET' and (await receive())['type'] != 'http.disconnect':
                pass
            await asyncio.sleep(1)
            await PlainTextResponse('an answer')(scope, receive, send)

    with ThreadPoolExecutor() as pool, Address().listen() as listener:
        url = Address().url(listener)
        with listening(ServiceDoor(answer, Address()), listener):
            posted = pool.submit(httpx.post, f'{url}predict', timeout=60)
            opened = pool.submit(httpx.get, f'{url}health', timeout=60)
            assert begun.acquire(timeout=10) and begun.acquire(timeout=10)
            began = time.monotonic()
        assert time.monotonic() - began < 4
        assert posted.result().text == 'an answer'
        with pytest.raises(httpx.RemoteProtocolError):
            opened.result()
