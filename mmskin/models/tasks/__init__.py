"""What a branch predicts, with its losses and decisions: ``task`` says how to write one, configs name them."""
