"""Layers, containers and nets: how they get their memory, how x becomes y and dy becomes dx."""
