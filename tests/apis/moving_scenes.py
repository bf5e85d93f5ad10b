"""Videos of a scene that passes by."""

import av
import cv2
import numpy as np

SCENE = cv2.resize(np.random.default_rng(0).integers(0, 255, (9, 24, 3), dtype=np.uint8), (384, 144))
OTHER = cv2.resize(np.random.default_rng(1).integers(0, 255, (9, 24, 3), dtype=np.uint8), (384, 144))


def write_video(path, scene=SCENE, seconds=4.0, rate=25, size=(192, 144), codec="libx264", turn=0, moves=True, **form):
    """A video in which a scene twice as wide as the picture passes, or stands still."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = round(seconds * rate)
    with av.open(str(path), "w", options=form) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        if turn:
            stream.set_display_rotation(turn)
        for i in range(count):
            shift = i * 192 // count if moves else 0
            picture = cv2.resize(np.ascontiguousarray(scene[:, shift : shift + 192]), size)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode())


def cut(source, path, share=0.6):
    content = source.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
