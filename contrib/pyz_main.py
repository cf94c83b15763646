"""`__main__.py` of flo.pyz: the command line, started without compiling everything twice.

The standard zipimport compiles a module once to find out its file name, and once more to run it; that is a third of the time until the
first reply. This importer knows the name without.
"""

import sys
from zipimport import zipimporter


class Importer(zipimporter):
    """Modules out of the archive, each compiled once."""

    def get_filename(self, fullname: str) -> str:
        """Where a module's source is, as zipimport would say it."""
        path = self.prefix + fullname.rpartition(".")[2]
        return f"{self.archive}/{path}{'/__init__.py' if self.is_package(fullname) else '.py'}"


if __name__ == "__main__":
    sys.path_hooks.insert(0, Importer)
    sys.path_importer_cache.clear()

    from flo.cli import main

    sys.exit(main())
