"""People's judgements: which features they see, what they answer, and how far they agree."""
