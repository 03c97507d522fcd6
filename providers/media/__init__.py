"""The tokens of images, audio and files in prompts: sizes from the first bytes of the data, and the rules of the vendors."""
