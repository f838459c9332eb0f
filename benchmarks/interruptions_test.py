"""Two kills at tiny size; `python -m benchmarks.interruptions ndmf_net` makes twenty."""

from benchmarks.interruptions import interrupt_and_compare


def test_a_run_killed_twice_ends_as_one_never_interrupted(tmp_path):
    hits, found = interrupt_and_compare("ndmf_net", tmp_path, kills=2, num_epochs=3, seed=1)
    assert hits >= 1
    assert found == []
