"""What is computed once and memory-mapped by every trial: tokens, images, features of locked encoders."""
