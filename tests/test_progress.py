import io
import sys

from ihdm import progress


def test_off_a_terminal_a_bar_is_a_few_whole_lines(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with progress.bar(1000, "training mnist", initial=100) as bar:
        for _ in range(900):
            bar.set_postfix_str("loss 0.5", refresh=False)
            bar.update()
    written = stream.getvalue()
    assert "\r" not in written
    lines = written.splitlines()
    assert 2 <= len(lines) <= 4
    assert lines[0].startswith("training mnist: 100/1000 steps")
    assert lines[-1].startswith("training mnist: 1000/1000 steps")
    assert lines[-1].endswith("loss 0.5")


def test_on_a_terminal_it_is_a_live_bar(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with progress.bar(3, "drawing") as bar:
        bar.update(3)
    assert "\rdrawing" in stream.getvalue()


def test_one_value_alone_gets_no_bar(capsys):
    assert list(progress.over(range(3, 4), "features", "part")) == [3]
    assert capsys.readouterr().err == ""
    assert list(progress.over(range(3), "features", "part")) == [0, 1, 2]
    assert "features: 3/3 parts" in capsys.readouterr().err
