"""A companion to *Generative Modelling With Inverse Heat Dissipation* (arXiv 2206.13397).

The method is here at the front: `heat` -> `processes` -> `loop` -> `sampling`. Rooms hold the rest,
and data flows one way through them: `settings` -> `data` -> the method -> `model` -> `measures` ->
`pipeline` -> `show`.
"""
