"""The annotation engine: a teacher's chains of atomic steps for questions with known answers."""
