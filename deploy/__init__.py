"""How CroSysLog is run: the demo with its local Kafka, and what operators deploy."""
