"""What the studies show: tables and figures, made of records alone."""
