"""The demo's input: a survey, documents and photos, drawn by a seeded script."""
