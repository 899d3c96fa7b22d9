"""The batch page, a section a module: each turns tables into plain text and pictures for its template."""
