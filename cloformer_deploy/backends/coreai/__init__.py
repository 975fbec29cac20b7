"""Core AI assets (`.aimodel`), Apple's successor of Core ML packages."""
