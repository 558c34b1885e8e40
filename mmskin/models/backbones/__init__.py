"""Networks as chains of blocks, our own and other libraries', and how tasks share and split them; configs name them."""
