"""Meta-trains on labelled systems, adapts to new ones from few labels, judges the result."""
