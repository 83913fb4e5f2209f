"""`deuteron check`: what is wrong with a model repository, found without serving it."""
