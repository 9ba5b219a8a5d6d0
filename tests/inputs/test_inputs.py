"""Inputs: conversion of stored rows, and random augmentation in training alone."""

import math

import numpy as np
import pytest
import torch

from mla_lightning.errors import ConfigError
from mla_lightning.inputs.base import BatchRandomness
from mla_lightning.inputs.features import Features
from mla_lightning.inputs.images import Images, crop_shapes
from mla_lightning.inputs.spectrograms import Spectrograms

B = 6
IMAGES = torch.randint(0, 256, (B, 3, 32, 40), dtype=torch.uint8)
VIDEOS = torch.randint(0, 256, (B, 6, 3, 16, 16), dtype=torch.uint8)


def randomness(index=None, *, epoch=0, seed=0, modality="image"):
    return BatchRandomness(seed, epoch, modality, torch.arange(B) if index is None else index)


# ---------------------------------------------------------------------- random numbers


def splitmix64(x):
    """Compute the published function on unsigned integers of Python."""
    mask = 2**64 - 1
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return x ^ (x >> 31)


def test_numbers_are_splitmix64_of_a_counter():
    from mla_lightning.randomness import derive_seed

    index = torch.tensor([0, 5, 10**6])
    numbers = randomness(index, epoch=3, seed=7).uniform("crop", 4)
    base = derive_seed(7, "input", "image", "crop", 3)
    for row, number in enumerate(index.tolist()):
        for position in range(4):
            counter = ((number * 4 + position) * 0x9E3779B97F4A7C15 + base) & (2**64 - 1)
            assert numbers[row, position] == (splitmix64(counter) >> 40) / 2**24


def test_numbers_are_uniform_and_uncorrelated():
    values = BatchRandomness(0, 0, "image", torch.arange(50_000)).uniform("crop", 2).double()
    assert values.min() >= 0
    assert values.max() < 1
    histogram = torch.histc(values[:, 0], 20, 0, 1)
    assert (histogram / 2500 - 1).abs().max() < 0.08
    assert torch.corrcoef(values.T)[0, 1].abs() < 0.02
    assert torch.corrcoef(torch.stack([values[1:, 0], values[:-1, 0]]))[0, 1].abs() < 0.02


def test_a_samples_numbers_do_not_depend_on_its_batch():
    alone = randomness(torch.tensor([4])).uniform("crop", 3)
    assert torch.equal(randomness().uniform("crop", 3)[4:5], alone)
    for other in (
        randomness(epoch=1).uniform("crop", 3),
        randomness(seed=1).uniform("crop", 3),
        randomness(modality="visual").uniform("crop", 3),
        randomness().uniform("flip", 3),
    ):
        assert not torch.equal(other[4:5], alone)


# ---------------------------------------------------------------------- images


