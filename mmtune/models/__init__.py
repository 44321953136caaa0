"""What a trained model can do: test, predict, embed, be taken away."""
