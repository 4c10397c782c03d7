"""Documented figures of TPU chips, energy accounting, and device and host memory."""
