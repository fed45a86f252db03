"""What the older nanobot left on disk, taken over once and never changed."""
