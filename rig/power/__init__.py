"""Studies of supply failures: how much supply a board needs, and what it does where it gets less."""
