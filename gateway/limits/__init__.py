"""What a caller or a target may still use: reserved before the call, settled after it, all limits of one step together or not at all."""
