"""The BK7231N's download protocol: frames, a client of the mask ROM, ids and the names of things."""
