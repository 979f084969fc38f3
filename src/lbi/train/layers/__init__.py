"""Trainable spiking layers: the network, scans over time, surrogates, chip-exact precision."""
