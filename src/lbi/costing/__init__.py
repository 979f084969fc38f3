"""What ``lbi.estimate`` is made of: exact counts, models of cost, and their sums as figures and JSON."""
