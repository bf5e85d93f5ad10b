"""Videos of a scene that passes by."""

import struct

import av
import cv2
import numpy as np

SCENE = cv2.resize(np.random.default_rng(0).integers(0, 255, (9, 24, 3), dtype=np.uint8), (384, 144))
OTHER = cv2.resize(np.random.default_rng(1).integers(0, 255, (9, 24, 3), dtype=np.uint8), (384, 144))


def write_video(path, scene=SCENE, seconds=4.0, rate=25, size=(192, 144), codec="libx264", turn=0, moves=True, **form):
    """Write a video in which a scene, twice as wide as the picture, moves past or stands still."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = round(seconds * rate)
    with av.open(str(path), "w", options=form) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for i in range(count):
            shift = i * 192 // count if moves else 0
            picture = cv2.resize(np.ascontiguousarray(scene[:, shift : shift + 192]), size)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode())
    if turn:  # the display matrix of an mp4
        content, one, end = bytearray(path.read_bytes()), 1 << 16, 1 << 30
        place = content.find(struct.pack(">9i", one, 0, 0, 0, one, 0, 0, 0, end), content.find(b"tkhd"))
        x, y = {90: (0, one), 180: (-one, 0), 270: (0, -one)}[turn]
        content[place : place + 36] = struct.pack(">9i", x, y, 0, -y, x, 0, 0, 0, end)
        path.write_bytes(content)


def cut(source, path, share=0.6):
    content = source.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
