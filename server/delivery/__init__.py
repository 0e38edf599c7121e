"""Transactional outbox, worker and channels (MSSanté, DMP)."""
