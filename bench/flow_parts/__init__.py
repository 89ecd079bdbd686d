"""Evidence on the flow-matching demo model: edits, attacks on them, and what carries an edit."""
