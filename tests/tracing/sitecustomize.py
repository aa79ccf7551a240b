"""Writes each import of a module of the package to the file IHDM_TRACE, with the stage of DVC.

Python imports this at its start if its folder is in PYTHONPATH; see `pipeline.run_pipeline`.
"""

import os
import sys


class Tracer:
    """A finder that finds nothing."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.startswith("ihdm."):
            with open(os.environ["IHDM_TRACE"], "a") as file:
                file.write(f"{os.environ.get('DVC_STAGE', 'none')} {name}\n")


sys.meta_path.insert(0, Tracer)
