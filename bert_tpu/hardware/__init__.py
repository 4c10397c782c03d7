"""Documented figures of TPU chips and GPUs, energy accounting, and device and host memory."""
