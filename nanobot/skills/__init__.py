"""Skills: instructions a model reads when it needs them."""
