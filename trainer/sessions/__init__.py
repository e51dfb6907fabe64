"""Learning to judge sessions: the method `metalog`."""
