"""Objects that live elsewhere than in a worker: models and calls beside what a program would use in their place."""
