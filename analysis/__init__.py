"""Study folders as tables, best configs, Pareto fronts and pictures; needs neither Ray nor torch."""
