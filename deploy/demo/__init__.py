"""The demo: a broker, a model adapted from 1,000 labelled lines, the agent, and what it finds."""
