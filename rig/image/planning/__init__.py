"""Where a file may go on a board: rules, what stays the board's own, the plan that is written."""
