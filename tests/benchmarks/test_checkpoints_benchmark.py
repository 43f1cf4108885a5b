from benchmarks import checkpoints


def test_a_line_for_each_model(capsys):
    assert checkpoints.main(["digits"]) == 0
    name, took, *words = capsys.readouterr().out.split()
    assert name == "digits" and float(took) >= 0 and words[-2:] == ["a", "minute"]
