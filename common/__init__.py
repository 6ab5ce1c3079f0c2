"""Building blocks shared by the scripts; docs/architecture.md has the tree.

Importing this package reads `.env` from the working directory, before any library can read
`HF_HOME`. Variables that the environment already sets are left alone; ~ and $HOME in the names of
folders are expanded where they are used, by `common.cli`.

Where a script of this repository imports it, Ctrl-C ends the program at once and without a
traceback until `common.cli.guarded` takes over: importing PyTorch takes seconds. Scripts import it
before other libraries for that reason.
"""

import os
import signal
import sys
from pathlib import Path


def _runs_a_script_of_ours() -> bool:
    main = getattr(sys.modules["__main__"], "__file__", None)  # none where input is interactive
    root = Path(__file__).resolve().parents[1]
    return main is not None and root in Path(main).resolve().parents[:2]


# a program that is told to ignore Ctrl-C has another handler, and keeps it
if _runs_a_script_of_ours() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
_FOLDERS = ("DATASET_PATH", "CACHE_DIR")


def _read_environment(file: Path) -> None:
    """Set what a .env file holds and the environment does not.

    Names of folders stay as they are written: common.cli expands them, and names a variable that is
    not set, for which dotenv would put nothing.
    """
    if not file.is_file():
        return
    from dotenv import dotenv_values, load_dotenv

    try:
        written = dotenv_values(file, interpolate=False, encoding="utf-8-sig")
        folders = {name: written.get(name) for name in _FOLDERS if name not in os.environ}
        load_dotenv(file, encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        sys.exit(f"error: {file}: expected readable UTF-8 text ({error})")
    os.environ.update({name: text for name, text in folders.items() if text})


_read_environment(Path.cwd() / ".env")
