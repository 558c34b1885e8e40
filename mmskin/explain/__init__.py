"""Why a network answers as it does: where it looks, how its gates open, and which route changed the answer.

Called by cli, packaging and web.
"""
