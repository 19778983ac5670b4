"""What features are about: labels, verdicts, and predictions from the label alone."""
