"""What is counted, shown, traced and logged."""
