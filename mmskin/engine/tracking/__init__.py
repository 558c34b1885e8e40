"""Where a training's numbers and pictures go: mmengine's backends, mended where they fall short; one a file."""