def test_images_in_evaluation_are_scaled_per_colour():
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    scaled = Images(mean, std)(IMAGES)
    expected = (IMAGES.double() / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(
        3, 1, 1
    )
    torch.testing.assert_close(scaled.double(), expected, atol=1e-5, rtol=1e-5)
    assert scaled.dtype == torch.float32


def test_evaluation_resizes_with_antialiasing():
    flat = torch.full((1, 3, 64, 64), 100, dtype=torch.uint8)
    assert torch.allclose(Images(size=16)(flat), torch.tensor(100 / 255))
    lines = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    lines[..., ::2] = 200  # stripes of one pixel become grey, not stripes
    resized = Images(size=16)(lines)[..., 1:-1]
    assert resized.shape[-2:] == (16, 14)
    assert (resized * 255 - 100).abs().max() < 3


def test_images_are_augmented_in_training_alone():
    plain, random = Images(size=24), Images(size=24, augment="crop_flip", jitter=0.5)
    assert torch.equal(plain(IMAGES), random(IMAGES))
    assert torch.equal(plain(IMAGES), plain(IMAGES, randomness()))
    epoch_0, epoch_1 = random(IMAGES, randomness()), random(IMAGES, randomness(epoch=1))
    assert epoch_0.shape == (B, 3, 24, 24)
    assert not torch.allclose(epoch_0, epoch_1)
    assert torch.equal(epoch_0, random(IMAGES, randomness()))
    order = torch.tensor([3, 1])
    assert torch.allclose(random(IMAGES[order], randomness(order)), epoch_0[order], atol=1e-6)


def test_a_crop_of_the_whole_area_is_the_image_or_its_mirror_image():
    whole = {"augment": "crop_flip", "scale": (1.0, 1.0), "ratio": (1.25, 1.25)}
    plain = Images()(IMAGES)
    for flip, expected in ((0.0, plain), (1.0, plain.flip(-1))):
        cropped = Images(flip=flip, **whole)(IMAGES, randomness())
        torch.testing.assert_close(cropped, expected, atol=2e-5, rtol=0)
    many = IMAGES[:1].expand(400, -1, -1, -1)
    half = Images(flip=0.5, **whole)(many, randomness(torch.arange(400)))
    mirrored = (half - plain[0].flip(-1)).abs().flatten(1).amax(dim=1) < 1e-4
    assert 150 < mirrored.sum() < 250


def test_crops_have_the_pixels_of_the_image():
    # A ramp encodes where each pixel was: one colour is the column, another one the row.
    size = 100
    ramp = torch.arange(size, dtype=torch.uint8)
    image = torch.zeros(1, 3, size, size, dtype=torch.uint8)
    image[0, 0], image[0, 1] = ramp, ramp[:, None]
    n = 500
    crop = Images(augment="crop_flip", scale=(0.25, 0.25), ratio=(1.0, 1.0), flip=0.0)
    cropped = crop(image.expand(n, -1, -1, -1), randomness(torch.arange(n))) * 255
    left, right = cropped[:, 0, 50, 0], cropped[:, 0, 50, -1]
    # Half of each side; at the image's edge the border is repeated for a quarter of a pixel.
    assert ((right - left) - 49.5).abs().max() <= 0.25
    assert ((right - left) - 49.5).abs().median() < 1e-4
    assert left.min() >= 0
    assert right.max() <= 99
    assert left.min() < 2
    assert left.max() > 47
    assert (left.mean() - 24.75).abs() < 2.5
    top, bottom = cropped[:, 1, 0, 50], cropped[:, 1, -1, 50]
    assert ((bottom - top) - 49.5).abs().max() <= 0.25


def test_shapes_of_crops_are_distributed_as_in_torchvision():
    numbers = BatchRandomness(0, 0, "image", torch.arange(20_000)).uniform("crop", 20)
    width, height = crop_shapes(numbers, (0.08, 1.0), (3 / 4, 4 / 3), (224, 224))
    assert width.max() <= 1
    assert height.max() <= 1
    aspect = width / height
    assert aspect.min() >= 0.7499
    assert aspect.max() <= 1.3334
    # A plain simulation of the rule: the first of ten draws that fits.
    rng = np.random.default_rng(0)
    areas = []
    for _ in range(20_000):
        for _ in range(10):
            area, ratio = rng.uniform(0.08, 1), math.exp(rng.uniform(-1, 1) * math.log(4 / 3))
            if area * ratio <= 1 and area / ratio <= 1:
                areas.append(area)
                break
    assert abs((width * height).mean().item() - np.mean(areas)) < 0.006
    assert abs((width * height).std().item() - np.std(areas)) < 0.006
    wide, tall = crop_shapes(torch.full((1, 20), 0.999), (1.0, 1.0), (0.75, 4 / 3), (100, 300))
    assert (wide.item() * 300) / (tall.item() * 100) == pytest.approx(4 / 3)
    assert tall == 1


def test_frames_of_a_video_are_cropped_alike_unless_per_frame():
    still = VIDEOS[:, :1].expand(-1, 6, -1, -1, -1)
    options = {"size": 8, "augment": "crop_flip"}
    together = Images(**options)(still, randomness())
    assert together.shape == (B, 3, 6, 8, 8)
    assert torch.allclose(together[:, :, 0], together[:, :, 5], atol=1e-6)
    apart = Images(per_frame=True, **options)(still, randomness())
    assert not torch.allclose(apart[:, :, 0], apart[:, :, 5])


def test_training_uses_any_frame_of_a_segment_and_evaluation_the_middle_one():
    numbered = torch.arange(6, dtype=torch.uint8).view(1, 6, 1, 1, 1).expand(200, -1, 3, 8, 8)
    images = Images(frames_per_segment=3)
    middle = (images(numbered)[:, 0, :, 0, 0] * 255).round()
    assert torch.equal(middle, torch.tensor([1.0, 4.0]).expand(200, 2))
    random = (images(numbered, randomness(torch.arange(200)))[:, 0, :, 0, 0] * 255).round()
    assert set(random[:, 0].tolist()) == {0, 1, 2}
    assert set(random[:, 1].tolist()) == {3, 4, 5}
    with pytest.raises(ConfigError, match="does not divide the 6 stored frames"):
        Images(frames_per_segment=4)(VIDEOS)


def test_jitter_keeps_grey_grey_and_black_black():
    random = Images(jitter=1.0)
    grey = torch.full((B, 3, 4, 4), 90, dtype=torch.uint8)
    jittered = random(grey, randomness())
    assert torch.allclose(jittered[:, 0], jittered[:, 1], atol=1e-5)
    assert len({round(v, 4) for v in jittered[:, 0, 0, 0].tolist()}) == B
    black = random(torch.zeros_like(grey), randomness())
    assert black.abs().max() < 1e-5
    assert random(IMAGES, randomness()).max() <= 1 + 1e-5


# ---------------------------------------------------------------------- spectrograms, features


def test_spectrograms_are_scaled_and_get_a_channel_axis():
    x = torch.randn(B, 20, 8).half()
    scaled = Spectrograms(-5.081, 4.4849)(x, randomness())
    assert scaled.shape == (B, 1, 20, 8)
    torch.testing.assert_close(scaled[:, 0], (x.float() + 5.081) / 4.4849)


def test_one_band_and_one_interval_of_time_are_masked_in_training():
    x = torch.ones(300, 20, 8)
    spectrograms = Spectrograms(freq_mask=4, time_mask=5)
    assert torch.equal(spectrograms(x), x[:, None])
    masked = spectrograms(x, randomness(torch.arange(300)))[:, 0]
    columns = (masked == 0).all(dim=1)
    rows = (masked == 0).all(dim=2)
    assert columns.sum(dim=1).max() == 4
    assert rows.sum(dim=1).max() == 5
    assert columns.any(dim=0).all()
    assert rows.any(dim=0).all()
    for is_masked in (columns, rows):  # one interval each
        starts = (is_masked[:, 1:] & ~is_masked[:, :-1]).sum(dim=1) + is_masked[:, 0]
        assert starts.max() == 1


def test_features_are_scaled():
    x = torch.randn(4, 3).half()
    assert torch.equal(Features()(x), x.float())
    torch.testing.assert_close(Features(1.0, 2.0)(x), (x.float() - 1) / 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Images(augment="crop"), "Did you mean 'crop_flip'"),
        (lambda: Images(std=0.0), "std must be above 0"),
        (lambda: Images(mean=(0.1, 0.2)), "one number or 3"),
        (lambda: Images(scale=(0.5, 1.5)), "scale must be two ascending"),
        (lambda: Images(flip=2), "flip must be 0 to 1"),
        (lambda: Images(jitter=-1), "jitter must be 0 to 1"),
        (lambda: Images(size=0), "size must be at least 1"),
        (lambda: Images(per_frame=True), "per_frame has no effect"),
        (lambda: Spectrograms(freq_mask=-1), "freq_mask must be at least 0"),
        (lambda: Features(std=-1), "std must be above 0"),
    ],
)
def test_bad_settings_raise_an_error(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
