"""Building blocks shared by the scripts; docs/architecture.md has the tree.

Importing this package reads `.env` from the working directory, before any library can read
`HF_HOME`. Variables that the environment already sets are left alone.

Where a script of this repository imports it, Ctrl-C ends the program at once and without a
traceback until `common.cli.guarded` takes over: importing PyTorch takes seconds. Scripts import it
before other libraries for that reason.
"""

import signal
import sys
from pathlib import Path

from dotenv import load_dotenv


def _runs_a_script_of_ours() -> bool:
    main = getattr(sys.modules["__main__"], "__file__", None)  # none where input is interactive
    root = Path(__file__).resolve().parents[1]
    return main is not None and root in Path(main).resolve().parents[:2]


# a program that is told to ignore Ctrl-C has another handler, and keeps it
if _runs_a_script_of_ours() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
load_dotenv(Path.cwd() / ".env")
