"""Decoding: times, uprightness, and everything that is no video or too much of one."""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from made_videos import turn, write_sound, write_video, write_wave
from poseline.errors import MediaDamaged, MediaError, MediaTooLarge, MediaTooLong, NoVideo, UnsupportedMedia
from poseline_video.media import LONG_SIDE, Picture, open_file
from poseline_video.wire import ExtractionLimits

LIMITS = ExtractionLimits()


def look(path: Path, limits: ExtractionLimits = LIMITS) -> list[Picture]:
    with open_file(path, limits) as video:
        return list(video.pictures())


def times(path: Path) -> list[float]:
    return [one.t for one in look(path)]


@pytest.mark.parametrize(
    ("name", "codec", "format_"),
    [
        ("a.mp4", "libx264", None),
        ("a.mov", "libx264", None),
        ("a.mkv", "libx264", None),
        ("a.webm", "libvpx-vp9", None),
        ("a.avi", "mpeg4", None),
        ("a.ts", "libx264", "mpegts"),
        ("misnamed.txt", "libx264", "mp4"),
        ("a.m3u8", "libx264", "mp4"),
    ],
)
def test_a_container_is_told_by_its_bytes(tmp_path: Path, name: str, codec: str, format_: str | None) -> None:
    pictures = look(write_video(tmp_path / name, 20, codec=codec, format_=format_))
    assert [one.t for one in pictures] == pytest.approx([i / 30 for i in range(20)], abs=1.1e-3)
    assert {one.rgb.shape for one in pictures} == {(48, 64, 3)}
    red = pictures[0].rgb[:20, :28].reshape(-1, 3).mean(axis=0)
    assert red[0] > 150 > 80 > red[2]


def test_times_are_the_containers_own(tmp_path: Path) -> None:
    irregular = [0.5, 0.51, 0.6, 1.0, 1.033, 2.5, 2.501]
    found = times(write_video(tmp_path / "a.mp4", irregular))
    assert found == pytest.approx([t - 0.5 for t in irregular], abs=1e-4)


def test_avi_has_no_presentation_times(tmp_path: Path) -> None:
    """With pictures that are decoded before they are shown, its times would jump."""
    path = write_video(tmp_path / "a.avi", 40, options={"bf": "3", "g": "20"})
    found = times(path)
    assert len(found) == 40
    assert np.diff(found) == pytest.approx(np.full(39, 1 / 30), abs=1e-6)


def test_no_picture_of_a_real_avi_is_lost(clip: Callable[[str], Path]) -> None:
    assert len(times(clip("ntu_A001_drink_water.avi"))) == 103


@pytest.mark.parametrize(("degrees", "corner"), [(90, (0, -1)), (180, (-1, -1)), (270, (-1, 0))])
def test_pictures_are_upright(tmp_path: Path, degrees: int, corner: tuple[int, int]) -> None:
    """The red quarter is in the upper left before it is turned clockwise."""
    rgb = look(turn(write_video(tmp_path / "a.mp4", 3), degrees))[0].rgb
    assert rgb.shape == ((64, 48, 3) if degrees % 180 else (48, 64, 3))
    quarters = {(y, x): rgb[y * 8, x * 8, 0] > 150 for y in (0, -1) for x in (0, -1)}
    assert [place for place, red in quarters.items() if red] == [corner]
    assert rgb.flags.c_contiguous


def test_pixels_that_are_not_square_are_made_so(tmp_path: Path) -> None:
    assert look(write_video(tmp_path / "a.mkv", 3, aspect=Fraction(2, 1)))[0].rgb.shape == (48, 128, 3)
    assert look(write_video(tmp_path / "b.mkv", 3, aspect=Fraction(1, 2)))[0].rgb.shape == (96, 64, 3)


def test_large_pictures_are_scaled_down(tmp_path: Path) -> None:
    assert look(write_video(tmp_path / "a.mp4", 2, (1920, 1080)))[0].rgb.shape == (LONG_SIDE * 9 // 16, LONG_SIDE, 3)


# --- what is no video --------------------------------------------------------------------------------------------


def _png(path: Path) -> None:
    Image.new("RGB", (8, 8)).save(path, "png")


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("a.mp4", b"x" * 5000)


NOT_VIDEOS: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("hello " * 1000),
    "noise": lambda path: path.write_bytes(np.random.default_rng(0).bytes(100_000)),
    "playlist": lambda path: path.write_text("#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"),
    "concat": lambda path: path.write_text("ffconcat version 1.0\nfile /etc/passwd\n"),
    "sdp": lambda path: path.write_text("v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n"),
    "dash": lambda path: path.write_text('<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>'),
    "subtitles": lambda path: path.write_text("WEBVTT\n\n00:00.000 --> 00:01.000\nhi\n"),
    "png": _png,
    "zip": _zip,
    "elf": lambda path: path.write_bytes(b"\x7fELF" + bytes(5000)),
    "wave": write_wave,
}


@pytest.mark.parametrize("kind", NOT_VIDEOS)
def test_what_is_no_video_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "video.mp4"
    NOT_VIDEOS[kind](path)
    with pytest.raises(UnsupportedMedia, match="no MP4"):
        look(path)


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    for path in (tmp_path / "pipe.mp4", tmp_path, Path("/dev/zero")):
        with pytest.raises(UnsupportedMedia, match="no regular file"):
            look(path)
    for name in ("concat:a.mp4|b.mp4", "file:a", "pipe:0", "-", "http:"):
        with pytest.raises(UnsupportedMedia, match="no file"):
            look(tmp_path / name)


