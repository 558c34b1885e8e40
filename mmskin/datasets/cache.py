"""Images and masks as they are once loaded, written once and mapped into memory by every training."""

import hashlib
import itertools
import json
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL
import pyarrow as pa
import pyarrow.compute as pc
from filelock import FileLock, Timeout
from mmengine.dataset import BaseDataset, Compose
from torch.utils.data import DataLoader, Dataset

import mmskin
from mmskin.datasets.rows import Rows, stamp, write_rows
from mmskin.datasets.storage import read_stored
from mmskin.datasets.transforms.loading import LoadImage, LoadMask, ResizeImage
from mmskin.errors import MissingFile, Mistake
from mmskin.files import read_note, write_note

LOADING = (LoadImage, LoadMask, ResizeImage)  # they draw nothing, so a sample is the same in every epoch
SHARD_BYTES = 2**27
SHOWN = 10  # faulty images in an error


class CachedLoading:
    """Stands for the first steps of a pipeline: what they gave is read from a cache that ``mmskin cache`` wrote.

    An image or mask that has changed since is noticed by its size and time, and if these differ by its content. One
    that is not there any more is taken from the cache.

    Args:
        folder: what ``mmskin cache`` was told to write.
        steps: those of ``LOADING`` that the pipeline begins with.

    Raises:
        MissingFile: if nothing was written for these steps, or not all.
    """

    def __init__(self, folder: str | Path, steps: Sequence[Callable]) -> None:
        self.root, self.folder = Path(folder), place_of(folder, steps)
        if not (self.folder / 'cache.json').is_file():
            if any(self.folder.glob('*.arrow')):
                raise MissingFile(f'{self.root}: the cache is not finished; run mmskin cache again to continue')
            others = [' + '.join(read_note(note)['steps']) for note in sorted(self.root.glob('*/cache.json'))]
            stale = f'; there is {" and ".join(others)}' if others else ''
            wanted = ' + '.join(described(step) for step in steps)
            raise MissingFile(
                f'{self.root}: holds no cache of {wanted} with {" and ".join(libraries())}{stale}; '
                'run mmskin cache with this config, or leave cache out'
            )
        self.index = self.rows('index', all_of_it=True)
        self.shards: dict[int, Rows] = {}

    def rows(self, name: str, all_of_it: bool = False) -> Rows:
        """A table of the cache."""
        file = self.folder / f'{name}.arrow'
        try:
            return Rows(file, all_of_it=all_of_it)
        except (FileNotFoundError, Mistake) as error:
            raise Mistake(f'{file}: is missing or damaged; run mmskin cache again, which writes it again') from error

    def check(self, image_ids: Sequence[str]) -> None:
        """Make sure that all these images are in the cache."""
        known = pa.chunked_array(self.index.columns['image_id'], pa.string())
        lacking = pc.invert(pc.is_in(pa.array(image_ids, pa.string()), value_set=known))
        if count := pc.sum(lacking).as_py():
            first = image_ids[pc.index(lacking, True).as_py()]
            raise Mistake(
                f'{self.root}: is stale, it lacks {count} of the {len(image_ids)} images, such as {first}; '
                'run mmskin cache again, which adds them, or leave cache out'
            )

    def __call__(self, results: dict) -> dict:
        """Add what the steps would."""
        where = self.index.find('image_id', results['image_id'])
        if where is None:
            raise Mistake(f'{self.root}: is stale, it lacks {results["image_id"]}; run mmskin cache again')
        if where['shard'] not in self.shards:
            self.shards[where['shard']] = self.rows(f'{where["shard"]:06}')
        shard = self.shards[where['shard']]
        row = shard[where['row']] if where['row'] < len(shard) else {}
        if row.get('image_id') != results['image_id'] or row['checksum'] != checksum_of(row):
            file = self.folder / f'{where["shard"]:06}.arrow'
            raise Mistake(
                f'{file}: is damaged, it does not hold {results["image_id"]} as it was written; '
                'run mmskin cache again, which writes it again'
            )
        notes = json.loads(row['notes'])
        if changed := changed_source(results, notes['sources']):
            raise Mistake(f'{self.root}: is stale, {changed} has changed since; run mmskin cache again')
        results.update({key: tuple(v) if isinstance(v, list) else v for key, v in notes['values'].items()})
        for (key, (shape, form)), content in zip(notes['arrays'].items(), row['arrays'], strict=True):
            pixels = np.frombuffer(content if form == 'raw' else zlib.decompress(content), np.uint8)
            count = int(np.prod(shape))
            results[key] = (np.unpackbits(pixels, count=count) if form == 'bits' else pixels.copy()).reshape(shape)
        return results


