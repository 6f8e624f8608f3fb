"""What every backend must show: the laws of the declarations, and the float64 judge."""
