"""What a process holds, and what one configuration (a generation) holds. A reload swaps generations."""
