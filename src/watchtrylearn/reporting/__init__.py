"""From attempts to what a person reads: results, intervals, tables, plots, the report."""