def write_cache(
    datasets: Sequence[BaseDataset], folder: str | Path, workers: int = 0, shard_images: int = 4096
) -> Iterator[str]:
    """Write what the loading steps of data sets give, and say now and then how far it is.

    Shards of some hundred images appear whole. What is there and up to date stays; so an interrupted call, or one after
    images were added or changed, does only what is left.

    Args:
        datasets: ``TaskDataset``s, without a cache.
        folder: where; for each kind of steps there is a folder in it, with a digest of what went in (``cache.json``).
        workers: processes that load.
        shard_images: how many images a killed call loses at most; 128 MB make a shard, too.

    Raises:
        Mistake: if images are faulty (the others are written), the disk is too small, or another process writes there.
    """
    groups: dict[Path, dict[str, tuple[BaseDataset, int]]] = {}
    for dataset in datasets:
        if not dataset.loading:
            raise Mistake(f'{dataset.data_root}: its pipeline does not begin with LoadImage, so nothing can be cached')
        wanted = groups.setdefault(place_of(folder, dataset.loading), {})
        for index in range(len(dataset)):
            info = dataset.get_data_info(index)
            known, at = wanted.setdefault(info['image_id'], (dataset, index))
            if sources_of(known.get_data_info(at)) != sources_of(info):
                raise Mistake(f'{folder}: {info["image_id"]} is two images; cache their data sets in two folders')
    for place, wanted in groups.items():
        place.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(place / 'lock', timeout=0):
                yield from _write(place, wanted, workers, shard_images)
        except Timeout as error:
            raise Mistake(f'{place}: another process writes there; wait until it has ended') from error


def _write(place: Path, wanted: dict[str, tuple[BaseDataset, int]], workers: int, shard_images: int) -> Iterator[str]:
    """Write the images of one folder that are not there yet, and the index of all."""
    for part in place.glob('*.part'):
        part.unlink()
    done: dict[str, tuple[int, int]] = {}
    digests: list[str] = []
    for file in sorted(place.glob('[0-9]*.arrow')):
        with suppress(Mistake):
            rows = Rows(file, all_of_it=True)
            ids, notes = rows.column('image_id'), [json.loads(text)['sources'] for text in rows.column('notes')]
            known = [wanted.get(image_id) for image_id in ids]
            infos = [item and item[0].get_data_info(item[1]) for item in known]
            if all(info and not changed_source(info, seen) for info, seen in zip(infos, notes, strict=True)):
                done |= {image_id: (int(file.stem), row) for row, image_id in enumerate(ids)}
                digests += [f'{image_id} {sorted(seen.items())}' for image_id, seen in zip(ids, notes, strict=True)]
                continue
        file.unlink()
    pending = [item for image_id, item in wanted.items() if image_id not in done]
    with suppress(FileNotFoundError, Mistake):  # of what is damaged another is written
        images = read_note(place / 'cache.json')['images']
        if not pending and images == len(Rows(place / 'index.arrow', all_of_it=True)) == len(done):
            yield f'{len(done)} images are up to date'
            return
    (place / 'cache.json').unlink(missing_ok=True)
    if done:
        yield f'{len(done)} of {len(wanted)} images are there'
    taken = {int(file.stem) for file in place.glob('[0-9]*.arrow')}
    free = (number for number in itertools.count() if number not in taken)
    faults: list[str] = []
    shard: list[dict] = []
    for number, record in enumerate(_loaded(pending, workers), start=1):
        if isinstance(record, str):
            faults.append(record)
        else:
            shard.append(record)
        size = sum(len(content) for record in shard for content in record['arrays'])
        if shard and (size >= SHARD_BYTES or len(shard) == shard_images or number == len(pending)):
            needed, there = size * (len(pending) - number + len(shard)) / len(shard), shutil.disk_usage(place).free
            if needed > there:
                raise Mistake(f'{place}: about {needed / 1e6:.0f} MB are needed, and {there / 1e6:.0f} MB are free')
            name = next(free)
            table = pa.Table.from_pylist(shard, pa.schema(SCHEMA))
            write_rows(place / f'{name:06}.arrow', table)
            done |= {record['image_id']: (name, row) for row, record in enumerate(shard)}
            for record in shard:
                digests.append(f'{record["image_id"]} {sorted(json.loads(record["notes"])["sources"].items())}')
            shard = []
            yield f'{len(done)} of {len(wanted)} images'
    if faults:
        more = [f'and {len(faults) - SHOWN} more images'] if len(faults) > SHOWN else []
        raise Mistake('; '.join([*faults[:SHOWN], *more, 'the others are cached; correct these, and run it again']))
    ids = sorted(done)
    places = {'shard': [done[image_id][0] for image_id in ids], 'row': [done[image_id][1] for image_id in ids]}
    write_rows(place / 'index.arrow', pa.table({'image_id': ids, **places}))
    steps = [described(step) for step in next(iter(wanted.values()))[0].loading]
    digest = hashlib.sha256('\n'.join(sorted(digests)).encode()).hexdigest()
    write_note(place / 'cache.json', {'steps': steps, 'libraries': libraries(), 'images': len(done), 'digest': digest})


