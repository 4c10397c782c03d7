"""Random inputs for readers, config keys and commands: `make fuzz` tries thousands, the tests a few."""
