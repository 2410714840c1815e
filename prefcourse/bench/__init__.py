"""Measurements: speed against TRL, what the lab must show, the cost of grading. Only `trl_side` imports TRL."""
