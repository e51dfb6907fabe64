"""The Helm chart, and the parts of it that are made from the rest of the project."""
