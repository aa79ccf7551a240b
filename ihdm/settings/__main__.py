"""Checks params.yaml: the `check` stage of the pipeline."""

import argparse
from pathlib import Path

from ihdm.project import exit_on_error
from ihdm.settings import load


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ihdm.settings", description=__doc__)
    parser.add_argument("--out", type=Path, help="a file to write once params.yaml is found valid")
    arguments = parser.parse_args()
    with exit_on_error():
        load()
        if arguments.out:
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            arguments.out.write_text("params.yaml is valid\n")
        print("params.yaml is valid")


if __name__ == "__main__":
    main()
