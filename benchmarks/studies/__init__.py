"""Studies, one folder each: cases and measurement, tables, figures."""
