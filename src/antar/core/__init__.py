"""What every room stands on: whole-or-absent files, manifests, shards, seeds, progress, errors."""
