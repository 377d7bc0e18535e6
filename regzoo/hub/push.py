"""push: a zoo entry becomes a repository on a hub, with a card that the hub's own pages understand."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from regzoo import cards, hub
from regzoo.cards import Card
from regzoo.checks import InvalidError, RegzooError
from regzoo.documents import dump_yaml
from regzoo.hub import remote, store
from regzoo.hub.address import Address, parse

EVAL_RESULTS = ".eval_results/regzoo.yaml"


@dataclass(frozen=True)
class Package:
    """What one commit holds."""

    address: Address
    card: Card
    files: dict[str, Path | bytes]
    """Path in the repository -> the file, or its content."""

    def sizes(self) -> dict[str, int]:
        """Returns path in the repository -> bytes."""
        return {name: len(c) if isinstance(c, bytes) else c.stat().st_size for name, c in self.files.items()}


def package(name: str | os.PathLike, target: str) -> Package:
    """Makes ready what `push` uploads, without a network.

    Args:
        name: A model, as `regzoo.hub.resolve` takes it.
        target: `hf://owner/repo`.

    Returns:
        Card, listed files and scores in the hub's own form; the card has passed huggingface_hub's validators.

    Raises:
        InvalidError: If the card lacks what others need to rely on it, or `target` has a revision.
    """
    address, folder = parse(target), hub.resolve(name)
    if address.revision:
        raise InvalidError(f"{target}: expected hf://owner/repo without a revision; a push makes a new commit.")
    card = cards.read(folder)
    lacking = cards.publishable(card)
    if lacking:
        message = f"{card.name} cannot be pushed: its card lacks {', '.join(lacking)}."
        raise InvalidError(f"{message} Add them to {folder / cards.README}; 'regzoo evaluate --record' writes scores.")
    text = cards.text(card, cards.read_body(folder), _derived(card))
    files: dict[str, Path | bytes] = {cards.README: text.encode(), EVAL_RESULTS: _eval_results(card).encode()}
    return Package(address, card, files | {file.path: folder / file.path for file in card.files})


def push(package: Package, private: bool) -> Address:
    """Uploads a package in one commit; the repository is created if it does not exist.

    Args:
        package: What `package` gave.
        private: Whether a new repository is private.

    Returns:
        The address of the commit.

    Raises:
        InvalidError: If the repository holds other weights under the same name and version.
        RegzooError: If the hub cannot be reached, fails, or refuses access.
    """
    from huggingface_hub import CommitOperationAdd
    from huggingface_hub.constants import HF_HUB_DISABLE_XET

    address, card = package.address, package.card
    there = remote.read_card(address)
    if there and there.id == card.id and not store.same_model(there, card):
        raise InvalidError(f"{address} holds other weights than this {card.id}. Give the new ones a new version.")
    operations = [
        CommitOperationAdd(name, content if isinstance(content, bytes) else str(content))
        for name, content in package.files.items()
    ]
    with remote.reported(address):
        client = remote.client()
        if there is None:
            client.create_repo(address.repo, private=private, exist_ok=True)
    try:
        with remote.reported(address):
            commit = client.create_commit(address.repo, operations, commit_message=card.id)
    except remote.TransportError as error:
        if not HF_HUB_DISABLE_XET:
            raise remote.TransportError(f"{error} If this hub has no xet store, set HF_HUB_DISABLE_XET=1.") from None
        raise
    return address.at(commit.oid)


def _derived(card: Card) -> dict:
    """Returns the fields of a Hugging Face model card that ours has under other names, checked by its validators."""
    from huggingface_hub import EvalResult, ModelCardData

    scores = [
        EvalResult(
            task_type=card.pipeline_tag,
            task_name="image registration",
            dataset_type=_slug(score.data),
            dataset_name=score.data,
            metric_type=score.metric,
            metric_name=" ".join(filter(None, (score.metric, score.unit))),
            metric_value=score.value,
        )
        for score in card.scores
    ]
    parent = str(card.training.get("parent"))
    data = ModelCardData(
        base_model=parse(parent).repo if parent.startswith("hf://") else None,
        datasets=sorted({_slug(source.name) for source in card.data}),
        model_name=card.name,
        eval_results=scores,
    )
    fields = data.to_dict()
    _check(cards.text(card, "", fields), scores)
    return fields


def _check(text: str, scores: list) -> None:
    """Reads a card as huggingface_hub does."""
    from huggingface_hub import ModelCard

    try:
        found = ModelCard(text, ignore_metadata_errors=False).data.eval_results or []
    except ValueError as error:
        raise InvalidError(f"The card is not valid on a hub: {error}") from None
    if len(found) != len(scores):
        raise RegzooError("The card is not valid on a hub: its scores are not read back.")


def _eval_results(card: Card) -> str:
    """Returns the scores as the text of an `.eval_results` file."""
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    entries = [
        EvalResultEntry(
            dataset_id=_slug(score.data),
            task_id=score.metric,
            value=score.value,
            notes=f"{score.text()}; {score.pairs} pairs; {score.command}",
        )
        for score in card.scores
    ]
    return dump_yaml(eval_result_entries_to_yaml(entries))


def _slug(text: str) -> str:
    """Returns words as an identifier: `Learn2Reg, task 1; 20 pairs` gives `learn2reg-task-1`."""
    return re.sub(r"[^a-z0-9]+", "-", text.partition(";")[0].lower()).strip("-")[:96]
