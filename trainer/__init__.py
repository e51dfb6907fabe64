"""Meta-trains on labelled systems, adapts to a new one from few labels, judges both honestly."""
