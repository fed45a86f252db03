"""What is remembered, found again, and kept in the window."""
