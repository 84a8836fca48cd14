"""Pure maths, written for one example and tested by hand numbers."""
