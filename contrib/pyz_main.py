"""`__main__.py` of flo.pyz: the command line, started without compiling all modules each time.

At every start, the standard zipimport compiles each module twice: once to find its file name, and once to run it. That is two thirds of the
time until the first reply. This importer knows the name without compiling, and keeps compiled code in a directory of the user, as Python
does beside an imported file: `$CACHE_DIRECTORY` (systemd's CacheDirectory=), else `$XDG_CACHE_HOME/flo`, else `~/.cache/flo`. If the
directory cannot be written, or PYTHONDONTWRITEBYTECODE is set, every start compiles. The directory may be deleted at any time.

A file in it is named after the module and the exact version of Python, and holds: u32 CRC and u32 size of the source, u32 CRC of the code,
then the code, written by marshal.

Modules are imported when they are needed, a server's compaction as well. Meanwhile another version may take the archive's place. So all of
them come from a copy in memory that is made first (`own_copy`); without that, a running server would end at its next import.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - said before anything is read that an older one cannot
    sys.exit("Flo needs Python 3.11 or later; this is %d.%d" % sys.version_info[:2])  # noqa: UP031 - as above

import marshal
import os
import struct
from contextlib import suppress
from types import CodeType
from zipimport import zipimporter
from zlib import crc32

_HEAD = struct.Struct("<III")
STANDARD_ERROR = 2
DESCRIPTORS = "/proc/self/fd"
REPLACED = "{} is not whole: it may have been replaced while it was read. Start it again."


class Importer(zipimporter):
    """Modules out of the archive, each compiled once."""

    cache: str | None = None  # the directory

    def get_filename(self, fullname: str) -> str:
        """The path of a module's source, in zipimport's form."""
        path = self.prefix + fullname.rpartition(".")[2]
        return f"{self.archive}/{path}{'/__init__.py' if self.is_package(fullname) else '.py'}"

    def get_code(self, fullname: str) -> CodeType:
        """A module's code, from the cache if the entry belongs to this source and this Python."""
        if self.cache is None:
            return super().get_code(fullname)
        source = self.get_data(self.get_filename(fullname))
        path = f"{self.cache}/{fullname}.{sys.implementation.name}-{sys.hexversion:x}"
        try:
            with open(path, "rb") as file:
                data = file.read()
            body = data[_HEAD.size :]
            if data[: _HEAD.size] == _HEAD.pack(crc32(source), len(source), crc32(body)):
                code: CodeType = marshal.loads(body)
                return code
        except (OSError, ValueError, EOFError, TypeError):
            pass  # missing or damaged: it is written again below
        code = super().get_code(fullname)
        if not sys.dont_write_bytecode:
            body, new = marshal.dumps(code), f"{path}.{os.getpid()}"
            try:
                with open(new, "wb") as file:
                    file.write(_HEAD.pack(crc32(source), len(source), crc32(body)) + body)
                os.replace(new, path)
            except OSError:
                type(self).cache = None  # the disk may be full: do not try again
                with suppress(OSError):
                    os.unlink(new)
        return code


def cache_directory() -> str | None:
    """The directory for compiled code. Code is run from it, so it is None if other users own it or can write to it."""
    given = os.environ.get("CACHE_DIRECTORY", "").partition(":")[0]
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    path = given or f"{home}/flo"
    if not os.path.isabs(path):  # no home is known: a relative path would depend on the working directory
        return None
    try:
        if not sys.dont_write_bytecode:
            os.makedirs(path, 0o700, exist_ok=True)
        found = os.stat(path)
    except OSError:
        return None
    return path if found.st_uid == os.geteuid() and not found.st_mode & 0o022 else None


def own_copy(archive: str) -> str:
    """The path of a copy of the archive that no other process can change; on systems without files in memory, the archive itself. Ends the
    process with a sentence if the archive cannot be read, or changes meanwhile."""
    try:
        descriptor = os.memfd_create("flo.pyz")
    except (AttributeError, OSError):  # not Linux, or a sandbox does not allow it
        return archive
    if descriptor <= STANDARD_ERROR or not os.path.exists(DESCRIPTORS):  # a standard stream is missing, and this number may be used for it
        os.close(descriptor)
        return archive
    try:
        with open(archive, "rb") as source, open(descriptor, "wb", closefd=False) as copy:
            before = os.fstat(source.fileno())
            copy.write(source.read())
            after = os.fstat(source.fileno())
    except OSError as e:
        sys.exit(f"{archive} cannot be read: {e.strerror}. Start it again.")
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        sys.exit(REPLACED.format(archive))
    return f"{DESCRIPTORS}/{descriptor}"


if __name__ == "__main__":
    ARCHIVE = sys.path[0]
    Importer.cache = cache_directory()
    sys.path_hooks.insert(0, Importer)
    sys.path_importer_cache.clear()
    sys.path[0] = own_copy(ARCHIVE)
    try:
        from flo.cli import main
    except ImportError as e:
        if e.name is not None and not e.name.startswith("flo"):
            raise
        sys.exit(REPLACED.format(ARCHIVE))

    sys.exit(main())
