"""What a turn looks like in a terminal, and the line where the owner types."""
