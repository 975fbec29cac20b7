"""Networks of one's own, kept as programs of `torch.export`: found Clo modules, generic rewrites, no code of theirs."""
