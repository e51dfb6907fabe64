"""The subcommands of `trainer`, one module each; `trainer.cli` puts them together."""
