"""Runs in folders: train a model file there, go on, list, evaluate and predict."""
