"""Devices and hosts of a run: mesh, rendezvous, agreement, watchdog, signals."""
