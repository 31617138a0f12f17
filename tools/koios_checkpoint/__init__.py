"""What tools/checkpoint.py is made of: Koios' HDF5 files, safetensors, Hugging Face, torchtitan.

Nothing here uses Koios' own code: docs/checkpoints.md is all that the two share.
"""
