"""Fakes that ship with the library, and checks of what a service promises on the bus."""
