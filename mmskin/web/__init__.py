"""The page of ``mmskin serve``: drop images, and see what the network answers and why. Needs the extra ``serve``.

Called by cli.
"""
