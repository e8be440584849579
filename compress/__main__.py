"""``python -m compress`` is the ``compress`` command."""

import sys

from compress.cli import main

sys.exit(main())
