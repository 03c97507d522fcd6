"""The tokens of images, audio and files in prompts: their sizes, read from the first bytes of the data, and the rules of the vendors."""
