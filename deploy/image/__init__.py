"""The image of the agent."""
