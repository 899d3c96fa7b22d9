"""Bench supplies: leased channels with volts, amps and protection that are set, read back and enforced.

Use `rig.supply.client.lease`; the contract of what it gives is `rig.supply.channel.SupplyChannel`.
This package imports nothing here: the guardian has to start fast.
"""
