"""Turns the markup of Wikipedia into prose."""
