"""What the gates of a network do: rates, where they open, and how that goes with class, size and errors."""
