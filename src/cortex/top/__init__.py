"""`cortex top`: the fleet in a terminal.

model.py (pure state), view.py (pure picture), keys.py (the keyboard), api.py (HTTP), app.py (the loop).
"""
