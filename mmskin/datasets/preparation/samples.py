"""A dozen images of the ISIC archive, to try mmskin on real lesions: fetched by their ids, if they are still CC-0.

Neither sizes nor hashes of the files are published in advance. The archive's answer about an image states its licence,
size and address; what came first is noted, and later runs compare with that.
"""

import hashlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from mmskin.datasets.preparation.download import Patience, download
from mmskin.errors import Mistake
from mmskin.files import read_json, read_note, write_csv, write_note
from mmskin.readers.images import IMAGE_FILES, MAX_PIXELS, most_bytes, read_image
from mmskin.structures import is_known

API = 'https://api.isic-archive.com/api/v2/images/'  # .../ISIC_0000000/ describes an image
LICENCE = 'CC-0'
MANIFEST, TABLE = 'samples.json', 'samples.csv'
MOST_TOLD = 1_000_000  # bytes of a description
# of ISIC-2017's validation, which the network that ships has not trained on; none is a copy of a training image
SAMPLES: Mapping[str, str] = {
    'ISIC_0012099': 'melanoma',
    'ISIC_0012151': 'melanoma',
    'ISIC_0012434': 'melanoma',
    'ISIC_0013232': 'melanoma',
    'ISIC_0009995': 'nevus',
    'ISIC_0010459': 'nevus',
    'ISIC_0012660': 'nevus',
    'ISIC_0013793': 'nevus',
    'ISIC_0014568': 'seborrheic_keratosis',
    'ISIC_0014597': 'seborrheic_keratosis',
    'ISIC_0014601': 'seborrheic_keratosis',
    'ISIC_0014608': 'seborrheic_keratosis',
}


def fetch_samples(
    out_dir: str | Path, api: str = API, patience: Patience | None = None
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Fetch the images that are not there yet, and check all.

    The folder gets the images, ``samples.json`` with each one's size, hash, licence and attribution, and
    ``samples.csv`` with diagnosis, age and sex, as ``mmskin predict --metadata`` reads it.

    Args:
        out_dir: made if it is not there.
        api: the address below which the archive describes its images.
        patience: how long to try.

    Returns:
        what is noted of each image that is there, by id, and why others are not.

    Raises:
        Mistake: if the archive does not answer; what has come is kept, and the next call continues from there.
    """
    out_dir = Path(out_dir)
    try:
        known = read_note(out_dir / MANIFEST)
    except FileNotFoundError:
        known = {}
    except Mistake as error:
        raise Mistake(f'{out_dir / MANIFEST}: damaged; remove it, and the images are fetched again') from error
    faults = []
    for image_id, diagnosis in SAMPLES.items():
        noted = known.get(image_id, {})
        path = out_dir / noted.get('file', image_id)
        if noted and path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == noted['sha256']:
            continue
        description = out_dir / f'{image_id}.json'
        out_dir.mkdir(parents=True, exist_ok=True)
        urls, advice = [f'{api.rstrip("/")}/{image_id}/'], ', or name another address by --api'
        _, facts = download(
            urls, description, partial(describe, image_id=image_id), patience, advice=advice, most=MOST_TOLD
        )
        try:
            if facts['licence'] != LICENCE:
                raise Mistake(f'{image_id} is now under {facts["licence"]}, not {LICENCE}; it is left out')
            path = out_dir / f'{image_id}{facts["ending"]}'
            check = partial(verify, size=facts['bytes'], noted=noted)
            _, sha256 = download([facts['address']], path, check, patience, most=facts['bytes'])
        except Mistake as error:
            faults.append(str(error))
            continue
        finally:
            description.unlink(missing_ok=True)
        del facts['address'], facts['ending']  # it expires
        known[image_id] = {'file': path.name, 'sha256': sha256, 'diagnosis': diagnosis, **facts}
        write_note(out_dir / MANIFEST, known)
    there = {image_id: known[image_id] for image_id in SAMPLES if image_id in known}
    columns = ('diagnosis', 'age', 'sex', 'licence', 'attribution')
    rows = ([image_id, *(noted[column] for column in columns)] for image_id, noted in there.items())
    write_csv(out_dir / TABLE, [('image_id', *columns), *rows])
    return there, faults


def describe(path: Path, image_id: str) -> dict[str, Any]:
    """What the archive says of an image: licence, attribution, age, sex, and its file's address, ending and bytes."""
    try:
        answer = read_json(path)
        full, clinical = answer['files']['full'], answer['metadata'].get('clinical', {})
        address = urlsplit(full['url'])
        ending = PurePosixPath(address.path).suffix.lower() or '.jpg'
        if answer['isic_id'] != image_id or address.scheme not in ('http', 'https') or ending not in IMAGE_FILES:
            raise ValueError('another image, or no file of one')
        if not 1 <= int(full['size']) <= most_bytes(MAX_PIXELS):
            raise ValueError(f'a file of {int(full["size"])} bytes')
        return {
            'address': full['url'],
            'ending': ending,
            'bytes': int(full['size']),
            'licence': in_print(answer['copyright_license']),
            'attribution': in_print(answer['attribution']),
            'age': in_print(clinical['age_approx']) if is_known(clinical.get('age_approx')) else '',
            'sex': in_print(clinical['sex']) if is_known(clinical.get('sex')) else '',
        }
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise Mistake(f'the ISIC archive describes {image_id} in an unknown way ({error})') from error


def in_print(value: Any) -> str:
    """A text as a terminal can take it: without what it would obey."""
    return ''.join(letter if letter.isprintable() else ' ' for letter in str(value)[:200])


def verify(path: Path, size: int, noted: Mapping[str, Any]) -> str:
    """The SHA-256 of a file, which has to have the stated size, be an image, and be what was fetched before, if any."""
    content = path.read_bytes()
    if len(content) != size:
        raise Mistake(f'{len(content)} bytes arrived, but the archive states {size}')
    read_image(content, name=path.name)
    sha256 = hashlib.sha256(content).hexdigest()
    if noted and noted['sha256'] != sha256:
        raise Mistake(f'it is another image than was fetched before; remove {MANIFEST} if you trust it')
    return sha256
