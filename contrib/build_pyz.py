"""Writes dist/flo.pyz, the whole server and command line as one file: `make dist`.

    python3 contrib/build_pyz.py [OUT]

The same sources give the same bytes, on any machine and with any Python: files in order, one fixed time and mode, stored without
compression (whose output differs between versions of zlib; and a stored file is imported faster). Sources only: compiled code is good
for one version of Python.
"""

import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
SHEBANG = b"#!/usr/bin/env python3\n"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest a zip file can say
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
                entry.create_system = 3  # Unix, wherever it is built
                archive.writestr(entry, data)
    out.chmod(0o755)


def _belongs(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts and path.suffix in (".py", ".html", ".css", ".js", ".svg")


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist" / "flo.pyz"
    build(target)
    print(f"{target}: {target.stat().st_size} bytes; run it with python3 3.11 or later: ./{target.name} server start")
