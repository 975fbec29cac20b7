"""Networks of one's own: `prepare` rewrites one for a target, `export` makes a bundle of it."""
