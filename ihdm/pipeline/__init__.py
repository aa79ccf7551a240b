"""Stages and programs: training, drawing sets of samples, running notebooks."""
