"""Studies of flasher releases: which one can be trusted, on real boards or simulated ones, with statistics."""
