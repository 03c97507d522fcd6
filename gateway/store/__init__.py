"""Where limits are counted: memory, or Redis through atomic scripts. Imports config and metrics; knows no call."""
