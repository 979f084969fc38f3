"""Between float networks and the chip's integers."""
