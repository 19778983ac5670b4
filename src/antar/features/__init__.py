"""Features: codes and examples, typed contrasts with their nulls, coherence, energy, matching and stability."""
