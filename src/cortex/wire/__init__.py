"""Every message that crosses a process or a host, as msgspec structs.

inference.py  what a client asked for
events.py     what comes back
worker.py     neuron parent ⇄ worker process
connection.py gateway ⇄ neuron
status.py     neuron → gateway, and its orders
framing.py    length-prefixed msgpack
"""