SCHEMA = {
    'image_id': pa.string(),
    'notes': pa.string(),
    'arrays': pa.list_(pa.large_binary()),
    'checksum': pa.int64(),
}


def checksum_of(record: dict) -> int:
    """What changes with notes and arrays of a record."""
    checksum = zlib.crc32(record['notes'].encode())
    for content in record['arrays']:
        checksum = zlib.crc32(content, checksum)
    return checksum


def files_at_fault(datasets: Sequence[BaseDataset], workers: int = 0) -> Iterator[str]:
    """Load all images and masks of data sets, and say of each that is missing or damaged what is wrong with it."""
    items = [(dataset, index) for dataset in datasets for index in range(len(dataset))]
    yield from (record for record in _loaded(items, workers, keeps=False) if isinstance(record, str))


class _Records(Dataset):
    """Samples as a cache keeps them, or what is wrong with one."""

    def __init__(self, items: Sequence[tuple[BaseDataset, int]], keeps: bool) -> None:
        self.items, self.keeps = items, keeps

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        dataset, at = self.items[index]
        info = dataset.get_data_info(at)
        try:
            stored = info.get('backend_args')
            sources = {role: _source(path, stored) for role, path in sources_of(info).items()} if self.keeps else {}
            results = Compose(dataset.loading)(dict(info))
        except (Mistake, OSError) as error:
            return str(error)
        if not self.keeps:
            return None
        values, arrays, contents = {}, {}, []
        for key, value in results.items():
            if not isinstance(value, np.ndarray):
                if key not in info:
                    values[key] = value
            elif value is not info.get(key):
                assert value.dtype == np.uint8, f'{key} is of {value.dtype}'
                form = 'raw' if key == 'img' else 'bits' if value.max(initial=0) <= 1 else 'levels'
                pixels = np.packbits(value) if form == 'bits' else np.ascontiguousarray(value)
                arrays[key] = [value.shape, form]
                contents.append(pixels.tobytes() if form == 'raw' else zlib.compress(pixels.tobytes(), 1))
        notes = json.dumps({'sources': sources, 'values': values, 'arrays': arrays})
        record = {'image_id': info['image_id'], 'notes': notes, 'arrays': contents}
        return {**record, 'checksum': checksum_of(record)}


def _loaded(items: Sequence[tuple[BaseDataset, int]], workers: int, keeps: bool = True) -> Iterable[Any]:
    """A record of each sample, in their order; a text where it is at fault."""
    return DataLoader(_Records(items, keeps), batch_size=None, num_workers=min(workers, len(items)))


def _source(path: str, backend_args: dict | None = None) -> list:
    """Size, time and content of a file, or of what a backend has."""
    content = read_stored(path, backend_args) if backend_args else Path(path).read_bytes()
    changed = None if backend_args else stamp(path)
    return [*(changed or (len(content), 0)), hashlib.blake2b(content, digest_size=16).hexdigest()]


def sources_of(info: dict) -> dict[str, str]:
    """The files of a sample, by what they are of it."""
    sources = {key: info[key] for key in ('img_path', 'seg_map_path') if info.get(key)}
    for field, paths in info.get('mask_paths', {}).items():
        sources |= {f'{field}/{number}': path for number, path in enumerate(paths)}
    return sources


def changed_source(info: dict, seen: dict[str, list]) -> str | None:
    """A file of a sample that is not the one that was seen; None if there is none."""
    sources = sources_of(info)
    for role in sorted(sources.keys() | seen.keys()):
        path = sources.get(role)
        if path is None or role not in seen:
            return path or f'{role} of {info["image_id"]}'
        now = None if info.get('backend_args') else stamp(path)  # of what a backend has, no time is known
        if now is not None and now != seen[role][:2] and (now[0] != seen[role][0] or _source(path)[2] != seen[role][2]):
            return path
    return None


def described(step: Callable) -> str:
    """A step and its settings."""
    return f'{type(step).__name__}({", ".join(f"{key}={value}" for key, value in sorted(vars(step).items()))})'


def libraries() -> list[str]:
    """What the pixels of a decoded image depend on besides its file."""
    return [f'mmskin {mmskin.__version__}', f'OpenCV {cv2.__version__}', f'Pillow {PIL.__version__}']


def place_of(folder: str | Path, steps: Sequence[Callable]) -> Path:
    """The folder of what these steps give."""
    description = json.dumps([*map(described, steps), *libraries(), *SCHEMA])
    return Path(folder, hashlib.sha256(description.encode()).hexdigest()[:12])
