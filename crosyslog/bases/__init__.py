"""Base bundles: meta-trained on source systems, not adapted; weights and vectors, no log text."""
