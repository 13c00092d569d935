"""`cortex top`: the fleet in a terminal.

state.py (what is known and chosen), rows.py (which rows that makes), commands.py (what a key does) and view.py (rows to
lines of text) are pure; keys.py reads the keyboard, app.py polls the gateway and draws.
"""
