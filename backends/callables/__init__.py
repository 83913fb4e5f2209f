"""Models that are functions of the process that serves them: how they are described, decorated and run."""
