"""A seven-jointed arm pushes the right one of two objects onto a red disk, seen by a camera."""
