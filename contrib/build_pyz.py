"""Writes the server and the command line into one file, dist/flo.pyz: `make dist`.

    python3 contrib/build_pyz.py [OUT]

The same sources give the same bytes on any machine and with any Python: the files are in order, have one fixed time and mode, and are not
compressed (the output of zlib differs between its versions, and an uncompressed file is imported faster). The archive holds sources only:
compiled code works with one version of Python only.
"""

import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
SHEBANG = b"#!/usr/bin/env python3\n"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time in the zip format
FILE_MODE = 0o100644 << 16


def build(out: Path) -> None:
    """Write the archive to `out`, executable."""
    files = {str(path.relative_to(ROOT)): path.read_bytes() for path in sorted((ROOT / "flo").rglob("*")) if _belongs(path)}
    main = (ROOT / "contrib" / "pyz_main.py").read_bytes()
    out.parent.mkdir(parents=True, exist_ok=True)
    with open(out, "wb") as file:
        file.write(SHEBANG)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, data in {"__main__.py": main, **files}.items():
                entry = zipfile.ZipInfo(name, EPOCH)
                entry.external_attr = FILE_MODE
                entry.create_system = 3  # Unix, on whichever system it is built
                archive.writestr(entry, data)
    out.chmod(0o755)


def _belongs(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts and path.suffix in (".py", ".html", ".css", ".js", ".svg")


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist" / "flo.pyz"
    build(target)
    print(f"{target}: {target.stat().st_size} bytes; run it with python3 3.11 or later: ./{target.name} server start")
