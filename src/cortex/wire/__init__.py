"""Every message between processes or hosts, as msgspec structs. Fields are only ever added, with defaults.

inference.py  requests: text, vectors, ranks
events.py     the answer to a request, as a stream of events
worker.py     a neuron's parent process and its workers
connection.py a gateway and a neuron
status.py     a neuron's state, and orders to it
reports.py    the reports of short-lived processes to a neuron's parent
fleet.py      the fleet's state and placement plans, for operators
prefix.py     hashes of a prompt's beginning
framing.py    length-prefixed msgpack
"""
