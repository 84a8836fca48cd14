"""A library of kitchen objects, drawn by formula, measured and split."""
