"""The parts of `tools/train_reference.py`: recipe, images, augmentation, loading, averaging, state, loop, record."""
