"""Sounds are read as log-mel spectrograms: values, formats, lengths, and damaged files."""

import io
import wave

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from scipy import signal

from maskfeat_plugin.registry import DATASETS, TRANSFORMS

RATE = 16000
SMALL = dict(sample_rate=8000, num_mels=40, window=256, hop=128, fft_size=512, decibels=(-80, 0), max_seconds=20)


def load(**options):
    return TRANSFORMS.build(dict(type="maskfeat.LoadSpectrogram", **options))


def wav(samples, rate=RATE, width=2, channels=1):
    """Encode samples in [-1, 1] as a WAV file of 8, 16, 24 or 32 bits."""
    values = np.round(np.asarray(samples) * (2 ** (8 * width - 1) - 1)).astype("<i8")
    if width == 1:
        values += 128  # WAV files of 8 bits are unsigned
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(width)
        writer.setframerate(rate)
        writer.writeframes(values.view(np.uint8).reshape(-1, 8)[:, :width].tobytes())
    return file.getvalue()


def noise(seconds=1.0, rate=RATE, seed=0):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, int(seconds * rate))


def sine(frequency, rate=RATE, seconds=1.0):
    return np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)


def read(tmp_path, content, name="a.wav", **options):
    (tmp_path / name).write_bytes(content)
    return load(**options)(dict(img_path=str(tmp_path / name)))


def expected_spectrogram(samples, rate, mels, window, hop, size, low, high):
    """Compute the spectrogram with scipy's Fourier transform, and each filter value by itself."""
    transform = signal.ShortTimeFFT(
        signal.windows.hann(window, sym=False), hop, rate, mfft=size, scale_to="magnitude", fft_mode="onesided2X"
    )
    middle = transform.m_num_mid  # the first window that lies inside the samples starts here
    power = np.stack(
        [
            np.abs(transform.stft(samples[start : start + window], 0, 1, k_offset=middle)[:, 0]) ** 2
            for start in range(0, len(samples) - window + 1, hop)
        ],
        axis=1,
    )
    power[[0, -1]] *= 4  # onesided2X leaves out the first and the last frequency
    weights = signal.windows.hann(window, sym=False)
    power *= weights.sum() ** 2 / (size * (weights**2).sum())  # from the height of a sine to its power
    points = np.linspace(0, 2595 * np.log10(1 + rate / 2 / 700), mels + 2)
    edges = [700 * (10 ** (point / 2595) - 1) for point in points]
    found = np.zeros((mels, power.shape[1]))
    for band in range(mels):
        left, centre, right = edges[band : band + 3]
        for k, frequency in enumerate(transform.f):
            if left < frequency < right:
                rises = frequency <= centre
                share = (frequency - left) / (centre - left) if rises else (right - frequency) / (right - centre)
                found[band] += share * power[k]
    with np.errstate(divide="ignore"):
        return np.clip((10 * np.log10(found) - low) / (high - low), 0, 1) * 255


@pytest.mark.parametrize(
    ("rate", "mels", "window", "hop", "size"), [(16000, 128, 400, 160, 1024), (8000, 40, 256, 128, 512)]
)
def test_values_equal_those_of_scipy(tmp_path, rate, mels, window, hop, size):
    samples = 0.4 * noise(0.3, rate) + 0.3 * sine(700, rate, 0.3)
    options = dict(sample_rate=rate, num_mels=mels, window=window, hop=hop, fft_size=size)
    found = read(tmp_path, wav(samples, rate), **options)["img"]
    stored = np.round(samples * 32767) / 32768
    expected = expected_spectrogram(stored, rate, mels, window, hop, size, -100, 0)
    assert found.shape == (*expected.shape, 1) and found.dtype == np.uint8
    assert np.abs(found[..., 0] - expected).max() < 0.51  # rounded to whole numbers


def test_a_sine_of_full_scale_has_0_decibels(tmp_path):
    centres = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 42)[1:-1] / 2595) - 1)
    for band in (20, 30, 38):
        image = read(tmp_path, wav(sine(centres[band])), num_mels=40)["img"][..., 0] / 2.55 - 100
        assert (image.argmax(axis=0) == band).all() and -2 < image[band].min() and image[band].max() <= 0
        quiet = read(tmp_path, wav(0.1 * sine(centres[band])), num_mels=40)["img"][..., 0] / 2.55 - 100
        np.testing.assert_allclose(image[band] - quiet[band], 20, atol=0.5)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 2])
def test_bits_and_channels(tmp_path, width, channels):
    samples = sine(1000)
    found = read(tmp_path, wav(np.repeat(samples, channels), width=width, channels=channels))
    expected = read(tmp_path, wav(samples))
    loud = expected["img"] > 150
    assert np.abs(found["img"][loud].astype(int) - expected["img"][loud]).max() <= 1 and loud.any()
    assert found["img_shape"] == found["ori_shape"] == (128, 98)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_other_sample_rates(tmp_path, rate):
    found = read(tmp_path, wav(0.5 * sine(1000, rate), rate))["img"]
    expected = read(tmp_path, wav(0.5 * sine(1000)))["img"]
    assert abs(found.shape[1] - 98) <= 1
    np.testing.assert_array_equal(found[:, 40, 0].argmax(), expected[:, 40, 0].argmax())


