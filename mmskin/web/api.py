"""The service: POST an image, get JSON. Networks answer in processes of Ray Serve; the door before them is our own.

Ray's own HTTP proxy has no limit to a request's size. Here a request meets the limits first, and only then a network,
so that memory has a bound whatever comes.
"""

import asyncio
import logging
import os
import re
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import LoggingConfig
from starlette.datastructures import UploadFile
from starlette.responses import JSONResponse, Response

import mmskin
from mmskin.cluster import connected
from mmskin.errors import Mistake, executing, in_one_line
from mmskin.files import json_text
from mmskin.web.door import Address, Door, Refusal, body_of, form_of, is_form, listening
from mmskin.web.limits import MEGA, Limits

if TYPE_CHECKING:
    from mmskin.inference.image_sources import ImageSource

logger = logging.getLogger(__name__)
APPLICATION = 'mmskin'
ABOUT = 'Names the disease and outlines the lesion in an image. Research software, not a medical device.'
ERRORS = {
    400: 'No image, a damaged one, too many pixels, or a value that the network does not take.',
    408: 'The request came too slowly.',
    413: 'The file is too large.',
    422: 'An invalid parameter.',
    503: 'Too many wait already, or too many to answer in time; try again after `Retry-After` seconds.',
    504: 'No answer in time, to this and to no other request: a network hangs.',
}
PATIENCE = 600  # seconds for networks to be read
PART = 0.8  # of the timeout is the longest wait that is begun: a guess may be wrong


@dataclass(frozen=True)
class Load:
    """How much the service does at a time.

    Attributes:
        replicas: Processes with a network each; by default one for each GPU, or one.
        batch_size: Images that a network sees at once, if so many wait; by default 8 on a GPU and 1 on a CPU.
        queue: Images that may wait for a network; the next one hears 503.
        timeout: Seconds for an answer, waiting included.
    """

    replicas: int | None = None
    batch_size: int | None = None
    queue: int = 64
    timeout: float = 30

    def __post_init__(self) -> None:
        if min(self.queue, self.timeout, self.replicas or 1, self.batch_size or 1) <= 0:
            raise Mistake(f'{self}: --replicas, --batch-size, --queue and --timeout must be above 0')


@serve.deployment(name='network')
class Network:
    """A network in a process of Ray's."""

    def __init__(self, model: Mapping[str, Any], batch_size: int, limits: Limits, threads: int) -> None:
        import ray

        if ray.util.get_node_ip_address() == '127.0.0.1':  # or a port of Serve's own is open to all, as of Ray 2.60
            from ray.serve._private import replica

            add_port = replica.add_port_to_grpc_server
            local = '127.0.0.1'
            replica.add_port_to_grpc_server = lambda server, place: add_port(server, place.replace('[::]', local))
        self.limits = limits
        self.fault = ''
        self.look.set_max_batch_size(batch_size)  # type: ignore[attr-defined]
        try:
            with executing(str(model.get('model') or 'the model that ships')):
                import torch

                from mmskin.inference.inferencer import LesionInferencer

                torch.set_num_threads(threads)
                self.inferencer = LesionInferencer(**model, batch_size=batch_size)
        except Mistake as error:  # Ray would try again and again, and tell it in a traceback
            self.fault = in_one_line(error)

    def about(self) -> tuple[str, dict[str, str]]:
        """Why there is no network, or nothing; and what it is given with an image, with what that may be."""
        inputs = {} if self.fault else self.inferencer.inputs_beside
        return self.fault, {name: described.allowed for name, described in inputs.items()}

    async def __call__(
        self, content: bytes, name: str, inputs: Mapping[str, str], mm_per_pixel: float | None, contours: bool
    ) -> tuple[str | bytes, int]:
        """The answer as JSON, or what is wrong with the image as text; and how many images the network saw with it."""
        try:
            self.inferencer.check_metadata(inputs, f'{name}: ')
            source = replace(self.limits.source(content, name), inputs=inputs, mm_per_pixel=mm_per_pixel)
        except Mistake as error:
            return in_one_line(error), 0
        return await self.look((source, contours))

    @serve.batch(batch_wait_timeout_s=0)  # what waits goes together; nobody waits for company
    async def look(self, images: 'list[tuple[ImageSource, bool]]') -> list[tuple[str | bytes, int]]:
        """The answers for images that wait at the same time."""
        return await asyncio.to_thread(self.predict, images)  # meanwhile further ones arrive

    def predict(self, images: 'list[tuple[ImageSource, bool]]') -> list[tuple[str | bytes, int]]:
        """The same, in a thread."""
        from mmskin.inference.prediction import FailedImage

        answers: list[tuple[str | bytes, int]] = []
        try:
            for item, (_, contours) in zip(
                self.inferencer.iterate([image for image, _ in images]), images, strict=True
            ):
                if isinstance(item, FailedImage):
                    answers.append((in_one_line(item.error), len(images)))
                else:
                    answers.append((json_text(item.to_dict(contours)).encode(), len(images)))
        except Exception:
            if len(images) == 1:
                raise
            return [answer for image in images for answer in self.predict([image])]  # the others have their answers
        return answers


