"""Builders of invented resources and helpers for real sockets, shared by the tests."""
