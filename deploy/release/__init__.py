"""Builds what is released, and checks it: `python -m deploy.release`, docs/release.md."""
