"""Make the third-party packages importable: the interpreter starts without `site`, which an idle event never needs."""

import os
import sys


def add() -> None:
    """Add the packages of the virtual environment installed beside lib/; without one, the interpreter's own."""
    home = os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    beside = os.path.join(home, ".venv", "lib", version, "site-packages")
    if os.path.isdir(beside):
        if beside not in sys.path:
            sys.path.append(beside)
    elif "site" not in sys.modules:
        import site

        site.main()
