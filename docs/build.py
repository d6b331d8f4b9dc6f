"""Build the documentation site.

python docs/build.py [--out out/docs]
"""

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from docs.pages import stage  # noqa: E402


def main() -> int:
    """Stage the sources and run Sphinx; warnings are errors.

    Returns:
        Exit status of Sphinx.
    """
    from sphinx.cmd.build import main as sphinx

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "out/docs")
    arguments = parser.parse_args()
    out: Path = arguments.out
    work = out.parent / f"{out.name}-work"
    start = time.perf_counter()
    files = stage(work / "source")
    strict = ("-q", "-W", "--keep-going", "-j", "auto")
    folders = ("-c", ROOT / "docs", "-d", work / "doctrees", work / "source", out)
    status: int = sphinx([*strict, *map(str, folders)])
    if status == 0:
        seconds = time.perf_counter() - start
        print(f"{len(files)} files in {seconds:.0f} s; open {out / 'index.html'}")
    return status


if __name__ == "__main__":
    sys.exit(main())
