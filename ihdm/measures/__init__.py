"""Measures of images and models: one noun, one file, one chapter."""
