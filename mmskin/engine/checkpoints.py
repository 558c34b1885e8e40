"""The checkpoints of a work folder: how they are written, noted and found, and who may write there."""

import errno
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from filelock import FileLock, Timeout
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import CheckpointHook as UpstreamCheckpointHook
from mmengine.runner import Runner

from mmskin.errors import MissingFile, Mistake
from mmskin.files import check_name, read_json, write_json, write_text
from mmskin.models.weights import HASH, hash_tensors, read_checkpoint, read_weights, write_checkpoint
from mmskin.registry import HOOKS

NOTE = 'last_checkpoint'
DONE = 'stage.json'
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
LONGEST = 255  # bytes of a file's name
TO_GO_ON = ('optimizer', 'ema_state_dict')  # most of a checkpoint, and of use to a resume inside the stage alone


@contextmanager
def writing_whole() -> Iterator[None]:
    """Inside the block mmengine's runners and strategies write a checkpoint's file as ``write_checkpoint`` does."""

    def write(checkpoint: dict[str, Any], path: str, **_: Any) -> None:
        write_checkpoint(path, checkpoint)

    places = [f'mmengine.runner.{module}.save_checkpoint' for module in ('runner', 'checkpoint')]
    with patch(places[0], write), patch(places[1], write):
        yield


@HOOKS.register_module()
class CheckpointHook(UpstreamCheckpointHook):
    """MMEngine's hook, which never leaves a work folder without a whole checkpoint and one before it.

    The oldest one goes when the newest is on the disk, so ``max_keep_ckpts=1`` keeps two until the stage ends. The note
    ``last_checkpoint`` has the newest in its first line and the one before in its second.
    """

    def before_train(self, runner: Runner) -> None:
        """Begin with the checkpoint that the training resumes from, if it does."""
        if self.file_client_args or self.backend_args or self.out_dir:
            raise Mistake(
                'CheckpointHook: a training finds its checkpoints in its work folder; leave out_dir and backend_args '
                'out, set work_dir, and copy them'
            )
        self.max_keep_ckpts: int = 2 if self.max_keep_ckpts == 1 else self.max_keep_ckpts
        super().before_train(runner)
        template = f'CheckpointHook: filename_tmpl={self.filename_tmpl!r}'
        check_name(self.filename_tmpl, template)
        if self.filename_tmpl.format(1) == self.filename_tmpl.format(2):
            raise Mistake(f"{template}, without a number; give 'epoch_{{}}.pth'")
        is_resumed = runner.cfg.get('resume') and runner.cfg.get('load_from')
        self.saved = [str(runner.cfg.load_from)] if is_resumed else []

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        outdated = []
        if self.max_keep_ckpts > 0 and [*self.keep_ckpt_ids][-1:] != [step]:
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                outdated.append(self.keep_ckpt_ids.popleft())
            self.keep_ckpt_ids.append(step)
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        name = self.filename_tmpl.format(step)
        self.last_ckpt = str(Path(self.out_dir, name))
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        with writing_whole():
            runner.save_checkpoint(
                self.out_dir,
                name,
                save_optimizer=self.save_optimizer,
                save_param_scheduler=self.save_param_scheduler,
                meta=meta,
                by_epoch=self.by_epoch,
            )
        if is_main_process():
            self.saved = [*(path for path in self.saved if Path(path).name != name), self.last_ckpt][-2:]
            write_text(Path(runner.work_dir) / NOTE, '\n'.join(reversed(self.saved)))
            for old in outdated:
                Path(self.out_dir, self.filename_tmpl.format(old)).unlink(missing_ok=True)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        """MMEngine's way, which would remove the earlier best before it writes the new one."""
        earlier: list[str] = []
        with patch.object(self.file_backend, 'remove', earlier.append), writing_whole():
            super()._save_best_checkpoint(runner, metrics)
        best = {getattr(self, 'best_ckpt_path', None), *getattr(self, 'best_ckpt_path_dict', {}).values()}
        for path in {*earlier} - best:
            Path(path).unlink(missing_ok=True)


def _names_in(note: Path) -> list[str]:
    """The checkpoints that a note names, the newest first."""
    try:
        names = [line.strip() for line in note.read_text(encoding='utf-8').splitlines() if line.strip()]
    except UnicodeDecodeError:
        names = []
    if not names or not all(map(_can_be, names)):
        raise Mistake(
            f"{note}: empty or damaged, where it should name the folder's last checkpoint; write the file's name into "
            'it, such as epoch_3.pth, or train from scratch, without --resume'
        )
    return names


def _can_be(name: str) -> bool:
    """Whether a file system could have a file of that name."""
    return name.isprintable() and 0 < len(Path(name).name.encode()) <= LONGEST


def noted_checkpoints(folder: str | Path) -> list[Path]:
    """A folder's last checkpoint and the one before, found by name: the folder may have moved. None without a note."""
    note = Path(folder) / NOTE
    return [note.parent / Path(name).name for name in _names_in(note)] if note.exists() else []


