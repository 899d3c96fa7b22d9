"""The operator's page: a line of slots in a browser. It reads runs and posts commands to the station's control
socket, nothing else: closing it, restarting it or opening six changes nothing of a run.
"""
