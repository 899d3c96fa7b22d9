"""The switch in its home: what a converted unit does in a network, seen over that network and nothing else.

The network is the station's own (an access point, a broker); the rig brings no radio and opens none.
"""
