from regzoo import processors


def test_threads_that_are_given_count_for_all_processors(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    assert processors.processors() == 6
    monkeypatch.setenv("OMP_NUM_THREADS", "4,2")  # a form for nested loops
    assert 1 <= processors.processors() <= 4096


def test_every_backend_is_told():
    assert set(processors.threads(3).values()) == {"3"}
    assert {"OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "NPROC"} <= set(processors.threads(3))
