"""Builds the parts from the settings, and runs them for each command."""
