"""Random generators named by what they are for.

A generator is seeded by (seed, stream, index): a seed from params.yaml, a stream for each kind of
draw, and the number of the step, epoch or sample. No draw depends on how many were made before it.
"""

import numpy as np
import torch

__all__ = ["derived", "generator"]

ORDER, DRAWS, DROPOUT, FLIPS, HELD_OUT, PRIOR, NOISE, LIKELIHOOD, TRAINING_NOISE = range(9)


def derived(seed: int, stream: int, index: int) -> int:
    """A seed of 32 bits that differs between streams and indices.

    Args:
        seed: the seed of an experiment.
        stream: one of this module's constants.
        index: the number of the step, epoch or sample.
    """
    return int(np.random.SeedSequence([seed, stream, index]).generate_state(1)[0])


def generator(seed: int, stream: int, index: int) -> torch.Generator:
    """A torch generator on the CPU, whose draws are the same for every device; see `derived`."""
    return torch.Generator().manual_seed(derived(seed, stream, index))