@pytest.mark.parametrize(("codec", "ending"), [("flac", ".flac"), ("libmp3lame", ".mp3"), ("libopus", ".ogg")])
def test_other_formats(tmp_path, codec, ending):
    path = tmp_path / f"a{ending}"
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray((sine(1000) * 16000).astype("<i2")[None], "s16", "mono")
        frame.sample_rate = RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            file.mux(packet)
    found = load()(dict(img_path=str(path)))["img"]
    expected = read(tmp_path, wav(sine(1000) / 2))["img"]
    assert abs(found.shape[1] - 98) <= 12 and found[:, 40].argmax() == expected[:, 40].argmax()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    if codec == "flac":
        with pytest.raises(ValueError, match=r"a\.flac is"):
            load()(dict(img_path=str(path)))


@pytest.mark.parametrize(("seconds", "width"), [(0.01, 1), (0.5, 48), (2.0, 198)])
def test_short_and_long_sounds_get_one_size(tmp_path, seconds, width):
    (tmp_path / "a.wav").write_bytes(wav(noise(seconds)))
    (tmp_path / "list.txt").write_text("a.wav 3\n")
    steps = [load()]
    assert steps[0](dict(img_path=str(tmp_path / "a.wav")))["img"].shape == (128, width, 1)
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        for crop in (
            dict(type="RandomCrop", crop_size=(128, 96), pad_if_needed=True),
            dict(type="CenterCrop", crop_size=(96, 128), auto_pad=True),
        ):
            pack = Compose([dict(type="maskfeat.LoadSpectrogram"), crop, dict(type="PackInputs")])
            packed = pack(dict(img_path=str(tmp_path / "a.wav"), gt_label=3))
            assert packed["inputs"].shape == (1, 128, 96)
            silent = (packed["inputs"] == 0).all(dim=1).sum()
            assert silent == max(0, 96 - width)


def test_damaged_files_are_named(tmp_path):
    whole = wav(noise())
    for content, reason in {
        b"": "is no sound file, or a broken one",
        b"abc" * 100: "is no sound file, or a broken one",
        whole[:20]: "is cut short",
        whole[:20000]: "is cut short: it has 20000 of 32044 bytes",
        wav([]): "holds no sound",
        whole[:24] + (8).to_bytes(4, "little") + whole[28:]: "is longer than max_seconds=600",
    }.items():
        with pytest.raises(ValueError, match=rf"a\.wav {reason}"):
            read(tmp_path, content)
    stream = whole[:4] + b"\xff" * 4 + whole[8:]  # of a program that did not know the length
    np.testing.assert_array_equal(read(tmp_path, stream)["img"], read(tmp_path, whole)["img"])


@settings(max_examples=60, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(0, 47), st.integers(0, 255)), min_size=1, max_size=4),
    length=st.one_of(st.just(1644), st.integers(0, 1644)),
)
def test_any_header(tmp_path_factory, changes, length):
    """A damaged header gives an image or an error that names the file, and never another error."""
    content = bytearray(wav(noise(0.1, 8000), 8000))
    for place, value in changes:
        content[place] = value
    path = tmp_path_factory.mktemp("fuzz") / "broken.wav"
    path.write_bytes(bytes(content[:length]))
    try:
        image = load(**SMALL)(dict(img_path=str(path)))["img"]
    except ValueError as error:
        assert "broken.wav" in str(error)
    else:
        assert image.dtype == np.uint8 and image.shape[0] == 40 and image.shape[2] == 1 and image.size


def test_damaged_files_are_left_out(tmp_path):
    for name, content in {"good.wav": wav(noise()), "bad.wav": wav(noise())[:9000]}.items():
        (tmp_path / "kind").mkdir(exist_ok=True)
        (tmp_path / "kind" / name).write_bytes(content)
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        dataset = DATASETS.build(
            dict(
                type="maskfeat.SkipBadFiles",
                dataset_type="maskfeat.ImageDataset",
                data_root=str(tmp_path),
                extensions=(".wav",),
                limit=0.5,
                list_file=str(tmp_path / "bad_files.txt"),
                pipeline=[dict(type="maskfeat.LoadSpectrogram"), dict(type="PackInputs")],
            )
        )
        samples = [dataset[0], dataset[1]]
    assert {str(s["data_samples"].img_path) for s in samples} == {str(tmp_path / "kind" / "good.wav")}
    assert "bad.wav is cut short" in (tmp_path / "bad_files.txt").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(num_mels=0), "num_mels must be a positive integer, got 0"),
        (dict(window=2000), "window=2000 must not be larger than fft_size=1024"),
        (dict(fft_size=400), r"of num_mels=128 bands have no frequency\. Raise fft_size=400"),
        (dict(decibels=(0, -80)), "two ascending numbers"),
        (dict(max_seconds=0), "max_seconds=0 must be positive"),
    ],
)
def test_wrong_settings(options, message):
    with pytest.raises(ValueError, match=f"LoadSpectrogram: .*{message}"):
        load(**options)
