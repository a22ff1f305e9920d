"""A model of what a power cut takes: contents that were not fsynced, and, if asked, names that were not.

File systems of the field (ext4, xfs) keep a file that was published by a rename but never fsynced as an empty one:
that is the model for contents. For names it is POSIX's: what was done to a directory since its last fsync may be
undone, and one directory is on the disk before another: either all such changes are lost, or all but those of the
agent's home.

It works beneath descriptors that it opened itself, so that later renames don't lead it astray.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import define, frozen

Inode = tuple[int, int]

_OWN_FSYNCS = ("state.db",)  # SQLite's, which syncs below Python


@frozen(kw_only=True)
class Entry:
    """A name in a directory."""

    folder: Inode
    name: str


@define
class _Change:
    """A change of names that is lost unless all `folders` are fsynced after it."""

    folders: set[Inode]
    undo: Callable[[], object]


class PageCache:
    """What is written and not yet on the disk. `grave`: a folder of the same file system for what was unlinked."""

    def __init__(self, grave: Path) -> None:
        self._grave = grave
        self._folders: dict[Inode, int] = {}
        self._dirty: dict[Inode, int] = {}
        self._changes: list[_Change] = []
        self._buried = 0

    # What happens

    def before_create(self, path: Any, dir_fd: int | None) -> Entry | None:
        """The name that an open is about to make; None where there is a file already."""
        if os.path.basename(os.fsdecode(path)).startswith(_OWN_FSYNCS) or self._exists(path, dir_fd):
            return None
        return self._entry(path, dir_fd)

    def opened(self, fd: int, made: Entry | None) -> None:
        """A file was opened for writing, or written to: what it holds is not on the disk."""
        found = os.fstat(fd)
        place = f"/proc/self/fd/{fd}"
        if not stat.S_ISREG(found.st_mode) or os.path.basename(os.readlink(place)).startswith(_OWN_FSYNCS):
            return
        if (found.st_dev, found.st_ino) not in self._dirty:
            # O_PATH: held open for writing, a script could not be executed.
            self._dirty[found.st_dev, found.st_ino] = os.open(place, os.O_PATH | os.O_CLOEXEC)
        if made is not None:
            self._changed({made.folder}, lambda: os.unlink(made.name, dir_fd=self._folders[made.folder]))

    def synced(self, fd: int) -> None:
        found = os.fstat(fd)
        inode = found.st_dev, found.st_ino
        if not stat.S_ISDIR(found.st_mode):
            kept = self._dirty.pop(inode, None)
            if kept is not None:
                os.close(kept)
            return
        for change in self._changes:
            change.folders.discard(inode)
        self._changes = [change for change in self._changes if change.folders]

    def hear(self, event: str, args: tuple[Any, ...]) -> None:
        """A change of names is about to be made; one that will fail is recognised by what is there."""
        match event:
            case "os.rename":
                self._rename(*args[:4])
            case "os.mkdir" if not self._exists(args[0], args[2]):
                self._made(args[0], args[2], os.rmdir)
            case "os.link":
                self._made(args[1], args[3], os.unlink)
            case "os.symlink":
                self._made(args[1], args[2], os.unlink)
            case "os.remove" if self._exists(args[0], args[1]):
                self._remove(args[0], args[1])
            case "os.rmdir" if self._exists(args[0], args[1]):
                self._remove_directory(args[0], args[1])

    def exchange(self, dir_fd: int, swap: Callable[[int], bool]) -> bool:
        """Let two names of a directory be swapped; the way back is the same once more."""
        folder = os.open(f"/proc/self/fd/{dir_fd}", os.O_PATH | os.O_CLOEXEC)
        before = list(self._changes)
        self._changed({self._inode_of(folder)}, lambda: swap(folder))
        done = swap(dir_fd)  # with its fsync, which must find the change there
        if not done:
            self._changes = before
        return done

    # What a cut takes

    def lose_contents(self) -> None:
        for fd in self._dirty.values():
            os.truncate(f"/proc/self/fd/{fd}", 0)

    def lose_names(self, *, spared: Path | None) -> None:
        """Undo what was done to directories, except for one that came to the disk by itself."""
        kept = None
        if spared is not None and spared.exists():
            found = spared.stat()
            kept = found.st_dev, found.st_ino
        for change in reversed(self._changes):
            if kept not in change.folders:
                with suppress(OSError):  # what it would act on is gone by a change that stays
                    change.undo()

    # The ways back

    def _rename(self, old: Any, new: Any, old_fd: int, new_fd: int) -> None:
        source, target = self._entry(old, old_fd), self._entry(new, new_fd)
        if not self._exists(old, old_fd) or self._is_full_folder(new, new_fd):
            return
        displaced = self._bury(new, new_fd) if self._exists(new, new_fd) else None

        def undo() -> None:
            before, after = self._folders[source.folder], self._folders[target.folder]
            os.rename(target.name, source.name, src_dir_fd=after, dst_dir_fd=before)
            if displaced is not None:
                os.rename(displaced, target.name, dst_dir_fd=after)

        self._changed({source.folder, target.folder}, undo)

    def _is_full_folder(self, path: Any, dir_fd: int) -> bool:
        """Whether nothing can be renamed to this name: the updater tries that to see what can be renamed at all."""
        try:
            folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=None if dir_fd < 0 else dir_fd)
        except OSError:
            return False
        try:
            return bool(os.listdir(folder))
        finally:
            os.close(folder)

    def _made(self, path: Any, dir_fd: int, undo: Callable[..., None]) -> None:
        entry = self._entry(path, dir_fd)
        self._changed({entry.folder}, lambda: undo(entry.name, dir_fd=self._folders[entry.folder]))

    def _remove(self, path: Any, dir_fd: int) -> None:
        entry, kept = self._entry(path, dir_fd), self._bury(path, dir_fd)
        self._changed({entry.folder}, lambda: os.rename(kept, entry.name, dst_dir_fd=self._folders[entry.folder]))

    def _remove_directory(self, path: Any, dir_fd: int) -> None:
        entry = self._entry(path, dir_fd)
        found = os.stat(path, dir_fd=None if dir_fd < 0 else dir_fd, follow_symlinks=False)

        def undo() -> None:
            inside = self._folders[entry.folder]
            os.mkdir(entry.name, stat.S_IMODE(found.st_mode), dir_fd=inside)
            # What was removed from it comes back into its successor.
            self._folders[found.st_dev, found.st_ino] = os.open(entry.name, os.O_PATH | os.O_CLOEXEC, dir_fd=inside)

        self._changed({entry.folder}, undo)

    def _changed(self, folders: set[Inode], undo: Callable[[], object]) -> None:
        self._changes.append(_Change(folders, undo))

    def _entry(self, path: Any, dir_fd: int | None) -> Entry:
        folder, name = os.path.split(os.fsdecode(path))
        within = None if dir_fd is None or dir_fd < 0 else dir_fd
        fd = os.open(folder or ".", os.O_PATH | os.O_CLOEXEC, dir_fd=within)
        inode = self._inode_of(fd)
        if inode in self._folders:
            os.close(fd)
        else:
            self._folders[inode] = fd
        return Entry(folder=inode, name=name)

    def _bury(self, path: Any, dir_fd: int) -> str:
        self._buried += 1
        kept = str(self._grave / f"{os.getpid()}-{self._buried}")
        os.link(path, kept, src_dir_fd=None if dir_fd < 0 else dir_fd, follow_symlinks=False)
        return kept

    @staticmethod
    def _inode_of(fd: int) -> Inode:
        found = os.fstat(fd)
        return found.st_dev, found.st_ino

    @staticmethod
    def _exists(path: Any, dir_fd: int | None) -> bool:
        try:
            os.stat(path, dir_fd=None if dir_fd is None or dir_fd < 0 else dir_fd, follow_symlinks=False)
        except OSError:
            return False
        return True
