"""Pictures as inputs: PREPROCESS, folders of pictures, and the arithmetic between a file and a tensor.

One implementation for parity, calibration and whoever else feeds pictures; it needs numpy and Pillow alone, so that
every worker can run it.
"""
