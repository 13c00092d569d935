"""`cortex top`: the fleet in a terminal.

Pure: model.py (state), rows.py (what there is to show), commands.py (what a key does), view.py (the picture),
figures.py (numbers as characters). keys.py (the keyboard), api.py (HTTP), app.py (the loop).
"""
