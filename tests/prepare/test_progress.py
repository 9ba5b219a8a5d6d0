"""The progress bar of a preparation."""

from mla_lightning.prepare.progress import ItemProgress


def test_a_name_in_brackets_is_shown_as_it_is(capsys):
    with ItemProgress("sounds [x] of birds", 2, 0) as progress:
        progress.count_item(is_bad=False)
        progress.count_item(is_bad=True)
    shown = capsys.readouterr().err
    assert "sounds [x] of birds" in shown
    assert "2/2" in shown
    assert "1 bad" in shown
