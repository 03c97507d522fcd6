"""The configuration: reads, checks, compares and masks the YAML file.

Start at `load`. types.py and the modules that it names define the configuration keys.
"""
