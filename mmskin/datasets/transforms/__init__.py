"""The steps of a pipeline, from files to what the network takes; configs name them."""
