"""Tables whose columns are of different kinds: which kind each is, how it is encoded for the engines, and back."""
