"""Lightning callbacks: the one place where explainers, metrics, pictures and training meet."""
