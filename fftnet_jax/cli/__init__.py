"""The commands: flags → one library call. `train.py` and `generate.py` run them."""
