"""Data sets, readers, transforms, and the preparation and selection of data. Imports nothing above it."""
