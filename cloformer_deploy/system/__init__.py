"""Helpers that know nothing of models: files, schemas, packages, processor cores, child processes, printable text."""
