#!/usr/bin/env python3
"""Train or evaluate under the guide's original command.

    python ensemble_5class_trainer.py --mode evaluate --base_models coatnet_0_rw_224 \\
        --dataset_path ./dataset --output_dir ./coatnet_5class_results

`--mode train` is train_ovo.py with the same flags, `--mode evaluate` is evaluate_ensemble.py.
"""

from common.cli import Parser

import os
import sys
from pathlib import Path


def main(argv: list[str] | None = None) -> None:
    """Hand over to the script that does the work."""
    parser = Parser(description=__doc__)
    parser.add_argument("--mode", choices=("train", "evaluate"), required=True)
    args, rest = parser.parse_known_args(argv)
    script = "train_ovo.py" if args.mode == "train" else "evaluate_ensemble.py"
    command = [sys.executable, "-u", str(Path(__file__).with_name(script)), *rest]
    os.execv(sys.executable, command)


if __name__ == "__main__":
    main()
