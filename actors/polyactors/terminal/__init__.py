"""What a person sees of a running service: a live view on a terminal, else plain lines."""
