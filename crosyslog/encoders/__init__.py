"""How a saved BERT is read, and what runs it; `crosyslog.encoder` is the way in."""
