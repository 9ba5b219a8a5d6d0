"""Settings that earlier versions did not have do not change the identity while they are null."""

from mla_lightning.identity import identity_of


def test_an_encoder_without_areas_is_that_of_earlier_versions():
    def identity(**settings):
        encoder = {"image": {"_target_": "SmallCNN", "out_features": 64, **settings}}
        return identity_of({"encoder": encoder}, "data")

    assert identity() == identity(grid=None) != identity(grid=4)
    assert identity() != identity(out_features=None)
