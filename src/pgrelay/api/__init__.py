"""What pgrelay serves over HTTP."""
