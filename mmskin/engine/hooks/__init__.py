"""What is done at set moments of a training; configs name the hooks."""
