"""A study as Python sees it: its folder, read anew at each look. pandas and matplotlib are imported inside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mmtune.info import read_info
from mmtune.records import StudyFolder
from mmtune.study.budget import is_finished

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from analysis.studies import StudyCost
    from mmtune.spec.search_spec import SearchSpec

_SHOWN = 10  # trials in Jupyter's table


class Study:
    """One search and its folder, while it runs, after it ended, or after its process died.

    Every attribute reads the folder when it is asked for, so a study that another process runs can be watched.
    Two are equal if they are of the same folder. In Jupyter a study shows as a table of its best trials.

    Args:
        folder: from :func:`mmtune.records.open_study`.
    """

    def __init__(self, folder: StudyFolder) -> None:
        self._folder = folder

    @property
    def path(self) -> Path:
        """The study's folder, absolute."""
        return self._folder.root

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self._folder.name

    @property
    def spec(self) -> SearchSpec:
        """What is searched, as it runs: the search file with its overrides.

        Raises:
            SpecError: the study's spec.yaml is damaged.
        """
        from mmtune.spec.search_spec import load_spec

        return load_spec(self._folder.spec)

    @property
    def is_finished(self) -> bool:
        """Whether a limit of the budget is reached and all trials have ended, so that nothing is left to resume."""
        return is_finished(read_info(self._folder.info), self.cost)

    @property
    def cost(self) -> StudyCost:
        """What it took so far: device-hours of trials, caches and idle slots, and how many trials are in each state."""
        from analysis.studies import study_cost

        return study_cost(self.path)

    @property
    def trials(self) -> pd.DataFrame:
        """One row a trial: state, parameters, metrics at its best epoch, costs, first line of an error.

        Raises:
            ValueError: no trial yet.
        """
        from analysis.studies import load_studies

        return load_studies(self.path)

    @property
    def reports(self) -> pd.DataFrame:
        """One row a trial and epoch, as reported: losses, metrics, seconds, memory.

        Raises:
            ValueError: no trial has reported yet.
        """
        from analysis.studies import load_reports

        return load_reports(self.path)

    def best(self, metric: str | None = None) -> pd.Series:
        """The row of the best trial.

        Args:
            metric: ranks the trials; None takes the study's first objective.

        Raises:
            ValueError: an unknown metric, or no finished trial has a value of it.
        """
        from analysis.best import best_trial

        return best_trial(self.trials, *self._objective(metric))

    def pareto(self, cost: str = "device_seconds", metric: str | None = None) -> pd.DataFrame:
        """The trials that no other beats in metric and cost, cheapest first.

        Its column ``extra_cost_per_point`` is what 0.01 more of the metric cost since the row above.

        Args:
            cost: one of ``mmtune list metrics``.
            metric: what is gained; None takes the study's first objective.

        Raises:
            ValueError: an unknown metric or cost, or no trial yet.
        """
        from analysis.pareto import marginal_cost, pareto_front

        name, mode = self._objective(metric)
        return marginal_cost(pareto_front(self.trials, name, cost, mode=mode), name, cost)

    def plot_pareto(self, cost: str = "device_seconds", metric: str | None = None) -> Figure:
        """Metric against cost of every usable trial, with the front as a line; arguments as :meth:`pareto` has them.

        Raises:
            ValueError: an unknown metric or cost, or no trial has both.
        """
        from analysis.pareto import pareto_figure

        name, mode = self._objective(metric)
        return pareto_figure(self.trials, name, cost, mode=mode)

    def plot_curves(self, metric: str | None = None, *, top: int = 5) -> Figure:
        """The metric against epochs (left) and device time (right).

        Args:
            metric: a column of :attr:`reports`; None takes the study's first objective.
            top: number of trials with a line of their own.

        Raises:
            ValueError: an unknown metric, or no report of it yet.
        """
        from analysis.curves import curves_figure

        return curves_figure(self.path, metric, top=top)

    def _objective(self, metric: str | None) -> tuple[str, str]:
        from analysis.studies import choose_objective

        return choose_objective(self.path, metric)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Study) and other.path == self.path

    def __hash__(self) -> int:
        return hash(self.path)

    def __repr__(self) -> str:
        return f"<Study {self.name}: {self._said()}, in {self._where()}>"

    def _where(self) -> Path:
        """Its path, as short as it can be from here."""
        return self.path.relative_to(Path.cwd()) if self.path.is_relative_to(Path.cwd()) else self.path

    def _said(self) -> str:
        if not self._folder.info.is_file():
            return "gone"
        states = self.cost.states
        parts = ", ".join(f"{count} {state.lower()}" for state, count in states.items())
        num = sum(states.values())
        return f"{num} trial{'s' * (num != 1)}{f' ({parts})' if parts else ''}"

    def _repr_html_(self) -> str:
        from analysis.tables import escaped, html_table, study_table

        head = f"<p><b>{escaped(self.name)}</b>: {escaped(self._said())}<br>{escaped(self._where())}</p>"
        if not self._folder.info.is_file() or not self.cost.states:
            return head
        table = self.trials
        header, rows = study_table(table, *self._objective(None), limit=_SHOWN)
        note = f"<p>{len(rows)} of {len(table)} trials shown; all: <code>study.trials</code></p>"
        return head + html_table((header, rows)) + (note if len(rows) < len(table) else "")
