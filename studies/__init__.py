"""Studies of quality, `python -m studies.NAME`: what was learned, not how fast."""
