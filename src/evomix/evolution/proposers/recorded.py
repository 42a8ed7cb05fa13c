"""The replaying proposer: answers come from recorded responses alone, and a miss is an error. No key, no network."""

from __future__ import annotations

from evomix.errors import UserError
from evomix.evolution.openevolve_adapter.models import Reply
from evomix.evolution.proposers.conversation import Call, Conversation


class Recorded(Conversation):
    """Replays a search from its response store."""

    def fetch(self, calls: list[Call]) -> list[Reply]:
        """Return the stored answers; UserError for a call that was never recorded."""
        replies = []
        for call in calls:
            reply = self._store.get(call)
            if reply is None:
                raise UserError(
                    f"no recorded response {self._store.path(call).name} in {self._store.folder}: population, prompts, "
                    "seeds or model differ from the recorded search; set evolution.llm.provider to openai"
                )
            replies.append(reply)
        return replies
