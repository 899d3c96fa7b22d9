"""Is it whole, and what would a board do with it: damages, forecast, flash map."""
