"""Methods whose steps are made one evaluation of the vector field at a time."""
