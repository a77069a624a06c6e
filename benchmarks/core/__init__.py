"""What everything shares: cases, records and their store, metrics, studies, tables and figures."""
