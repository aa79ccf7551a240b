"""One step of training in this process, one of several: `python -m tests.two_processes FILE`.

The first process writes the gradients and how many processes there were; see test_loop.
"""

import sys

import numpy as np
import torch

from ihdm import loop
from ihdm.heat import HeatEquation, blur_schedule
from ihdm.pipeline import launching
from ihdm.processes import InverseHeat
from ihdm.settings import Train
from ihdm.unet import UNet

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 1, 8, 8), np.uint8)


def gradients(settings, accelerator):
    """The gradients of the first step, of a network without dropout."""
    torch.manual_seed(0)
    network = UNet(1, 8, (1, 2), 1, (1,), dropout=0.0, groups=2)
    # Fresh blocks end in zeros, behind which no gradient goes.
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    state = loop.State.fresh(network, settings, torch.device("cpu"))
    process = InverseHeat(HeatEquation(8, 8, blur_schedule(4, 0.5, 4)), 0.01)
    report = next(loop.steps(process, state, IMAGES, settings, accelerator))
    return {
        "gradients": torch.cat([p.grad.flatten() for p in network.parameters()]),
        "loss": report.loss,
        "processes": accelerator.num_processes,
    }


if __name__ == "__main__":
    path, settings, *_ = sys.argv[1:]
    accelerator = launching.accelerator()
    found = gradients(Train.model_validate_json(settings), accelerator)
    if accelerator.is_main_process:
        torch.save(found, path)
