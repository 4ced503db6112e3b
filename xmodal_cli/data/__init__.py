"""Datasets: formats, the registry of names, downloads, pictures from files, the generated sample set."""
