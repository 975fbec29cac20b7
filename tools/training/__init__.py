"""The parts of `tools/train_reference.py`: recipe, pictures, augmentation, loading, averaging, state, loop, record."""
