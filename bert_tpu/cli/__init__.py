"""The command bert-tpu: its list of commands, and shells' completion of their names and options."""
