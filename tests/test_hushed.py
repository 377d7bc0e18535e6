"""What C and C++ libraries say on standard error is kept, by several threads at once too."""

import os
import threading
import warnings

import pytest

from regzoo.hushed import hushed, noted


def test_what_is_written_is_given_and_not_shown(capfd):
    with hushed() as said:
        os.write(2, b"a library speaks\n")
        with hushed() as inner:
            os.write(2, b"another")
        assert inner is not None
        assert said() == "a library speaks\n"
    os.write(2, b"regzoo speaks\n")
    assert capfd.readouterr().err == "regzoo speaks\n"


def test_threads_leave_the_stream_as_it_was(capfd):
    def work():
        for _ in range(100):
            with hushed():
                os.write(2, b"x")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.write(2, b"seen\n")
    assert capfd.readouterr().err == "seen\n"


def test_a_process_without_the_stream(monkeypatch):
    def closed(_):
        raise OSError

    monkeypatch.setattr(os, "dup", closed)
    with hushed() as said:
        assert said() == ""


def test_no_place_for_a_file(monkeypatch, capfd):
    def full():
        raise OSError

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with hushed() as said:
        os.write(2, b"lost\n")
        assert said() == ""
    assert capfd.readouterr().err == ""


def test_warnings_of_threads_are_kept_and_shown_again_afterwards():
    def work():
        for _ in range(100):
            with noted() as texts:
                warnings.warn("mended", stacklevel=1)
            assert "mended" in texts

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with pytest.warns(UserWarning, match="seen"):
        warnings.warn("seen", stacklevel=1)
