"""Kinds of file, told apart: code, containers, packages, single sectors, what is not for this chip at all."""
