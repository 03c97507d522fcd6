"""The configuration: reads, checks, compares and masks the YAML file. Start at `load`; the keys are in types.py and its parts."""
