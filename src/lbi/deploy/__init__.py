"""Export and run: targets, backends and the job between them."""
