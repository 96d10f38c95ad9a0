"""Processes, files, locks and the machine: the one module of each that acts. Standard library only."""
