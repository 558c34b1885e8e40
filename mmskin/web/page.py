"""The page itself: where images are dropped, and where the answer comes."""

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.resources import files
from itertools import count
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mmskin.errors import needs
from mmskin.files import file_key
from mmskin.inference.inferencer import LesionInferencer
from mmskin.models.fusion import Categorical, Input
from mmskin.web.answer import answer_html, look_at, samples_html
from mmskin.web.limits import MEGA, Limits

if TYPE_CHECKING:
    import gradio

logger = logging.getLogger(__name__)
ABOUT = """# mmskin

<div class="mmskin-notice"><b>Research software, not a medical device.</b>
Do not use it to decide about anyone's health. The network has learned from a few thousand dermoscopic images, and
notices only roughly when one shows something else. Show any mole that worries you to a doctor.</div>
"""
QUEUE = 256  # questions that wait, some bytes each: their images are in the quota of all uploads
Upload = tuple[str, Path]  # the name that its owner gave it, and where the file lies until it is read


def build_page(inferencer: LesionInferencer, limits: Limits, title: str, computing: Lock) -> 'gradio.Blocks':
    """The page; requests are answered one after the other, each while it holds ``computing``.

    Gradio takes the folder for uploads from the environment as this is called: see ``private_uploads``.
    """
    gradio = import_gradio()

    def answer(uploads: Sequence[Upload] | None, *values: Any) -> tuple[None, str]:
        inputs = dict(zip(inferencer.inputs_beside, values, strict=True))
        with computing:
            return None, predict_uploads(inferencer, limits, uploads or (), inputs)

    with gradio.Blocks(title='mmskin', analytics_enabled=False) as page:
        gradio.Markdown(ABOUT)
        with gradio.Row():  # before the images, whose drop brings the answer
            fields = [field(name, described) for name, described in inferencer.inputs_beside.items()]
        images = gradio.File(
            label='Drop one or several images here', file_count='multiple', height=150, elem_id='mmskin-images'
        )
        # names and files, checked to lie in Gradio's folder; the component's own leaves an empty file behind for each
        images.preprocess = lambda payload: [(f.orig_name or Path(f.path).name, Path(f.path)) for f in payload or ()]
        gradio.Markdown(
            f'At most {limits.images} images at a time, each of {limits.megabytes:g} MB and '
            f'{limits.pixels / MEGA:g} million pixels: JPEG, PNG, TIFF, BMP, WebP or DICOM. '
            f'Nothing is kept of them after the answer. Model: {title}.'
        )
        gradio.HTML(samples_html(), js_on_load=None)
        result = gradio.HTML(js_on_load=part('page.js'), elem_id='mmskin-result')
        images.upload(answer, [images, *fields], [images, result], concurrency_limit=1, api_visibility='private')
    return page.queue(max_size=QUEUE, api_open=False)


def field(name: str, one: Input) -> 'gradio.components.Component':
    """Where one input other than the image is entered; it is unknown at first."""
    gradio = import_gradio()
    label, min_width = f'{name}, if known: set it before you drop the image', 240  # one below the other on a phone
    if isinstance(one, Categorical):
        choice = gradio.Dropdown(
            ['unknown', *one.values], value='unknown', label=label, min_width=min_width, interactive=True
        )
        choice.preprocess = lambda value: value  # its own raises at any other, and the server's log has a traceback
        return choice
    return gradio.Textbox(label=label, placeholder=one.allowed, min_width=min_width, interactive=True)


def predict_uploads(
    inferencer: LesionInferencer, limits: Limits, uploads: Sequence[Upload], inputs: Mapping[str, Any] | None = None
) -> str:
    """The answer as HTML, with ``inputs`` beside each image; whatever happens, the files are gone afterwards."""
    taken: set[str] = set()
    results: list[dict[str, Any] | str] = []
    try:
        for name, path in uploads[: limits.images]:
            stem = Path(name).stem  # of two files of one name, the second one's results would replace the first one's
            numbered = (stem if number == 1 else f'{stem}_{number}' for number in count(1))
            image_id = next(name for name in numbered if file_key(name) not in taken)
            taken.add(file_key(image_id))
            try:
                limits.check(path.stat().st_size, name)
                source = replace(limits.source(path.read_bytes(), name), image_id=image_id, inputs=inputs or {})
                results.append(look_at(inferencer, source))
            except OSError:  # its message would tell where files lie here
                results.append(f'{name}: could not be read; drop it once more')
            except (ValueError, ModuleNotFoundError) as error:
                results.append(str(error))
            except Exception:  # of this image alone: the others have their answers
                logger.exception('an image got no answer')  # without its name, since nothing is kept of it
                results.append(f'{name}: no answer, since the computation failed, perhaps for want of memory')
    finally:
        for _, path in uploads:
            remove(path)
    results += [
        f'{name}: not looked at; this page takes {limits.images} images at a time'
        for name, _ in uploads[limits.images :]
    ]
    return answer_html(inferencer.classes, results)


def remove(path: Path) -> None:
    """Remove an upload and the folder that is its own, unless that has happened."""
    with suppress(OSError):
        path.unlink()
    with suppress(OSError):
        path.parent.rmdir()


def part(name: str) -> str:
    """A file of this package."""
    return files('mmskin.web').joinpath(name).read_text(encoding='utf-8')


def import_gradio() -> ModuleType:
    """Gradio, with its reports about its use switched off."""
    os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'
    return needs('gradio', 'serve')
