"""Tables and transactions; SQLite and PostgreSQL through SQLAlchemy Core."""
