"""A companion to *Generative Modelling With Inverse Heat Dissipation* (arXiv 2206.13397).

Data flows one way through the modules: `params` -> `datasets` -> `heat` -> `processes` -> `unet`
-> `loop` -> `checkpoints` -> `training` -> `sampling` -> measures -> `figures` -> `results`.
"""

__version__ = "0.1.0"