class ServiceDoor(Door):
    """Lets through what is asked of the service; it answers in JSON."""

    name = 'service'
    again = b'1'
    open = {'GET': re.compile(r'/health|/metrics|/openapi\.json'), 'POST': re.compile('/predict')}

    def refuse(self, refusal: Refusal) -> Response:
        """The same in JSON."""
        return error_response(refusal.status, str(refusal))


def error_response(status: int, text: str) -> Response:
    """What went wrong, in one line."""
    return JSONResponse({'error': text}, status, {'connection': 'close'} if status >= 400 else {})


class Pace:
    """How long the networks take for an image, from the intervals between their last answers while others waited."""

    def __init__(self) -> None:
        self.asked = 0  # images that have no answer yet
        self.since = time.monotonic()  # when the last answer came, or the first image after a pause
        self.answered = 0
        self.intervals: deque[float] = deque(maxlen=32)  # some batches, whose answers come at once

    def begin(self) -> None:
        """An image goes to the networks."""
        if not self.asked:
            self.since = time.monotonic()
        self.asked += 1

    def end(self, is_answered: bool) -> None:
        """It has its answer, or nobody waits for it any more."""
        self.asked -= 1
        if is_answered:
            self.answered += 1
            self.intervals.append(time.monotonic() - self.since)
            self.since = time.monotonic()

    def wait(self) -> float:
        """Seconds after which an image that comes now may expect its answer; 0 as long as nothing is known."""
        intervals = [*self.intervals]
        if intervals and self.asked:
            usual = sum(intervals) / len(intervals)
            intervals.append(max(usual, time.monotonic() - self.since))  # the present one lasts at least so long
        return (self.asked + 1) * sum(intervals) / max(1, len(intervals))


