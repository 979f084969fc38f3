"""The estimate for a reader: figures, charts, trace and HTML page."""
