"""The search for settings of meta-training, with each source held out in turn."""