def checkpoint_to_resume(folder: str | Path) -> Path | None:
    """A folder's last checkpoint, or the one before if that one is damaged; None if training has saved none."""
    faults: list[str] = []
    for file in noted_checkpoints(folder):
        try:
            checkpoint = read_checkpoint(file)
            if not {'meta', 'message_hub'} <= checkpoint.keys() or (faults and 'optimizer' not in checkpoint):
                raise Mistake(f'{file}: holds only weights, which is not enough to resume a training')
        except Mistake as error:
            faults.append(str(error))
            continue
        if faults and is_main_process():
            print(f'  {"; ".join(faults)}\n  continuing from {file}, the one before', flush=True)
        return file
    if faults:
        raise Mistake(
            f'{"; ".join(faults)}; put a good copy there, name another of the folder in {Path(folder) / NOTE}, or '
            'train from scratch, without --resume'
        )
    if any(Path(folder).glob('*.pth')) and is_main_process():
        print(f'  {folder}: no {NOTE} that names a checkpoint of this training; starting at its beginning')
    return None


def mark_finished(runner: Runner, last: Path, final: Path) -> None:
    """Note what a stage ended with; its checkpoints lose what only a resume needs, and ``CheckpointHook``'s spare goes.

    A kill in here costs nothing: the resumed stage is at its last step, and takes none that needs what is gone.
    """
    files, spare = {last}, None
    for hook in runner.hooks:
        if isinstance(hook, UpstreamCheckpointHook) and hook.max_keep_ckpts > 1:
            kept = [last.with_name(hook.filename_tmpl.format(step)) for step in hook.keep_ckpt_ids]
            spare = kept.pop(0) if len(kept) == hook.max_keep_ckpts else None
            files.update(file for file in kept if file.is_file())
    for file in files:
        checkpoint = read_checkpoint(file)
        if any(key in checkpoint for key in TO_GO_ON):
            write_checkpoint(file, {key: value for key, value in checkpoint.items() if key not in TO_GO_ON})
    if spare:
        spare.unlink(missing_ok=True)
    end = {'checkpoint': final.name, HASH: hash_tensors(read_weights(final))}
    write_json(last.with_name(DONE), end)  # before the note: it may be the best, not the last
    write_text(last.with_name(NOTE), str(final))


def finished_checkpoint(folder: str | Path) -> Path | None:
    """What a finished stage ended with; None if it has not finished."""
    mark = Path(folder) / DONE
    if not mark.exists():
        return None
    try:
        end = read_json(mark)
        name, weights = end['checkpoint'], end.get(HASH)
        assert isinstance(name, str) and name == Path(name).name and _can_be(name), name
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise Mistake(
            f'{mark}: damaged, or not written by a finished stage; remove it, and the stage continues from its last '
            'checkpoint'
        ) from error
    checkpoint = mark.parent / name
    if weights and checkpoint.is_file() and hash_tensors(read_weights(checkpoint)) != weights:
        raise Mistake(
            f'{checkpoint}: has other weights than the stage ended with; restore it, or train in another --work-dir, '
            f'from load_from={checkpoint}'
        )
    return checkpoint


def find_checkpoint(path: str | Path) -> Path:
    """A checkpoint file, or the final checkpoint of a work folder.

    Raises:
        MissingFile: if ``path`` is a folder without ``last_checkpoint``, which training writes.
        Mistake: if that names none.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    note = path / NOTE
    if not note.is_file():
        raise MissingFile(f'{note}: not there; training has not finished in {path}, so name a checkpoint file instead')
    final = Path(_names_in(note)[0])
    moved = [path / final.name, path / final.parent.name / final.name]  # the folder may be a copy, or have been moved
    return next((file for file in (*moved, final) if file.is_file()), final)


def find_checkpoints(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    """The checkpoints of networks that predict together: of files and work folders, and of a folder of folds or seeds.

    Such a folder is a suite's ``<method>`` or ``<method>/seed0``, with ``fold0/train`` and so on below it.
    """
    checkpoints: list[Path] = []
    for path in [paths] if isinstance(paths, (str, Path)) else paths:
        folder = Path(path)
        is_training = not folder.is_dir() or (folder / NOTE).is_file()
        notes = [] if is_training else [*folder.glob(f'fold*/**/train/{NOTE}')]
        notes += [] if is_training else [*folder.glob(f'seed*/**/train/{NOTE}')]
        checkpoints += [find_checkpoint(note.parent) for note in sorted(notes)] or [find_checkpoint(path)]
    return checkpoints


@contextmanager
def sole_work(kind: str, folders: Iterable[str | Path]) -> Iterator[None]:
    """Inside the block no other training works in these folders; of several processes the main one holds the locks.

    The system frees a lock when its process ends, however it ends.

    Args:
        kind: 'training', or 'test', which may work where a training does.
        folders: See above.
    """
    with ExitStack() as held:
        fault: list[str | None] = [None]
        for folder in dict.fromkeys(Path(folder).resolve() for folder in folders) if is_main_process() else ():
            folder.mkdir(parents=True, exist_ok=True)
            try:
                held.enter_context(FileLock(folder / f'.{kind}.lock', blocking=False))
            except Timeout:
                fault = [f'{folder}: another {kind} works in this folder; wait for it, or give another --work-dir']
                break
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                print(f'  {folder}: its file system has no locks; see to it that no other {kind} works there')
        broadcast_object_list(fault)
        if fault[0]:
            raise Mistake(fault[0])
        yield