def test_a_codec_that_is_not_on_the_list(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedMedia, match="codec is ffv1"):
        look(write_video(tmp_path / "a.mkv", 3, codec="ffv1"))


def test_sound_alone(tmp_path: Path) -> None:
    with pytest.raises(NoVideo):
        look(write_sound(tmp_path / "a.mp4"))


# --- what is broken ----------------------------------------------------------------------------------------------


def test_a_file_that_was_cut_off(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "a.mp4", 300).read_bytes()
    (tmp_path / "a.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MediaDamaged):  # its index stood at the end
        look(tmp_path / "a.mp4")
    fast = _with_index_first(write_video(tmp_path / "b.mp4", 300))
    fast.write_bytes(fast.read_bytes()[: fast.stat().st_size * 2 // 3])
    with pytest.raises(MediaDamaged):
        look(fast)


def test_an_avi_that_was_cut_off(tmp_path: Path) -> None:
    """The library makes its duration fit what is left; the header still says how many pictures there were."""
    path = write_video(tmp_path / "a.avi", 600, codec="mpeg4")
    assert len(look(path)) == 600
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MediaDamaged, match="of 20"):
        look(path)


def test_a_cut_transport_stream_cannot_be_told_from_a_whole_one(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.ts", 600, format_="mpegts")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert 100 < len(look(path)) < 600


def _with_index_first(path: Path) -> Path:
    moved = path.with_name("moved.mp4")
    with av.open(str(path)) as source, av.open(str(moved), "w", options={"movflags": "faststart"}) as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    return moved


def test_a_broken_place_is_passed_over(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.ts", 120, (320, 240), format_="mpegts", options={"g": "10"})
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = np.random.default_rng(0).bytes(2000)
    path.write_bytes(data)
    found = times(path)
    assert 80 < len(found) <= 120
    assert found[-1] == pytest.approx(119 / 30, abs=0.05)
    assert (np.diff(found) > 0).all()


@pytest.mark.parametrize("seed", range(8))
def test_damage_anywhere_is_an_error_of_ours_or_none(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    path = write_video(tmp_path / "a.mp4", 40, options={"g": "8"})
    data = bytearray(path.read_bytes())
    for at in rng.integers(8, len(data), 40):
        data[at] = rng.integers(256)
    path.write_bytes(data)
    try:
        found = look(path)
    except MediaError:
        return
    assert (np.diff([one.t for one in found]) > 0).all()


# --- what is too much --------------------------------------------------------------------------------------------


def test_too_many_bytes(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 30)
    with pytest.raises(MediaTooLarge, match="at most 1000"):
        look(path, ExtractionLimits(bytes=1000))


def test_too_many_pixels(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 1, (4608, 2592), options={"preset": "ultrafast"})
    with pytest.raises(MediaTooLarge, match="4608 x 2592"):
        look(path)
    portrait = write_video(tmp_path / "b.mp4", 1, (2304, 4096), options={"preset": "ultrafast"})
    assert len(look(portrait)) == 1


def test_a_header_that_claims_a_gigapixel(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", 5, codec="mpeg4")
    data = bytearray(path.read_bytes())
    at = data.index(b"strf") + 8 + 4  # the bitmap header's width and height
    data[at : at + 8] = struct.pack("<ii", 16384, 16384)
    path.write_bytes(data.replace(b"\x00\x00\x01\x20", b"\x00\x00\x01\xb2"))  # nothing else may tell its size
    with pytest.raises(MediaError):
        look(path)


def test_pictures_that_grow_in_midstream(tmp_path: Path) -> None:
    small = write_video(tmp_path / "small.ts", 30, (64, 48), format_="mpegts").read_bytes()
    large = write_video(tmp_path / "large.ts", 30, (256, 192), format_="mpegts").read_bytes()
    path = tmp_path / "both.ts"
    path.write_bytes(small + large)
    with pytest.raises((MediaTooLarge, MediaDamaged)):
        look(path, ExtractionLimits(pixels=(128, 128)))


def test_too_long_by_claim_and_by_count(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 90)
    with pytest.raises(MediaTooLong, match="2 s"):
        look(path, ExtractionLimits(seconds=2))
    with pytest.raises(MediaTooLong, match="50 pictures"):
        look(path, ExtractionLimits(frames=50))
    silent = write_video(tmp_path / "a.ts", 90, format_="mpegts")
    with open_file(silent, ExtractionLimits(seconds=4, frames=50)) as video:
        assert video.frames is None
        with pytest.raises(MediaTooLong, match="50 pictures"):
            list(video.pictures())


def test_times_that_leap(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", [0.0, 0.033, 90_000.0])
    with pytest.raises(MediaTooLong):
        look(path)


def test_a_million_pictures_claimed(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 20)
    data = bytearray(path.read_bytes())
    at = data.index(b"stsz") + 4 + 4
    data[at : at + 8] = struct.pack(">II", 1, 1_000_000)
    path.write_bytes(data)
    with pytest.raises(MediaError):
        look(path)