class Service:
    """What stands between the door and the networks: it reads a request, waits for its answer, and counts.

    Args:
        handle: The networks.
        limits: What is taken.
        load: How long a request may wait.
        inputs: What the networks are given with an image, with what that may be.
    """

    def __init__(self, handle: DeploymentHandle, limits: Limits, load: Load, inputs: Mapping[str, str]) -> None:
        self.handle, self.limits, self.load, self.inputs = handle, limits, load, inputs
        self.held = 0  # bytes of requests that have no answer yet
        self.pace = Pace()
        self.seen = (0.0, 0)  # when somebody counted the networks that run, and how many they were
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter('mmskin_requests', 'Requests by status.', ['status'], registry=self.registry)
        self.seconds = Histogram(
            'mmskin_request_seconds',
            'From the head of a request to its answer, waiting included.',
            registry=self.registry,
        )
        self.batches = Histogram(
            'mmskin_batch_images',
            'Images that a network saw at once.',
            buckets=(1, 2, 4, 8, 16, 32),
            registry=self.registry,
        )
        self.waiting = Gauge('mmskin_requests_in_progress', 'Requests without an answer.', registry=self.registry)
        held = Gauge('mmskin_held_bytes', 'Of requests without an answer.', registry=self.registry)
        held.set_function(lambda: self.held)

    def app(self) -> FastAPI:
        """The routes, with their description as OpenAPI."""
        app = FastAPI(title='mmskin', version=mmskin.__version__, description=ABOUT, docs_url=None, redoc_url=None)
        binary = {'schema': {'type': 'string', 'format': 'binary'}}
        form = {'schema': {'type': 'object', 'properties': {'image': binary['schema']}, 'required': ['image']}}
        beside = [
            {'name': name, 'in': 'query', 'schema': {'type': 'string'}, 'description': f'{allowed}, if known'}
            for name, allowed in self.inputs.items()
        ]
        body = {'required': True, 'content': {'image/*': binary, 'multipart/form-data': form}}
        errors: dict[int | str, dict[str, Any]] = {status: {'description': text} for status, text in ERRORS.items()}
        extra = {'requestBody': body, 'parameters': beside}
        app.post('/predict', responses=errors, openapi_extra=extra, summary='The answer for one image')(self.predict)
        app.get('/health', summary='Whether networks run')(self.health)
        app.get('/metrics', summary='Counts for Prometheus')(self.metrics)

        @app.exception_handler(Refusal)
        async def refused(request: Request, refusal: Refusal) -> Response:
            return error_response(refusal.status, str(refusal))

        @app.exception_handler(RequestValidationError)
        async def invalid(request: Request, error: RequestValidationError) -> Response:
            first = error.errors()[0]
            return error_response(422, f'{first["loc"][-1]}: {first["msg"]}')

        return app

    async def predict(
        self,
        request: Request,
        name: Annotated[str | None, Query(description='of the image, for the answer', max_length=200)] = None,
        contours: Annotated[bool, Query(description='with outlines')] = False,
        mm_per_pixel: Annotated[float | None, Query(ge=1e-6, le=1e3, description='scale of the image')] = None,
    ) -> Response:
        """The object that ``mmskin predict --json`` writes; the image is the body, or ``image`` of a form."""
        began, status = time.perf_counter(), 500
        asked = {'name', 'contours', 'mm_per_pixel'}
        given = [key for key, _ in request.query_params.multi_items()]
        inputs = {key: value for key, value in request.query_params.items() if key not in asked}  # '' is unknown
        self.waiting.inc()
        try:
            if twice := [key for key in request.query_params if given.count(key) > 1]:
                raise Refusal(422, f'{twice[0]}: given twice')
            async with self.received(request) as (content, file_name):
                title = name or file_name or 'image'
                self.limits.check(len(content), title)
                reply, images = await self.answer(request, (content, title, inputs, mm_per_pixel, contours))
            if isinstance(reply, str):
                raise Refusal(400, reply)
            self.batches.observe(images)
            status = 200
            return Response(reply, media_type='application/json')
        except Mistake as mistake:
            status = 400
            raise Refusal(status, in_one_line(mistake)) from mistake
        except Refusal as refusal:
            status = refusal.status
            raise
        finally:
            self.waiting.dec()
            self.requests.labels(status).inc()
            self.seconds.observe(time.perf_counter() - began)

    @asynccontextmanager
    async def received(self, request: Request) -> AsyncIterator[tuple[bytes, str | None]]:
        """The image of a request and its name; it counts towards all that is held until the block ends.

        Raises:
            Refusal: if it is above a limit, too slow, or holds no image.
        """
        as_form = is_form(request.headers)
        most = self.limits.file_bytes + (MEGA if as_form else 0)
        stated = request.headers.get('content-length', '')
        size = min(int(stated), most) if stated.isdecimal() else 0  # at once: halves of all would leave room for none
        full = self.held + size > self.limits.total_bytes
        self.held += 0 if full else size
        try:
            parts = []
            async for part in body_of(request.scope, request.receive, most, self.limits.seconds):
                if not full:  # a connection that is closed before all is read is reset, and the reason is lost
                    parts.append(part)
            if full:
                raise Refusal(503, 'too many images are waiting here for their answers; try again in a second')
            content = b''.join(parts)
            parts.clear()
            yield await image_in(request, content) if as_form else (content, None)
        finally:
            self.held -= 0 if full else size

    async def answer(self, request: Request, question: tuple) -> tuple[str | bytes, int]:
        """What a network says.

        Raises:
            Refusal: if too many wait, if it takes too long, if the other side hangs up, or if the network fails.
        """
        if self.pace.asked and self.pace.wait() > PART * self.load.timeout:
            raise Refusal(503, f'{self.pace.asked} images are waiting here already; try again in a second')
        before = self.pace.answered

        response = self.handle.remote(*question)
        answer = asyncio.ensure_future(response)
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody asks a cancelled one
        gone = asyncio.ensure_future(request.receive())  # all is read, so that this waits for the end of the connection
        self.pace.begin()
        try:
            await asyncio.wait({answer, gone}, timeout=self.load.timeout, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                response.cancel()
                if self.pace.answered > before:  # slower than it was, but others have their answers
                    raise Refusal(503, f'{self.pace.asked} images are waiting here already; try again in a second')
                raise Refusal(504, f'no answer within {self.load.timeout:g} seconds; try again later')
            return answer.result()
        except BackPressureError as error:
            raise Refusal(503, f'{self.load.queue} images are waiting here already; try again in a second') from error
        except RayTaskError as error:
            logger.error('an image got no answer: %s', in_one_line(error.cause))  # without its name
            raise Refusal(500, 'no answer, since the computation failed, perhaps for want of memory') from error
        except (RayError, RayServeException) as error:
            raise Refusal(503, 'the network stopped and is read again; try again in some seconds') from error
        finally:
            self.pace.end(answer.done() and not answer.cancelled() and answer.exception() is None)
            answer.cancel()
            gone.cancel()

    async def health(self) -> Response:
        """Whether a network runs; asked for at most once a second."""
        when, running = self.seen
        if time.monotonic() - when > 1:
            states = (await asyncio.to_thread(serve.status)).applications[APPLICATION].deployments['network']
            running = sum(count for state, count in states.replica_states.items() if state == 'RUNNING')
            self.seen = time.monotonic(), running
        health = {'status': 'ok' if running else 'no network runs', 'networks': running}
        return JSONResponse(health, 200 if running else 503)

    async def metrics(self) -> Response:
        """What was counted, as Prometheus reads it."""
        return Response(generate_latest(self.registry), media_type='text/plain; version=0.0.4')


async def image_in(request: Request, form: bytes) -> tuple[bytes, str | None]:
    """The image of a form, and its name."""

    async def parts() -> AsyncGenerator[bytes, None]:
        yield form

    fields = await form_of(request.headers, parts(), 1)
    try:
        image = fields.get('image')
        if not isinstance(image, UploadFile):
            raise Refusal(400, 'the form has no file "image"')
        if len(fields.getlist('image')) > 1:
            raise Refusal(422, 'image: given twice')
        if others := [name for name in fields if name != 'image' and not name.startswith('_')]:  # as browsers add
            raise Refusal(422, f'{others[0]}: not read in a form; say it in the address, as /predict?{others[0]}=...')
        return await image.read(), image.filename
    finally:
        await fields.close()


@contextmanager
def answering(
    model: Mapping[str, Any], limits: Limits, load: Load, address: Address | None = None, ray: str | None = None
) -> Iterator[str]:
    """Inside the block, the service answers.

    Args:
        model: Arguments of ``LesionInferencer``.
        limits: What it takes.
        load: How much it does at a time.
        address: Where it listens; this machine alone, at any port, by default.
        ray: The address of a Ray cluster; by default one that is started here and ends with the block.

    Yields:
        The service's address.

    Raises:
        Mistake: if the address is taken, Ray does not start, or the network cannot be read.
    """
    address = address or Address()
    cores = os.cpu_count() or 1
    logging.getLogger('ray.serve').setLevel(logging.ERROR)  # of each 503 it would tell
    with address.listen() as listener, connected(ray, num_cpus=cores + (load.replicas or 0)) as cluster:
        gpus = 0 if str(model.get('device') or '').startswith('cpu') else int(cluster.cluster_resources().get('GPU', 0))
        replicas = load.replicas or gpus or 1
        batch_size = load.batch_size or (8 if gpus else 1)
        threads = int(os.environ.get('OMP_NUM_THREADS') or max(cores // replicas, 1))
        networks = Network.options(  # type: ignore[attr-defined]
            num_replicas=replicas,
            max_ongoing_requests=2 * batch_size,  # a batch that is looked at, and the next one
            max_queued_requests=load.queue,
            ray_actor_options={'num_cpus': 1, 'num_gpus': min(gpus / replicas, 1)},
            health_check_period_s=2,
            graceful_shutdown_timeout_s=1,
            graceful_shutdown_wait_loop_s=0.1,
        ).bind(dict(model), batch_size, limits, threads)
        serve.start(proxy_location='Disabled', logging_config=LoggingConfig(log_level='ERROR', enable_access_log=False))
        try:
            handle = serve.run(networks, name=APPLICATION, route_prefix=None)
            fault, inputs = handle.about.remote().result(timeout_s=PATIENCE)
            if fault:
                raise Mistake(fault)
            service = Service(handle, limits, load, inputs)
            with listening(ServiceDoor(service.app(), address), listener):
                yield address.url(listener)
        finally:
            serve.delete(APPLICATION)
