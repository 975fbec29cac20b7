"""INT8 after training: what a calibration set says of each tensor, and what becomes an integer of it.

`recipes` is data and imports nothing; everything else needs torch.
"""
