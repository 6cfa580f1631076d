"""What training tells a dataset: the losses of its rows, and the samples to leave out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch.utils.data import IterableDataset

from choline_data.client.feedback.bans import Bans
from choline_data.client.feedback.outliers import Outliers
from choline_data.client.passing.standing import Standing
from choline_data.client.readers.reader import StreamDescription
from choline_data.errors import InvalidOptionError


class TrainingFeedback(IterableDataset):  # type: ignore[misc]
    """The methods of a dataset that receive losses and bans."""

    feedback: Outliers
    _bans: Bans
    _standing: Standing

    def describe(self) -> StreamDescription:
        """Returns a description of the stream: its recipe, Arrow schema, dataset names and length."""
        raise NotImplementedError

    def report(self, ids: Any, losses: Any) -> bool:
        """Records a loss for each row. `ids` has the rows' ids or positions, or is the batch. Returns True for a loss spike."""
        return self.feedback.report(ids, losses)

    def outliers(self, count: int = 10) -> list[dict[str, Any]]:
        """Returns up to `count` rows of the last loss spike. Rows with the highest loss in relation to their dataset come first."""
        return self.feedback.worst(count)

    def ban(self, ids: Iterable[object]) -> None:
        """Leaves out the samples with these ids from now on, in every epoch. The state stores the ids.

        Positions do not change: batches become smaller, but a step is never empty. Call it with the same ids on all ranks.
        """
        self._standing.check_reachable("ban")
        described = self.describe()
        if "id" not in described.schema.names:
            raise InvalidOptionError(
                f"Rows of the view {described.recipe.view!r} hold several samples, and have no id.",
                remedy="Leave the samples out with `where=`, or skip the rows with skip(steps).",
                option="view",
            )
        self._bans.add(ids)
        self._standing.outdate()

    def unban(self) -> None:
        """Removes all bans: the banned samples are in the stream again."""
        self._standing.check_reachable("unban")
        self._bans.lift()
        self._standing.outdate()

    @property
    def banned(self) -> list[bytes]:
        """The ids of the samples that are left out."""
        return list(self._bans.ids)
