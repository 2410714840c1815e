"""Measurements: speed against TRL, the shapes that the lab must show, the cost of grading. Only `trl_side` imports TRL."""
