"""edgepress: from a trained vision network to a checked, fast file on a device.

This module is kept cheap on purpose: no framework is imported here.  The programming interface starts
at :func:`compress.pipeline.run`; the command line at :func:`compress.cli.main`.
"""

from importlib.util import find_spec
from pathlib import Path

__version__ = "0.1.0"
__all__ = ["__version__"]


def _check_siblings() -> None:
    """Refuse to go on when a file of the user's hides one of our four packages.

    A script called ``export.py`` in the working directory is imported in place of our package, and
    then fails (or worse, runs) far from here.

    Raises:
        ImportError: ``export``, ``search`` or ``targets`` resolves to something that is not ours.
    """
    home = Path(__file__).resolve().parent.parent
    for name in ("export", "search", "targets"):
        spec = find_spec(name)
        found = Path(spec.origin).resolve() if spec and spec.origin else None
        if found is None or found.parent.parent != home:
            raise ImportError(
                f"`import {name}` finds {found or 'nothing'}, expected {home / name}/__init__.py "
                f"(part of edgepress); rename or move that file, or reinstall edgepress"
            )


_check_siblings()
