"""Heads that read the feature pyramid of any network family: one file per head. All tensors are NCHW."""
