"""A checkpoint is the one that was written, or it is refused: a run never goes on from damage, nor publishes it."""

import json
import struct

import numpy as np
import pytest
import tiny_run
from safetensors import SafetensorError

from regzoo.errors import InvalidError, RegzooError
from regzoo.models import build, weights
from regzoo.training import callbacks
from regzoo.training import finetune as training
from regzoo.training.minutes import Clock

pytestmark = pytest.mark.backend


def checkpoint(folder):
    """A checkpoint of one epoch of a new model, the model with it."""
    model = build(tiny_run.recipe().model)
    model.compile(optimizer=training.optimizer_of(tiny_run.recipe()))
    model.optimizer.build(model.trainable_variables)
    made = callbacks.Checkpoint(folder / "checkpoint.safetensors", lambda: {"valid_dice": 0.5}, Clock())
    made.set_model(model)
    return made


@pytest.fixture
def written(tmp_path):
    made = checkpoint(tmp_path)
    made.on_epoch_end(0, {"loss": 1.0})
    return made


def test_no_flipped_bit_of_a_checkpoint_is_taken(written):
    data = written.path.read_bytes()
    for at in [8, 9, *np.linspace(10, len(data) - 1, 150).astype(int)]:
        written.path.write_bytes(data[:at] + bytes([data[at] ^ (1 << (at % 8))]) + data[at + 1 :])
        with pytest.raises(InvalidError):
            written.restore()
    written.path.write_bytes(data)
    written.restore()
    assert written.epoch == 1


def with_facts(path, change):
    """Writes a checkpoint's facts anew as regzoo 0.1 wrote them, without a digest."""
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    facts = json.loads(header["__metadata__"]["facts"])
    header["__metadata__"] = {"facts": json.dumps(change(facts))}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])


def test_a_checkpoint_without_a_digest_is_still_read(written):
    with_facts(written.path, lambda facts: facts)
    written.restore()
    assert (written.epoch, written.best_epoch, len(written.history)) == (1, 1, 1)


def test_a_checkpoint_whose_history_has_no_steps_is_still_read(tmp_path):
    made = checkpoint(tmp_path)
    for epoch in range(2):
        made.best_epoch = -1
        made.model.optimizer.iterations.assign(3 * epoch + 3)
        made.on_epoch_end(epoch, {"loss": 1.0})

    def without_steps(facts):
        return facts | {"history": [{key: row[key] for key in row if key != "step"} for row in facts["history"]]}

    with_facts(made.path, without_steps)
    made.restore()
    assert [row["step"] for row in made.history] == [3, 6]


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts | {"epoch": 5},
        lambda facts: facts | {"epoch": "1"},
        lambda facts: facts | {"best_epoch": 2},
        lambda facts: facts | {"history": [{"epoch": 2}]},
        lambda facts: facts | {"history": 3},
        lambda facts: {key: value for key, value in facts.items() if key != "seconds"},
        lambda _: [],
        lambda _: None,
    ],
)
def test_facts_that_do_not_agree_are_refused(written, change):
    with_facts(written.path, change)
    with pytest.raises(InvalidError, match=r"checkpoint\.safetensors is (damaged|not a readable)"):
        written.restore()


def test_best_weights_that_are_not_whole_are_refused(written):
    values, facts = weights.read(written.path)
    best = next(name for name in values if name.startswith("best/"))
    weights.save(written.path, {name: value for name, value in values.items() if name != best}, facts)
    with pytest.raises(InvalidError, match="its best weights are not whole"):
        written.restore()


def test_a_full_disk_is_one_line_and_leaves_the_old_file(written, monkeypatch):
    before = written.path.read_bytes()

    def full(*_arguments, **_options):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(weights, "save_file", full)
    written.best_epoch = -1
    with pytest.raises(RegzooError, match=r"checkpoint\.safetensors cannot be written: .*No space left"):
        written.on_epoch_end(1, {"loss": 1.0})
    assert written.path.read_bytes() == before
    assert [path.name for path in written.path.parent.iterdir()] == ["checkpoint.safetensors"]
