"""push: a zoo entry becomes a repository on a hub, with a card that the hub's own pages understand."""

import io
import os
import re
import warnings
from dataclasses import dataclass

from regzoo.errors import InvalidError, RegzooError, invalid
from regzoo.hub import cards, guard, lookup, remote, store
from regzoo.hub.address import Address, parse
from regzoo.io.yaml_json import dump_yaml
from regzoo.schema.card import Card
from regzoo.schema.licences import UNKNOWN, expected

EVAL_RESULTS = ".eval_results/regzoo.yaml"
_PATIENCE = 120.0
"""Seconds for which a hub may be silent while it takes in a commit."""


@dataclass(frozen=True)
class Package:
    """What one commit holds."""

    address: Address
    card: Card
    files: dict[str, bytes]
    """Path in the repository -> its content, which was checked against the card."""
    remarks: tuple[str, ...] = ()
    """What its owner is to see to, in sentences."""

    def sizes(self) -> dict[str, int]:
        """Returns path in the repository -> bytes."""
        return {name: len(content) for name, content in self.files.items()}


def package(name: str | os.PathLike, target: str) -> Package:
    """Makes ready what `push` uploads, without a network.

    Args:
        name: A model, as `regzoo.hub.resolve` takes it.
        target: `hf://owner/repo`.

    Returns:
        Card, listed files and scores in the hub's own form; the card has passed huggingface_hub's validators.

    Raises:
        InvalidError: If the card lacks what others need to rely on it, its licence is not one that the models which it
            started from allow, or `target` has a revision.
    """
    address, entry = parse(target), lookup.take(name)
    if address.revision:
        raise InvalidError(f"{target}: expected hf://owner/repo without a revision; a push makes a new commit.")
    card, folder = entry.card, entry.folder
    lacking = cards.publishable(card)
    if lacking:
        message = f"{card.name} cannot be pushed: its card lacks {', '.join(lacking)}."
        raise InvalidError(f"{message} Add them to {folder / cards.README}; 'regzoo evaluate --record' writes scores.")
    text = cards.text(card, cards.read_body(folder), _derived(card))
    files = {cards.README: text.encode()}
    results = _eval_results(card)
    if results:
        files[EVAL_RESULTS] = results.encode()
    files |= {file.path: entry.read(file.path, file.bytes) for file in card.files}
    return Package(address, card, files, tuple(filter(None, (_licence(card, name) for name in _parents(card)))))


def _parents(card: Card) -> list[str]:
    """Returns the models that a model started from."""
    parent = card.training.get("parent")
    names = parent if isinstance(parent, list) else [parent]
    return list(dict.fromkeys(re.sub(r"#\d+$", "", name) for name in names if isinstance(name, str)))


def _licence(card: Card, parent: str) -> str:
    """Says what is not known of the licence of a model that another one started from.

    Raises:
        InvalidError: If it does not allow that one's.
    """
    try:
        theirs = lookup.find(parent).card.license
    except RegzooError:
        return f"Its parent {parent} is not found: see that its licence allows {card.license}."
    wanted = expected(theirs, card.license)
    if wanted:
        raise invalid(f"{card.name}: license", f"for the parent {parent} {wanted}", card.license)
    return f"The licence of its parent {parent} is unknown: ask its authors." if theirs in UNKNOWN else ""


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

    address, card = package.address, package.card
    _check_on_hub(package)
    there, head = remote.read_card(address) or (None, None)
    if there and there.name != card.name:
        raise InvalidError(f"{address} holds another model, {there.id}. Choose another repository for {card.id}.")
    if there and there.version == card.version and not store.same_model(there, card):
        raise InvalidError(f"{address} holds other weights than this {card.id}. Give the new ones a new version.")
    # As buffers, for huggingface_hub sends bytes by hf_xet where it can, which goes where a server redirects it.
    operations = [CommitOperationAdd(name, io.BytesIO(content)) for name, content in package.files.items()]

    def commit() -> str:
        client = remote.client()
        if there is None:
            client.create_repo(address.repo, private=private, exist_ok=True)
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            # Refused where someone else has pushed since.
            return client.create_commit(
                address.repo, operations, commit_message=card.id, parent_commit=head and head.commit
            ).oid

    most = _PATIENCE + guard.deadline(sum(package.sizes().values()))
    try:
        with remote.reported(address, _PATIENCE):
            return address.at(guard.within(str(address), most, commit))
    except remote.TransportError as error:
        raise remote.TransportError(f"{error} Look there first: what was sent may have arrived.") from None


def _derived(card: Card) -> dict:
    """Returns the fields of a Hugging Face model card that ours has under other names, checked by its validators."""
    from huggingface_hub import EvalResult, ModelCardData

    scores = [
        EvalResult(
            task_type=card.pipeline_tag,
            task_name="image registration",
            dataset_type=score.dataset or _slug(score.data),
            dataset_name=score.data,
            metric_type=score.metric,
            metric_name=" ".join(filter(None, (score.metric, score.unit))),
            metric_value=score.value,
        )
        for score in card.scores
    ]
    bases = [parse(name).repo for name in _parents(card) if name.startswith("hf://")]
    data = ModelCardData(
        base_model=bases[0] if len(bases) == 1 else bases or None,
        datasets=sorted({source.dataset for source in card.data if source.dataset}) or None,
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


def _check_on_hub(package: Package) -> None:
    """Asks the hub whether it takes the card, before a repository is made; its list of licences is its own."""
    from huggingface_hub.errors import BadRequestError

    question = {"content": package.files[cards.README].decode(), "repoType": "model"}
    with remote.reported(package.address, _PATIENCE):
        try:
            most = _PATIENCE + guard.deadline()
            guard.within(str(package.address), most, lambda: remote.asked("POST", "/api/validate-yaml", json=question))
        except BadRequestError as error:
            told = " ".join(str(error.server_message or error).split())[:500]
            raise InvalidError(f"{package.address}: the hub does not take this card: {told}") from None


def _eval_results(card: Card) -> str:
    """Returns the scores on data sets of the hub as the text of an `.eval_results` file; empty if there are none."""
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    entries = [
        EvalResultEntry(
            dataset_id=score.dataset,
            task_id=score.metric,
            value=score.value,
            notes=f"{score.text()}; {score.pairs} pairs; {score.command}",
        )
        for score in card.scores
        if score.dataset
    ]
    return dump_yaml(eval_result_entries_to_yaml(entries)) if entries else ""


def _slug(text: str) -> str:
    """Returns words as an identifier: `Learn2Reg, task 1; 20 pairs` gives `learn2reg-task-1`."""
    return re.sub(r"[^a-z0-9]+", "-", text.partition(";")[0].lower()).strip("-")[:96] or "data"
