"""Why a network answers as it does: where it looks, where its gates open, and which route changed the answer."""
